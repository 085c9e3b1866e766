"""Whether a picture has color: infrared frames, which cameras give at night, have none."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sp_edge.bank.crops import LARGEST

GRAY = 12  # levels of 255 up to which a picture has no color: JPEG and video keep grays gray, a sensor's noise may not
SIDE = 64  # pixels of a side that are looked at, at most
SMALL = 28  # pixels of a side to which a crop is at least decoded


def chroma(image_rgb: NDArray[np.uint8]) -> int:
    """How much color the most colorful hundredth of a picture has, 0 to 255: its largest channel above its smallest.

    Args:
        image_rgb: uint8 (H, W, 3) RGB, of any size; no more than 64 x 64 of its pixels are looked at.
    """
    height, width = image_rgb.shape[:2]
    red, green, blue = np.moveaxis(image_rgb[:: -(-height // SIDE), :: -(-width // SIDE)], 2, 0)
    spread = (np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)).ravel()
    place = 99 * (spread.size - 1) // 100
    return int(np.partition(spread, place)[place])


def is_gray(image_rgb: NDArray[np.uint8]) -> bool:
    """Whether a picture, uint8 (H, W, 3) RGB, has no color."""
    return chroma(image_rgb) <= GRAY


def is_gray_crop(crop: bytes) -> bool:
    """Whether a shot's picture, as a bank keeps it, has no color; not where it cannot be read."""
    try:
        with Image.open(io.BytesIO(crop), formats=["JPEG"]) as opened:
            if max(opened.size) > LARGEST:
                return False
            opened.draft("RGB", (SMALL, SMALL))  # of each 8 x 8 pixels the mean, which is all that is decoded
            return is_gray(np.asarray(opened.convert("RGB")))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
