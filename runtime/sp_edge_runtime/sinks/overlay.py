"""Draws what was recognized onto the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sp_edge.matching.label import UNKNOWN as UNKNOWN_LABEL
from sp_edge.view import Box
from sp_edge_runtime.sinks.fonts import Font, font, legible
from sp_edge_runtime.streams.smoothing import Smoothed

if TYPE_CHECKING:
    from sp_edge_runtime.prediction import Prediction

Colour = tuple[int, int, int]

KNOWN = (110, 220, 120)
UNKNOWN = (255, 170, 60)
TEXT = (255, 255, 255)
QUIET = (190, 190, 190)
TRACK = (90, 90, 90)
SHADE = 0.35  # of the image that shines through the band
SHOWN = 3


def annotate(image_rgb: NDArray[np.uint8], prediction: Prediction, smoothed: Smoothed | None = None) -> NDArray[np.uint8]:
    """A copy of the image with a frame around what was looked at, and a band at its foot.

    The band has the label, the confidence as a bar and in percent, and the three best classes.

    Args:
        image_rgb: uint8 (H, W, 3) RGB, any size; text is readable from 160 pixels of width on.
        prediction: what was recognized in it; its `view` is framed, unless it is the whole image.
        smoothed: what to show as the label instead of the prediction's own.

    Returns:
        uint8 (H, W, 3) RGB. The label of a recognized class is green, 'unknown' orange.
    """
    height, width = image_rgb.shape[:2]
    size = min(max(width // 40, 11), 64)  # of the small letters, pixels
    head, row, gap = round(size * 1.7), round(size * 1.3), max(size // 3, 3)
    rows = prediction.top[:SHOWN]
    band = min(height, 3 * gap + head + gap + row * len(rows))
    image = image_rgb.copy()
    if prediction.view is not None:
        _frame(image, prediction.view, max(size // 11, 1))
    image[height - band :] = (image[height - band :] * SHADE).astype(np.uint8)
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    shown = smoothed or prediction
    colour = UNKNOWN if shown.label == UNKNOWN_LABEL else KNOWN
    top, span = height - band + gap, (gap, width - gap)
    large, bar = round(size * 1.4), top + head
    _line(
        draw,
        shown.label,
        shown.confidence,
        span=span,
        middle=top + head / 2,
        colours=(colour, TEXT),
        sizes=(large, size),
    )
    _bar(draw, (gap, bar, width - gap, bar + gap), shown.confidence, colour)
    for index, (name, confidence) in enumerate(rows):
        middle = bar + 2 * gap + row * (index + 0.5)
        _line(draw, name, confidence, span=span, middle=middle, colours=(QUIET, QUIET), sizes=(size, size))
    return np.asarray(canvas)


def _frame(image_rgb: NDArray[np.uint8], view: Box, thick: int) -> None:
    """Draws the edge of a box, x, y, width and height, into the image."""
    x, y, width, height = view
    if (width, height) != (image_rgb.shape[1], image_rgb.shape[0]):
        inside = image_rgb[y : y + height, x : x + width]
        kept = inside[thick:-thick, thick:-thick].copy()
        inside[:] = QUIET
        inside[thick:-thick, thick:-thick] = kept


def _line(
    draw: ImageDraw.ImageDraw,
    name: str,
    share: float,
    *,
    span: tuple[float, float],
    middle: float,
    colours: tuple[Colour, Colour],
    sizes: tuple[int, int],
) -> None:
    """A name at the left end of a span and a percentage at its right end, around the height `middle`, all in pixels."""
    percent = f"{share:.0%}"
    left = span[1] - font(sizes[1]).getlength(percent)
    draw.text((left, middle), percent, colours[1], font(sizes[1]), anchor="lm")
    text, face = legible(name)
    letters = font(sizes[0], face)
    draw.text((span[0], middle), _shortened(text, letters, left - 2 * span[0]), colours[0], letters, anchor="lm")


def _shortened(text: str, letters: Font, width: float) -> str:
    """As much of the text as is no wider than `width` pixels, with an ellipsis where some is missing."""
    if letters.getlength(text) <= width:
        return text
    while text and letters.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


def _bar(draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], share: float, colour: Colour) -> None:
    left, top, right, bottom = box
    if right > left and bottom > top:  # an image can be narrower than its margins
        draw.rectangle(box, fill=TRACK)
        draw.rectangle((left, top, left + (right - left) * share, bottom), fill=colour)
