"""Reads every picture of a data set and says what is wrong with it, before a training run stumbles over it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sp_edge.columns import counted
from sp_edge.data.listing import Listing, Source
from sp_edge.errors import DataError, ImageError
from sp_edge.prompts.spelling import spelled_alike

TINY = 32  # pixels; a shorter side below it says little once it is enlarged
NEAR = 6  # bits of 128 in which the hashes of two versions of one picture differ at most


@dataclass(frozen=True)
class SplitCount:
    """How much one split holds; `fewest` and `most` are readable pictures of a class."""

    split: str
    classes: int
    pictures: int
    fewest: int
    most: int
    broken: int
    tiny: int


@dataclass(frozen=True)
class Twin:
    """A picture that stands in an earlier split, too, so that what is learned there is asked here.

    Attributes:
        bits: how many of the hashes' 128 bits differ; 0 for the same pixels.
    """

    picture: str
    twin: str
    bits: int


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        splits: a count for each.
        broken: picture -> why it cannot be read.
        tiny: picture -> its width and height, pixels.
        too_few: what the protocol cannot use, a sentence each.
        duplicates: the same pixels in two splits.
        near: two versions of one picture in two splits, as far as their hashes tell.
        names: classes whose names are spellings of one name, with their splits. If they are one class, one split asks what
            another one teaches.
        notes: how the files were chosen, a sentence each.
        left_out: file -> why it was not taken, though it may have been meant.
    """

    splits: tuple[SplitCount, ...]
    broken: Mapping[str, str]
    tiny: Mapping[str, tuple[int, int]]
    too_few: tuple[str, ...]
    duplicates: tuple[Twin, ...]
    near: tuple[Twin, ...]
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Whether training and evaluation can use all of it. Twins and spellings flatter the figures, but stop nothing."""
        return not self.broken and not self.too_few

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {"usable": self.usable, **dataclasses.asdict(self)}


@dataclass(frozen=True)
class Need:
    """What a protocol asks of a split: classes, and pictures of each."""

    classes: int
    pictures: int


def check(source: Source, needs: Mapping[str, Need], *, progress: bool = False) -> Report:
    """Reads every picture of every split.

    Args:
        needs: of each split.

    Raises:
        DataError: there is no split, or a class is not where it should be.
    """
    if not source.splits:
        raise DataError("the data set has no split", expected="train/, val/ or test/", got="none of them")
    counts: list[SplitCount] = []
    broken: dict[str, str] = {}
    tiny: dict[str, tuple[int, int]] = {}
    too_few: list[str] = []
    good: list[tuple[int, str, _Seen]] = []
    names: dict[str, str] = {}
    notes: list[str] = []
    left_out: dict[str, str] = {}
    for part, split in enumerate(source.splits):
        listing = source.listing(split)
        seen = list(listing.each(partial(_look, listing), progress=progress))
        failed = {listing.pictures[row]: one for row, one in enumerate(seen) if isinstance(one, str)}
        read = {row: one for row, one in enumerate(seen) if isinstance(one, _Seen)}
        small = {listing.pictures[row]: one.size for row, one in read.items() if min(one.size) < TINY}
        per_class = np.bincount(listing.labels[list(read)], minlength=len(listing.class_names))
        counts.append(
            SplitCount(split, len(per_class), len(listing), int(per_class.min()), int(per_class.max()), len(failed), len(small))
        )
        names |= dict.fromkeys(listing.class_names, split)
        too_few += _too_few(split, listing, per_class, needs[split])
        notes += listing.notes
        left_out |= listing.left_out
        broken |= failed
        tiny |= small
        good += [(part, listing.pictures[row], one) for row, one in read.items()]
    duplicates, near = _twins(good)
    alike = tuple(" and ".join(f"'{name}' ({names[name]})" for name in group) for group in spelled_alike(names))
    return Report(tuple(counts), broken, tiny, tuple(too_few), duplicates, near, alike, tuple(notes), left_out)


@dataclass(frozen=True, eq=False)
class _Seen:
    """What is kept of a picture: its size (width, height), a digest of its pixels, and its hash, uint8 (16,)."""

    size: tuple[int, int]
    digest: bytes
    hash: NDArray[np.uint8]


def _look(listing: Listing, row: int) -> _Seen | str:
    """What is kept of a picture, or why it cannot be read."""
    try:
        image = listing.read(row)
    except ImageError as error:
        return error.got or error.what
    digest = hashlib.blake2b(image.tobytes(), digest_size=16, key=str(image.shape).encode()).digest()
    return _Seen((image.shape[1], image.shape[0]), digest, difference_hash(image))


def difference_hash(image_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Which of its neighbours in a 9x9 grey copy each of 8x8 cells is darker than: to the right, then below.

    Args:
        image_rgb: uint8 (H, W, 3).

    Returns:
        uint8 (16,), 128 bits. Versions of one picture (another size or compression, a little brighter) differ in few of
        them, and different pictures in about half.
    """
    grey = np.asarray(Image.fromarray(image_rgb).convert("L").resize((9, 9), Image.Resampling.BILINEAR))
    cells = grey[:8, :8]
    return np.packbits(np.concatenate([grey[:8, 1:] > cells, grey[1:, :8] > cells]).ravel())


