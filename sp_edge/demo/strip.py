"""Draws, each as one picture for a README or a slide, where prompts make the network look."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sp_edge.demo.elements import Picture
from sp_edge.demo.plots import heat_map, place_map
from sp_edge.demo.report import AttentionPicture
from sp_edge.demo.report_photographs import PhotographStory

STRIP = ("coffee cup", "cat")  # of the taught ones; nobody need be credited for them
_SIDE, _GAP, _TEXT = 220, 14, 34


def attention_strip(pictures: Sequence[AttentionPicture]) -> Picture:
    """A column for each picture: as it is, without a prompt, with its class's; uint8 (H, W, 3) RGB."""
    columns = []
    for shown in pictures:
        peak = float(max(shown.plain.max(), shown.prompted.max()))
        plain, prompted = (heat_map(shown.image, one, peak) for one in (shown.plain, shown.prompted))
        columns.append([("one picture", shown.image), ("without a prompt", plain), (f"“{shown.name}”", prompted)])
    return _strip(columns)


def place_strip(story: PhotographStory) -> Picture:
    """A column for each of four photographs: as it is, and the place that its name found; uint8 (H, W, 3) RGB."""
    shown = [*story.pair, *(one for one in story.taught if one.name in STRIP)]
    return _strip([[("one photograph", one.look.image_rgb), (f"“{one.name}”", place_map(one.look))] for one in shown])


def _strip(columns: Sequence[Sequence[tuple[str, Picture]]]) -> Picture:
    """Columns of captioned pictures, side by side."""
    height = max(map(len, columns)) * (_SIDE + _TEXT) + _GAP
    canvas = Image.new("RGB", (len(columns) * (_SIDE + _GAP) + _GAP, height), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=16)
    for column, panels in enumerate(columns):
        for row, (caption, panel) in enumerate(panels):
            left, top = _GAP + column * (_SIDE + _GAP), _GAP + row * (_SIDE + _TEXT)
            canvas.paste(Image.fromarray(panel).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC), (left, top))
            draw.text((left + _SIDE / 2, top + _SIDE + 6), caption, fill=(40, 40, 40), font=font, anchor="ma")
    return np.asarray(canvas)
