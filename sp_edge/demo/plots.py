"""Draws what the report shows: pictures as data URIs, heat maps of attention, the accuracy bars as an inline SVG."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

# Drawn with these, written as the page's own colours: so the bars follow its light and dark schemes.
INK, QUIET, GRID = "#010203", "#010204", "#010205"
SERIES = ("#010206", "#010207", "#010208")
_PAGE = {
    INK: "var(--ink)",
    QUIET: "var(--quiet)",
    GRID: "var(--line)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, 1)},
}
_SIZE = (430, 300)  # of one panel, CSS pixels
_BAR = 0.27  # of the distance between two groups
_COLOURS = mpl.colormaps["inferno"]
_HEAT_SIDE = 240  # least width of a heat map, pixels


def data_uri(content: bytes, media_type: str) -> str:
    """Bytes as a URI that carries them."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def picture_uri(image: NDArray[np.uint8]) -> str:
    """A picture, uint8 (H, W, 3) RGB, as a JPEG data URI."""
    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=90, subsampling=0)
    return data_uri(content.getvalue(), "image/jpeg")


def heat_map(image: NDArray[np.uint8], attention: NDArray[np.float32], peak: float) -> NDArray[np.uint8]:
    """Lays attention over a picture as a smooth glow; the picture, greyer and darker, stays visible below it.

    Args:
        image: uint8 (H, W, 3) RGB.
        attention: float32 (h, w) of the patches, non-negative.
        peak: the attention drawn brightest; maps drawn with one peak can be compared.

    Returns:
        uint8 (s * H, s * W, 3) RGB, s a whole number that makes it wide enough for a smooth map.
    """
    factor = -(-_HEAT_SIDE // image.shape[1])
    picture = Image.fromarray(image)
    size_wh = (picture.width * factor, picture.height * factor)
    base = np.asarray(picture.resize(size_wh, Image.Resampling.BICUBIC), dtype=np.float32)
    base = 0.6 * base + 0.4 * base.mean(axis=-1, keepdims=True)
    relative = np.asarray(attention / max(peak, 1e-12), dtype=np.float32)
    glow = np.clip(Image.fromarray(relative).resize(size_wh, Image.Resampling.BICUBIC), 0, 1)[..., None]
    colour = np.asarray(_COLOURS(glow[..., 0]))[..., :3] * 255
    # Little attention darkens the picture, much lets the colour glow on it: neither may cover it.
    cover = 0.55 + 0.1 * glow
    return np.clip(base * (1 - cover) + colour * cover, 0, 255).astype(np.uint8)


def heat_scale() -> NDArray[np.uint8]:
    """The colours of `heat_map`, from none to the peak: uint8 (8, 256, 3) RGB."""
    row = np.asarray(_COLOURS(np.linspace(0, 1, 256)))[:, :3] * 255
    return np.repeat(row.astype(np.uint8)[None], 8, axis=0)


def accuracy_bars(groups: Mapping[str, Sequence[tuple[float, float]]], *, chance: float, label: str) -> str:
    """Grouped bars with their 95 % intervals, as an `<svg>` element to stand in a page.

    The page's style gives the colours --ink, --quiet, --line and --series-1 to --series-3, and the font.

    Args:
        groups: a group's name -> (mean, half width of the interval) of each series, in percent.
        chance: accuracy of guessing, in percent.
        label: what a screen reader says of it.
    """
    figure = Figure(figsize=(_SIZE[0] / 72, _SIZE[1] / 72))  # an SVG has 72 units to the inch
    axes = figure.add_axes((0.09, 0.1, 0.79, 0.88))
    for group, bars in enumerate(groups.values()):
        for series, (mean, half) in enumerate(bars):
            at = group + (series - (len(bars) - 1) / 2) * _BAR
            axes.bar(at, mean, width=_BAR * 0.86, color=SERIES[series], zorder=2)
            _interval(axes, at, mean - half, mean + half)
            axes.annotate(f"{mean:.1f}", (at, mean + half), (0, 5), textcoords="offset points", ha="center", size=12, color=INK)
    _dress(axes, list(groups), chance)
    content = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(content, format="svg", transparent=True)
    return _inline(content.getvalue(), label)


def _dress(axes: Axes, names: list[str], chance: float) -> None:
    """Everything about the bars but the bars."""
    ends = (-0.55, len(names) - 0.45)
    axes.set_xlim(*ends)
    axes.set_ylim(0, 110)  # room for the figure over a bar of 100 %
    axes.axhline(chance, color=QUIET, linestyle=(0, (1, 2.2)), linewidth=1.4, zorder=5)
    axes.annotate(
        f"chance\n{chance:g} %", (ends[1], chance), (6, 0), textcoords="offset points", va="center", size=11, color=QUIET
    )
    axes.set_yticks(range(0, 101, 25), [f"{tick} %" if tick == 100 else str(tick) for tick in range(0, 101, 25)])
    axes.set_xticks(range(len(names)), names)
    axes.tick_params(axis="x", length=0, pad=8, labelsize=13, labelcolor=INK)
    axes.tick_params(axis="y", length=0, pad=6, labelsize=11, labelcolor=QUIET)
    axes.grid(axis="y", color=GRID, linewidth=1)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set(visible=side == "bottom", color=QUIET)


def _interval(axes: Axes, at: float, low: float, high: float) -> None:
    """An I-shaped line from `low` to `high`. (Error bars would do, but their caps come as references to ids.)"""
    left, right, gap = at - 0.03, at + 0.03, float("nan")
    x = (at, at, gap, left, right, gap, left, right)
    y = (low, high, gap, low, low, gap, high, high)
    axes.plot(x, y, color=INK, linewidth=1.2, solid_capstyle="butt", zorder=3)


def _inline(drawn: str, label: str) -> str:
    """Turns Matplotlib's SVG file into an element of an HTML page: no ids to collide, no addresses, the page's colours."""
    for colour, name in _PAGE.items():
        drawn = drawn.replace(colour, name)
    root = ET.fromstring(drawn)  # noqa: S314  this program wrote it
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}defs")):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for attribute in ("id", "clip-path"):
            element.attrib.pop(attribute, None)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": label}
    return ET.tostring(root, encoding="unicode")