def _too_few(split: str, listing: Listing, per_class: NDArray[np.int64], need: Need) -> list[str]:
    lacking = [
        f"{split}: '{name}' has {counted(count, 'picture')}, and an episode takes {need.pictures}"
        for name, count in zip(listing.class_names, per_class, strict=True)
        if count < need.pictures
    ]
    if len(per_class) < need.classes:
        lacking.append(f"{split}: {counted(len(per_class), 'class')}, and an episode takes {need.classes}")
    return lacking


def _twins(good: list[tuple[int, str, _Seen]]) -> tuple[tuple[Twin, ...], tuple[Twin, ...]]:
    """Each picture's twin in an earlier split: with the same pixels, or else the nearest hash."""
    first: dict[bytes, int] = {}
    same: dict[int, int] = {}
    for row, (part, _, seen) in enumerate(good):
        twin = first.setdefault(seen.digest, row)
        if good[twin][0] < part:
            same[row] = twin
    parts = np.array([part for part, _, _ in good], dtype=np.int64)
    hashes = np.array([seen.hash for _, _, seen in good], dtype=np.uint8).reshape(-1, 16)
    near = {row: found for row, found in nearest_before(hashes, parts).items() if row not in same}
    return (
        tuple(Twin(good[row][1], good[twin][1], 0) for row, twin in same.items()),
        tuple(Twin(good[row][1], good[twin][1], bits) for row, (twin, bits) in sorted(near.items())),
    )


def nearest_before(hashes: NDArray[np.uint8], parts: NDArray[np.int64]) -> dict[int, tuple[int, int]]:
    """For each row, the row of an earlier part whose hash is nearest, where they differ in at most `NEAR` bits.

    Only hashes that agree in one of their four quarters are compared, since all pairs would be too many: this finds every
    pair that differs in 3 bits or fewer, and most of those up to `NEAR`.

    Args:
        hashes: uint8 (n, 16).
        parts: int64 (n,), ascending.

    Returns:
        row -> (earlier row, bits that differ).
    """
    found: dict[int, tuple[int, int]] = {}
    if len(hashes) == 0:
        return found
    for keys in np.ascontiguousarray(hashes).view(np.uint32).T:
        order = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.concatenate([[True], keys[order][1:] != keys[order][:-1]]))
        ends = np.append(starts[1:], len(order))
        # Rows ascend within a group, and so do their parts: a group whose ends are of one part has no pair.
        across = parts[order[starts]] != parts[order[ends - 1]]
        for start, end in zip(starts[across], ends[across], strict=True):
            group = order[start:end]
            for row in group[parts[group] > parts[group[0]]]:
                earlier = group[parts[group] < parts[row]]
                bits = np.unpackbits(hashes[earlier] ^ hashes[row], axis=1).sum(axis=1)
                best = int(bits.argmin())
                if bits[best] <= NEAR and (int(row) not in found or bits[best] < found[int(row)][1]):
                    found[int(row)] = (int(earlier[best]), int(bits[best]))
    return found
