"""Turns any picture into what the network takes. Evaluation, calibration and the runtime all use this one definition."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sp_edge.errors import BundleError, SettingsError
from sp_edge.pictures import check_picture
from sp_edge.view import WHOLE, Box, View

# Pillow's filter, and its reducing gap: a picture of twice the gap is halved first. A smaller gap takes the cosine of features
# below 0.999.
_FILTERS = {"bilinear": (Image.Resampling.BILINEAR, 1.4), "bicubic": (Image.Resampling.BICUBIC, 2.0)}

PADDING = 117  # around a picture that is padded: the mean of photographs, in grey, so that grey pictures stay grey


@dataclass(frozen=True)
class Preprocess:
    """Resize with antialiasing, centre crop, uint8 RGB. Normalisation is the network's own first step.

    Attributes:
        image_size: side of the result, pixels.
        resize_ratio: the shorter side is resized to `image_size * resize_ratio` before the crop (1.1 in Semantic Prompt).
        interpolation: bilinear, as in Semantic Prompt, or bicubic, as timm's networks are trained. With bicubic, the resized
            picture and the crop lie on whole pixels, so that the result is that of timm's own transform but for rounding, and
            clipping where Pillow takes its two passes in another order; with bilinear, the crop is the exact centre.
    """

    image_size: int
    resize_ratio: float = 1.1
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if self.image_size < 1 or not 1 <= self.resize_ratio <= 4 or self.interpolation not in _FILTERS:
            raise SettingsError(
                "the preprocessing is out of range",
                expected=f"image_size >= 1, resize_ratio 1 to 4 and {' or '.join(_FILTERS)}",
                got=repr(self),
            )

    def __call__(self, image_rgb: NDArray[np.uint8], view: View = WHOLE) -> NDArray[np.uint8]:
        """Prepares one picture.

        Args:
            image_rgb: uint8 (H, W, 3), any size.
            view: which part of it counts, and how that becomes a square.

        Returns:
            uint8 (image_size, image_size, 3) RGB. Resize and crop are one step: the crop's box, in the picture's own
            pixels, is resized with Pillow's antialiased filter. A box that is at least 2.8 times the result's size, or 4 times
            for bicubic, is first halved, and what is left reduced by whole numbers of pixels, to no less than 1.4 times that
            size, or 2 times: faster, and the cosine of a trained network's features to those without is 0.999 or more on
            average.

        Raises:
            ImageError: not such an array.
            SettingsError: the view's region does not lie within the picture.
        """
        check_picture(image_rgb)
        image_rgb = view.cut(image_rgb)
        height, width = image_rgb.shape[:2]
        side = self.image_size
        if view.fit == "squash":
            return self._resized(image_rgb, (0, 0, width, height), (side, side))
        if view.fit == "pad":
            scale = side / max(height, width)
            inner_wh = max(1, round(width * scale)), max(1, round(height * scale))
            padded = np.full((side, side, 3), PADDING, np.uint8)
            x, y = (side - inner_wh[0]) // 2, (side - inner_wh[1]) // 2
            padded[y : y + inner_wh[1], x : x + inner_wh[0]] = self._resized(image_rgb, (0, 0, width, height), inner_wh)
            return padded
        if (height, width) == (side, side) and self.resize_ratio == 1:
            return image_rgb
        return self._resized(image_rgb, self._box(height, width), (side, side))

    def seen(self, height: int, width: int, view: View = WHOLE) -> Box:
        """What the network sees of a picture of this size: x, y, width and height, rounded to whole pixels of it.

        Raises:
            SettingsError: as when the picture is prepared.
        """
        x, y, inner_width, inner_height = view.box(height, width)
        if view.fit != "crop":
            return x, y, inner_width, inner_height
        left, top, right, bottom = map(round, self._box(inner_height, inner_width))
        return x + left, y + top, max(right - left, 1), max(bottom - top, 1)

    def _resized(
        self, image_rgb: NDArray[np.uint8], box: tuple[float, float, float, float], size_wh: tuple[int, int]
    ) -> NDArray[np.uint8]:
        """A box of a picture, left, top, right and bottom, in another size."""
        height, width = image_rgb.shape[:2]
        left, top, right, bottom = box
        across, down = (right - left) / size_wh[0], (bottom - top) / size_wh[1]
        # Only what the filter can reach is handed over, so that a large frame costs no more than its centre.
        reach_x, reach_y = (math.ceil(2 * max(1.0, scale)) + 1 for scale in (across, down))
        x0, y0 = max(0, math.floor(left) - reach_x), max(0, math.floor(top) - reach_y)
        x1, y1 = min(width, math.ceil(right) + reach_x), min(height, math.ceil(bottom) + reach_y)
        how, gap = _FILTERS[self.interpolation]
        step = 2 if min(across, down) >= 2 * gap else 1
        crop = image_rgb[y0:y1, x0:x1]
        window = _halved(crop) if step == 2 else Image.fromarray(np.ascontiguousarray(crop))
        inner = ((left - x0) / step, (top - y0) / step, (right - x0) / step, (bottom - y0) / step)
        return np.asarray(window.resize(size_wh, how, box=inner, reducing_gap=gap))

    def _box(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the crop in the picture's own pixels."""
        short = min(height, width)
        if self.interpolation == "bilinear":
            side = short / self.resize_ratio
            left, top = (width - side) / 2, (height - side) / 2
            return left, top, left + side, top + side
        resized = math.floor(self.image_size * self.resize_ratio + 1e-6)  # the ratio may be a rounded one
        edges = []
        for whole in (width, height):
            pixels = resized * whole // short
            first = round((pixels - self.image_size) / 2)
            edges.append([edge * whole / pixels for edge in (first, first + self.image_size)])
        (left, right), (top, bottom) = edges
        return left, top, right, bottom

    def to_json(self) -> dict[str, Any]:
        """As the manifest records it."""
        gap = _FILTERS[self.interpolation][1]
        whole = "on whole pixels, " if self.interpolation == "bicubic" else ""
        return {
            "image_size": self.image_size,
            "resize_ratio": self.resize_ratio,
            "filter": f"{self.interpolation}, antialiased, {whole}halved from {2 * gap:g} times the size, reducing gap {gap:g}",
            "crop": "centre",
            "layout": "NHWC",
            "colour": "RGB",
            "dtype": "uint8",
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Preprocess:
        """What `to_json` gave.

        Raises:
            BundleError: another version of sp-edge prepared pictures in another way.
        """
        interpolation = str(value["filter"]).partition(",")[0]
        known = interpolation if interpolation in _FILTERS else "bilinear"  # whose filter differs from it as well
        found = Preprocess(int(value["image_size"]), float(value["resize_ratio"]), known)
        ours = found.to_json()
        different = [key for key in {**ours, **value} if value.get(key) != ours.get(key)]
        if different:
            raise BundleError(
                "the bundle prepares pictures in another way than this version of sp-edge",
                expected=", ".join(f"{key}: {ours.get(key)!r}" for key in different),
                got=", ".join(f"{key}: {value.get(key)!r}" for key in different)[:200],
                next_step="export it again with this version of sp-edge",
            )
        return found


def _halved(image_rgb: NDArray[np.uint8]) -> Image.Image:
    """Means of 2x2 pixels of uint8 (H, W, 3), the last row and column twice where there is an odd number of them.

    As Pillow's `reduce(2)`, but for rounding, in a third of the time: NumPy takes the means of 32 bytes at once, (a + b) / 2 =
    (a | b) - (a ^ b) / 2 rounded up or (a & b) + (a ^ b) / 2 rounded down, and Pillow copies a quarter of the pixels.
    """
    height, width = image_rgb.shape[:2]
    if height % 2 or width % 2:
        image_rgb = np.pad(image_rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    above, below = image_rgb[::2], image_rgb[1::2]
    means, odd = (above | below).reshape(-1), (above ^ below).reshape(-1)  # what follows is in place: memory costs more
    odd >>= 1
    means -= odd
    # Every pixel with its right neighbour; the odd ones, whose means are of no use, are what the decoder passes over (XXX).
    pixel, neighbour, odd = means[:-3], means[3:], odd[3:]
    np.bitwise_xor(pixel, neighbour, out=odd)
    odd >>= 1
    pixel &= neighbour
    pixel += odd
    return Image.frombuffer("RGB", ((width + 1) // 2, (height + 1) // 2), means, "raw", "RGBXXX", 0, 1)
