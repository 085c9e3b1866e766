"""The value that data sources produce and training consumes: pictures with labels and class names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sp_edge.errors import DataError


@dataclass(frozen=True, eq=False)
class PictureSet:
    """One split of a data set.

    Attributes:
        images: uint8 (n, H, W, 3) RGB, preprocessed to one size; in memory, or mapped into it from a file.
        labels: int64 (n,), index into `class_names`.
        class_names: distinct names, one a class.
        groups: named subsets as index arrays, such as 'clutter' and 'clean'; figures are reported for each.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    groups: Mapping[str, NDArray[np.int64]]

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[-1] != 3:
            got = f"{self.images.dtype} {self.images.shape}"
            raise DataError("pictures of the wrong form", expected="uint8 (n, H, W, 3)", got=got)
        if self.labels.shape != (len(self.images),):
            raise DataError("labels do not match the pictures", expected=f"({len(self.images)},)", got=str(self.labels.shape))
        if not set(np.unique(self.labels).tolist()) <= set(range(len(self.class_names))):
            got = f"{self.labels.min()} to {self.labels.max()}"
            raise DataError("a label has no class name", expected=f"0 to {len(self.class_names) - 1}", got=got)
        if len(set(self.class_names)) != len(self.class_names):
            twice = sorted({n for n in self.class_names if self.class_names.count(n) > 1})
            raise DataError("two classes have one name", expected="distinct class names", got=", ".join(twice))

    def __len__(self) -> int:
        return len(self.images)

    def only(self, group: str) -> PictureSet:
        """The pictures of one group, as a set of its own; 'all' is every group."""
        if group == "all":
            return self
        if group not in self.groups:
            raise DataError("no such group of pictures", expected=", ".join(self.groups), got=group)
        chosen = self.groups[group]
        return PictureSet(
            self.images[chosen], self.labels[chosen], self.class_names, {group: np.arange(len(chosen), dtype=np.int64)}
        )
