"""scikit-learn's handwritten digits, as foreign to a network of coloured things as pictures can be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits


def digits(size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All 1,797 of them, 8x8 pixels each, dark on white and enlarged: uint8 (n, size, size, 3) RGB, and int64 (n,) 0 to 9."""
    loaded = load_digits()
    inverted = (255 - loaded.images * (255 / 16)).clip(0, 255).astype(np.uint8)
    large = [np.asarray(Image.fromarray(d).resize((size, size), Image.Resampling.BICUBIC).convert("RGB")) for d in inverted]
    return np.stack(large), loaded.target
