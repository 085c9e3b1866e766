"""Shows where in a picture a name was found: what looks like it stays as it is, the rest turns grey and dark."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sp_edge.matching.decide import Floats

FULL = 4.0  # score from which a place is shown as it is; at 0, the score of a usual place, it is dark
DARK = 0.4  # brightness of the rest


def heat_picture(image_rgb: NDArray[np.uint8], scores: Floats) -> NDArray[np.uint8]:
    """The picture with its heat map laid over.

    Args:
        image_rgb: uint8 (H, W, 3) RGB.
        scores: float32 (h, w), of a grid of places that covers it; see `sp_edge.matching.evidence`.

    Returns:
        uint8 (H, W, 3) RGB.
    """
    height, width = image_rgb.shape[:2]
    found = Image.fromarray(np.clip(scores / FULL, 0, 1).astype(np.float32))
    shown = np.clip(np.asarray(found.resize((width, height), Image.Resampling.BICUBIC)), 0, 1)[..., None]
    grey = np.asarray(Image.fromarray(image_rgb).convert("L"), np.float32)[..., None]
    return np.round(shown * image_rgb + (1 - shown) * DARK * grey).astype(np.uint8)
