"""Reads CIFAR-100, of which CIFAR-FS and FC100 are divisions by class."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from sp_edge.data.listing import ClassSplit, Listing
from sp_edge.errors import DataError
from sp_edge.files import locked

URL = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
FOLDER = "cifar-100-python"


class CifarSource(ClassSplit):
    """A benchmark whose classes are CIFAR-100's: 600 pictures each, 500 from its training file and 100 from its test file.

    Its root holds `cifar-100-python/`, or gets it.
    """

    def listing(self, split: str) -> Listing:
        """What one split holds; the whole of CIFAR-100 (184 MB) stays in memory as long as the listing does.

        Raises:
            DataError: it is not there and cannot be downloaded.
        """
        parts = [_open(self._root, train=train) for train in (True, False)]
        images = np.concatenate([part.data for part in parts])
        targets = np.concatenate([part.targets for part in parts])
        rows = [np.flatnonzero(targets == parts[0].class_to_idx[word]) for word in self._classes[split]]
        every = np.concatenate(rows)
        folder = self._root / FOLDER
        first = len(parts[0].data)
        files = [folder / "train" if row < first else folder / "test" for row in every]
        found = {file: file.stat() for file in dict.fromkeys(files)}
        return Listing(
            f"{split} of {self._title} in {self._root.resolve()}",
            self.class_names(split),
            np.repeat(np.arange(len(rows)), [len(r) for r in rows]),
            tuple(f"{file}, row {row if row < first else row - first}" for file, row in zip(files, every, strict=True)),
            tuple((found[file].st_size, found[file].st_mtime_ns) for file in files),
            lambda number: images[every[number]],
        )


def _open(root: Path, *, train: bool) -> Any:
    """The reader of torchvision. It unpickles the files, and so it checks first that their MD5 sums are the original's."""
    from torchvision.datasets import CIFAR100

    try:
        return CIFAR100(str(root), train=train)
    except RuntimeError:  # not there, or not the original
        pass
    try:
        with locked(root / FOLDER), Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            return CIFAR100(str(root), train=train, download=True)
    except (OSError, RuntimeError) as cause:
        raise DataError(
            f"CIFAR-100 is not in {root}, and could not be downloaded",
            expected=f"{root / FOLDER} with the files train, test and meta",
            got=str(cause),
            next_step=f"unpack {URL} in {root}",
        ) from cause
