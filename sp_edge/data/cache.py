"""Keeps pictures as the network takes them in files that are mapped into memory, so that each is decoded only once.

A file of the cache is called SLOT-KEY.npy: SLOT stands for the data set, split and preprocessing, KEY for every picture's
place, size and time of change. A change of any picture asks for another KEY, whose file then replaces the slot's old one.
A file has its name only once it is whole.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import PIL
from numpy.lib import format as npy
from numpy.typing import NDArray

from sp_edge.arrays import array_file, is_full
from sp_edge.data.listing import Listing
from sp_edge.errors import DataError, ImageError
from sp_edge.files import cache_folder, locked, write_json
from sp_edge.preprocess import Preprocess

SCHEMA = 2  # to be raised when `load_image` or `Preprocess` come to other pixels


def default_folder() -> Path:
    """The platform's folder for what can be made again, such as ~/.cache/sp-edge/pictures; XDG_CACHE_HOME moves it.

    Raises:
        DataError: the user has no home folder.
    """
    return cache_folder("pictures", DataError, next_step="--set data.cache=DIR")


def prepared(listing: Listing, preprocess: Preprocess, folder: Path, *, progress: bool = False) -> NDArray[np.uint8]:
    """Every picture of a split, preprocessed; from the cache in `folder`, which is filled first where it has to be.

    Of several processes that want the same, one fills the cache and the others wait.

    Returns:
        uint8 (n, image_size, image_size, 3) RGB, mapped from the file. Writing to it changes this process's copy alone.

    Raises:
        DataError: the cache cannot be written, or has no room.
        ImageError: pictures that cannot be read; all of them are named at once.
    """
    shape = (len(listing), preprocess.image_size, preprocess.image_size, 3)
    slot = _digest(listing.title, preprocess.to_json())
    # Pillow counts, too: another release may decode or resize by other arithmetic.
    key = _digest(SCHEMA, PIL.__version__, preprocess.to_json(), _places(listing.pictures), listing.stamps)
    file = folder / f"{slot}-{key}.npy"
    images = _mapped(file, shape)
    if images is not None:
        return images
    try:
        with locked(folder / slot):
            images = _mapped(file, shape)
            if images is None:
                _fill(file, folder / f".{slot}.part", listing, preprocess, shape, progress=progress)
                images = npy.open_memmap(file, mode="c")
                _describe(file, listing, preprocess)
                for other in folder.glob(f"{slot}-*"):
                    if other.stem != file.stem:
                        other.unlink()
    except OSError as cause:
        full = is_full(cause)
        raise DataError(
            f"the picture cache in {folder} {'is out of room' if full else 'cannot be written'}",
            expected=f"room for {math.prod(shape) / 1e9:.2f} GB" if full else "a folder that can be written to",
            got=str(cause),
            next_step="--set data.cache=DIR puts it elsewhere",
        ) from cause
    return images


def _places(pictures: Sequence[str]) -> list[tuple[str, str]]:
    """Folder and name of each picture, the same however a user typed the path."""
    split = [os.path.split(picture) for picture in pictures]
    resolved = {folder: os.path.realpath(folder) for folder in {folder for folder, _ in split}}
    return [(resolved[folder], name) for folder, name in split]


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _mapped(file: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """The file's pictures, or None where there is no such file or something damaged it."""
    try:
        images = npy.open_memmap(file, mode="c")
    except (OSError, ValueError):
        return None
    return images if images.shape == shape and images.dtype == np.uint8 else None


def _fill(file: Path, part: Path, listing: Listing, preprocess: Preprocess, shape: tuple[int, ...], *, progress: bool) -> None:
    """Writes the file. What a killed process left in `part` is overwritten: the slot's lock lets one writer in."""
    broken: list[ImageError] = []
    with array_file(file, part, shape, np.uint8) as write:
        with closing(listing.each(partial(_prepare, listing, preprocess), progress=progress)) as images:
            for image in images:
                if isinstance(image, ImageError):
                    broken.append(image)
                elif not broken:
                    write(image)
        if broken:
            raise _unreadable(broken, listing)


def _prepare(listing: Listing, preprocess: Preprocess, row: int) -> NDArray[np.uint8] | ImageError:
    try:
        return preprocess(listing.read(row))
    except ImageError as error:
        return error


def _unreadable(broken: Sequence[ImageError], listing: Listing) -> ImageError:
    """One error about all pictures that cannot be read."""
    if len(broken) == 1:
        return broken[0]
    some = "; ".join(f"{error.what} ({error.got})" for error in broken[:5])
    return ImageError(
        f"{len(broken)} of {len(listing)} pictures of {listing.title} cannot be read",
        expected="JPEG, PNG or other pictures",
        got=some + (f"; and {len(broken) - 5} more" if len(broken) > 5 else ""),
        next_step="replace or remove them; sp-edge data check names all",
    )


def _describe(file: Path, listing: Listing, preprocess: Preprocess) -> None:
    record = {
        "schema": SCHEMA,
        "data": listing.title,
        "pictures": len(listing),
        "classes": len(listing.class_names),
        "preprocess": preprocess.to_json(),
        "pillow": PIL.__version__,
    }
    write_json(file.with_suffix(".json"), record)
