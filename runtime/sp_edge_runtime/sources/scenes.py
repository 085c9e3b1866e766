"""Draws the frames of test://: a square, a disc and a triangle that move over a ground."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIZE_WH = (640, 480)
RATE = 25.0
COLOURS = ((214, 62, 52), (54, 158, 84), (52, 98, 214))
PERIOD = 250  # frames after which all begins again


def scene(number: int, size_wh: tuple[int, int] = SIZE_WH) -> NDArray[np.uint8]:
    """Frame `number`, 0 or more: uint8 (H, W, 3) RGB. Frames that are PERIOD apart are equal, neighbours differ."""
    width, height = size_wh
    image = Image.fromarray(_ground(size_wh))
    draw = ImageDraw.Draw(image)
    angle = 2 * np.pi * number / PERIOD
    radius = min(width, height) / 6
    for index, colour in enumerate(COLOURS):
        phase = angle + 2 * np.pi * index / len(COLOURS)
        x, y = width / 2 + 0.3 * width * np.cos(phase), height / 2 + 0.3 * height * np.sin(2 * phase)
        box = (x - radius, y - radius, x + radius, y + radius)
        if index == 0:
            draw.rectangle(box, fill=colour)
        elif index == 1:
            draw.ellipse(box, fill=colour)
        else:
            draw.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=colour)
    return np.array(image)


@lru_cache(maxsize=4)
def _ground(size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(0).integers(90, 170, (9, 16, 3), dtype=np.uint8)
    ground = np.asarray(Image.fromarray(coarse).resize(size_wh, Image.Resampling.BICUBIC))
    ground.setflags(write=False)
    return ground
