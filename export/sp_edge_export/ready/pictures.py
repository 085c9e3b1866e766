"""The pictures that a ready-made network is tried on: a user's folder, or crops of the photographs that come with sp-edge."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sp_edge.data.folder import labelled
from sp_edge.data.pictures import PictureSet
from sp_edge.errors import DataError, ImageError
from sp_edge.photographs import photographs
from sp_edge.preprocess import Preprocess
from sp_edge_calibration.pictures import MINIMUM, Pictures

_log = logging.getLogger(__name__)
VIEWS = 16  # of each photograph, on which a conversion is tried
FEW_VIEWS = 4  # where nothing is converted
LEAST_SIDE = 0.6  # share of the shorter side that a crop keeps at least
MOST = 2000  # pictures of a folder


def of_folder(folder: Path, preprocess: Preprocess) -> PictureSet:
    """The pictures of FOLDER/<class>/ that can be read, at most 2000, evenly spread, and the classes that have one.

    Raises:
        DataError: fewer than two classes with three pictures that can be read, or what `labelled` refuses.
    """
    listing = labelled(folder)
    for note in listing.notes:
        _log.info(note)
    rows = np.unique(np.linspace(0, len(listing) - 1, min(MOST, len(listing))).round().astype(int))
    images, kept = [], []
    for row in rows.tolist():
        try:
            images.append(preprocess(listing.read(row)))
            kept.append(row)
        except ImageError as error:  # noqa: PERF203
            _log.warning(f"left out: {error.what}, {error.got}")
    labels = listing.labels[kept]
    if (np.bincount(labels) >= 3).sum() < 2:
        raise DataError(
            f"too few pictures in {folder} to try the network on",
            expected="two classes with three pictures",
            got=f"{len(kept)} pictures of {len(listing.class_names)} classes",
        )
    of, labels = np.unique(labels, return_inverse=True)
    names = tuple(listing.class_names[row] for row in of)  # of some classes there may be no picture left
    return PictureSet(np.stack(images), labels.astype(np.int64), names, {"all": np.arange(len(kept))})


def of_photographs(preprocess: Preprocess, views: int = VIEWS) -> PictureSet:
    """Crops of the photographs that come with sp-edge, some mirrored; each photograph is a class. Always the same ones."""
    rng = np.random.default_rng(0)
    shown = photographs()
    images = [preprocess(_crop(photograph.read(), rng)) for photograph in shown for _ in range(views)]
    labels = np.repeat(np.arange(len(shown)), views)
    names = tuple(photograph.name for photograph in shown)
    return PictureSet(np.stack(images), labels, names, {"all": np.arange(len(images))})


def _crop(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    side = int(min(height, width) * rng.uniform(LEAST_SIDE, 1))
    top, left = (int(rng.integers(0, length - side + 1)) for length in (height, width))
    crop = image[top : top + side, left : left + side]
    return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


def calibration_pictures(folder: Path | None, pictures: PictureSet, preprocess: Preprocess) -> Pictures:
    """What a conversion chooses its ranges by: all pictures in and below a folder, or else `pictures`."""
    if folder is not None:
        return Pictures.read(folder, preprocess)
    if len(pictures) < MINIMUM:
        raise DataError("too few calibration pictures", expected=f"at least {MINIMUM}", got=str(len(pictures)))
    files = tuple(Path(f"{pictures.class_names[label]}-{row}") for row, label in enumerate(pictures.labels))
    return Pictures(Path("photographs of sp-edge"), pictures.images, files, len(files), {})
