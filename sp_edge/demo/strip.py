"""Draws, as one picture for a README or a slide, where prompts make the network look."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sp_edge.demo.plots import heat_map
from sp_edge.demo.report import AttentionPicture

_SIDE, _GAP, _TEXT = 220, 14, 34


def attention_strip(pictures: Sequence[AttentionPicture]) -> NDArray[np.uint8]:
    """A column for each picture: as it is, without a prompt, with its class's; uint8 (H, W, 3) RGB."""
    rows = ("one picture", "without a prompt", "with the prompt")
    height = len(rows) * (_SIDE + _TEXT) + _GAP
    canvas = Image.new("RGB", (len(pictures) * (_SIDE + _GAP) + _GAP, height), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=16)
    for column, shown in enumerate(pictures):
        peak = float(max(shown.plain.max(), shown.prompted.max()))
        panels = (shown.image, heat_map(shown.image, shown.plain, peak), heat_map(shown.image, shown.prompted, peak))
        captions = (rows[0], rows[1], f"“{shown.name}”")
        for row, (panel, caption) in enumerate(zip(panels, captions, strict=True)):
            left, top = _GAP + column * (_SIDE + _GAP), _GAP + row * (_SIDE + _TEXT)
            canvas.paste(Image.fromarray(panel).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC), (left, top))
            draw.text((left + _SIDE / 2, top + _SIDE + 6), caption, fill=(40, 40, 40), font=font, anchor="ma")
    return np.asarray(canvas)
