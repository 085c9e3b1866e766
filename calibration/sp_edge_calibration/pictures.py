"""Chooses the pictures that a graph is calibrated with from a folder, and judges whether they are fit for it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.errors import DataError, ImageError
from sp_edge.matching.decide import unit
from sp_edge.picture_files import pictures_in
from sp_edge.pictures import load_image
from sp_edge.preprocess import Preprocess

_log = logging.getLogger(__name__)
MINIMUM = 16
RECOMMENDED = 100
CHOSEN = 128
CANDIDATES = 1000  # read of a larger folder, evenly spread over its files
# Typical distance of a picture to the nearest known one, in that of the known ones among each other.
FAR = 3.0
# Spread of the pictures' features, in that of the known ones, below which they show nothing.
ALIKE = 0.1


@dataclass(frozen=True, eq=False)
class Pictures:
    """What a folder holds.

    Attributes:
        folder: where they are.
        images: uint8 (n, H, W, 3) RGB, preprocessed.
        files: n paths.
        found: how many files there were; `images` are a part of them where they are too many.
        unreadable: file -> why it cannot be read.
    """

    folder: Path
    images: NDArray[np.uint8]
    files: tuple[Path, ...]
    found: int
    unreadable: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path, preprocess: Preprocess) -> Pictures:
        """Reads the pictures in and below a folder, at most 1000, evenly spread.

        Raises:
            DataError: no such folder, or fewer than 16 readable pictures in it.
        """
        if not folder.is_dir():
            raise DataError(f"no folder {folder}", expected="a folder with pictures")
        chosen = pictures_in(folder)
        if note := chosen.told(folder):
            _log.info(note)
        found = chosen.files
        rows = np.unique(np.linspace(0, len(found) - 1, min(CANDIDATES, len(found))).round().astype(int))
        images, files, unreadable = [], [], {}
        for file in (found[row] for row in rows):
            try:
                images.append(preprocess(load_image(file)))
                files.append(file)
            except ImageError as error:  # noqa: PERF203
                unreadable[str(file)] = error.got or error.what
        if len(images) < MINIMUM:
            raise DataError(
                "too few calibration pictures",
                expected=f"at least {MINIMUM}; {RECOMMENDED} or more, like those the camera will see, are better",
                got=f"{len(images)} in {folder}" + (f", and {len(unreadable)} unreadable files" if unreadable else ""),
                next_step="--data FOLDER with more pictures",
            )
        return cls(folder, np.stack(images), tuple(files), len(found), unreadable)


@dataclass(frozen=True, eq=False)
class Calibration:
    """The pictures that were chosen.

    Attributes:
        images: uint8 (n, H, W, 3) RGB, preprocessed.
        record: how they were chosen, as the manifest has it: folder, counts, sha256 of the pictures in their order, and how
            far they are from the known ones.
    """

    images: NDArray[np.uint8]
    record: dict[str, Any]


def calibrate_with(pictures: Pictures, features: NDArray[np.float32], known: NDArray[np.float32]) -> Calibration:
    """Chooses at most 128 pictures that cover the folder's variety, and judges them: what the user should know is logged.

    Args:
        features: float32 (n, D), of the pictures.
        known: float32 (m, D) features of pictures that the network is known to be good at.

    Raises:
        DataError: the pictures show next to nothing, such as black frames or noise.
    """
    features = unit(features)
    chosen = k_centre(features, CHOSEN)
    spread = _spread(features) / max(_spread(unit(known)), 1e-6)
    distance = farness(features, unit(known))
    if not spread >= ALIKE:  # so that NaN does not pass
        raise DataError(
            f"the pictures in {pictures.folder} all look alike to the network",
            expected="pictures of different things, like those the camera will see",
            got=f"features spread over {100 * spread:.1f} % of what validation pictures spread over",
        )
    if pictures.unreadable:
        _log.warning(
            f"{len(pictures.unreadable)} of {pictures.found} files cannot be read, such as {next(iter(pictures.unreadable))}"
        )
    if len(pictures.files) + len(pictures.unreadable) < pictures.found:
        _log.info(f"{pictures.found} pictures are more than needed: every {pictures.found / CANDIDATES:.1f}th was read")
    if len(pictures.images) < RECOMMENDED:
        _log.warning(f"{len(pictures.images)} calibration pictures are few; {RECOMMENDED} or more are better")
    if distance > FAR:
        _log.warning(
            f"the pictures in {pictures.folder} are of another kind than the validation pictures, "
            f"{distance:.1f} times as far from them as those are from each other; is this what the camera will see?"
        )
    images = pictures.images[chosen]
    record = {
        "folder": str(pictures.folder),
        "found": pictures.found,
        "unreadable": len(pictures.unreadable),
        "chosen": len(chosen),
        "sha256": hashlib.sha256(images.tobytes()).hexdigest(),
        "distance": round(distance, 3),
        "spread": round(spread, 3),
    }
    return Calibration(images, record)


def k_centre(features: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Indices of `count` rows that leave no row far from the nearest of them.

    The greedy 2-approximation of Gonzalez (1985): each next one is the row farthest from those chosen so far.

    Args:
        features: float32 (n, D), of length one.

    Returns:
        int64 (min(n, count),), in ascending order.
    """
    if len(features) <= count:
        return np.arange(len(features))
    # The first is the one nearest to the mean, so that the choice depends on nothing but the pictures.
    chosen = [int((features @ features.mean(axis=0)).argmax())]
    nearest = features @ features[chosen[0]]
    while len(chosen) < count:
        nearest[chosen[-1]] = np.inf
        chosen.append(int(nearest.argmin()))
        nearest = np.maximum(nearest, features @ features[chosen[-1]])
    return np.sort(np.array(chosen, np.int64))


def farness(features: NDArray[np.float32], known: NDArray[np.float32]) -> float:
    """Median cosine distance of features to the nearest known one, divided by that of the known ones to each other.

    Both are float32 (n, D), of length one.
    """
    own = known @ known.T
    np.fill_diagonal(own, -1)
    usual = np.median(1 - own.max(axis=1))
    return float(np.median(1 - (features @ known.T).max(axis=1)) / max(usual, 1e-6))


def _spread(features: NDArray[np.float32]) -> float:
    """Mean squared distance of rows of length one to their mean."""
    return float(1 - np.square(features.mean(axis=0, dtype=np.float64)).sum())
