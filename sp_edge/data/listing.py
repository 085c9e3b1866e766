"""What a split of a data set holds, before a picture of it is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sp_edge.errors import DataError
from sp_edge.picture_files import Found
from sp_edge.pictures import load_image

SPLITS = ("train", "val", "test")
_AHEAD = 512  # pictures that are read before somebody takes them, at most
_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class Listing:
    """One split, class by class.

    Attributes:
        title: the data set, its split and its place, which tell it from every other.
        class_names: distinct clean names; a class may have no pictures.
        labels: int64 (n,), ascending index into `class_names`.
        pictures: (n,) where each picture is, as a user finds it.
        stamps: (n,) what changes when a picture does: its file's size in bytes and time of change in nanoseconds.
        read: number of a picture -> uint8 (H, W, 3) RGB of any size; raises ImageError where it cannot.
        notes: what the user should know of how the files were chosen, a sentence each.
        left_out: file -> why it was not taken, though it may have been meant.
    """

    title: str
    class_names: tuple[str, ...]
    labels: NDArray[np.int64]
    pictures: tuple[str, ...]
    stamps: tuple[tuple[int, int], ...]
    read: Callable[[int], NDArray[np.uint8]]
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.pictures)

    def each(self, work: Callable[[int], _T], *, progress: bool = False) -> Generator[_T, None, None]:
        """What `work` makes of each picture's number, in order; several threads call it."""
        with (
            ThreadPoolExecutor() as pool,
            tqdm(total=len(self), desc=self.title, disable=not progress or None, leave=False) as bar,
        ):
            for start in range(0, len(self), _AHEAD):
                for made in pool.map(work, range(start, min(start + _AHEAD, len(self)))):
                    yield made
                    bar.update()

    @classmethod
    def of_found(cls, title: str, where: Path, classes: Mapping[str, Found], notes: Sequence[str] = ()) -> Listing:
        """Lists what was found of each class below a folder.

        Raises:
            DataError: a file is not there.
        """
        every = Found.of(classes.values())
        return dataclasses.replace(
            cls.of_files(title, {name: found.files for name, found in classes.items()}),
            notes=(*notes, *filter(None, [every.told(where)])),
            left_out={str(file): why for file, why in every.left_out.items()},
        )

    @classmethod
    def of_files(cls, title: str, classes: Mapping[str, Sequence[Path]]) -> Listing:
        """Lists the files of each class.

        Raises:
            DataError: a file is not there.
        """
        files = [file for pictures in classes.values() for file in pictures]
        labels = np.repeat(np.arange(len(classes)), [len(pictures) for pictures in classes.values()])
        try:
            stamps = tuple((found.st_size, found.st_mtime_ns) for found in (file.stat() for file in files))
        except (OSError, ValueError) as cause:  # ValueError: a null byte in a listed name
            raise DataError(f"a picture of {title} is not there", expected="a file that can be read", got=str(cause)) from cause
        return cls(title, tuple(classes), labels, tuple(map(str, files)), stamps, lambda row: load_image(files[row]))


class ClassSplit:
    """A benchmark, as far as it is a division of classes; the sources of the benchmarks add where the pictures lie.

    Args:
        title: the benchmark's.
        root: holds the pictures.
        classes: split -> folder, or CIFAR-100's word for a class -> class name.
    """

    splits = SPLITS

    def __init__(self, title: str, root: Path, classes: Mapping[str, Mapping[str, str]]) -> None:
        self._title, self._root, self._classes = title, root, classes

    def class_names(self, split: str) -> tuple[str, ...]:
        """Of one split."""
        return tuple(self._classes[split].values())


class Source(Protocol):
    """A data set that is not drawn but read."""

    @property
    def splits(self) -> tuple[str, ...]:
        """Those of train, val and test that there are."""

    def class_names(self, split: str) -> tuple[str, ...]:
        """Of one split, without looking at a picture."""

    def listing(self, split: str) -> Listing:
        """What one split holds.

        Raises:
            DataError: it does not hold what it should.
        """
