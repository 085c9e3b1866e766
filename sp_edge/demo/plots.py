"""Draws what the report's page shows: heat maps of attention, bars of accuracy."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from sp_edge.bank.heat import FULL
from sp_edge.demo.elements import Html, Picture, figure, join, percent, picture, tag
from sp_edge_runtime.looking import Look

Map = NDArray[np.float32]

# What is compared: the accuracies' keys, and what a reader is told of the first.
ROWS = {"pretrained": "pre-trained only", "tuned": "tuned without prompts", "sp": "tuned with prompts"}
SHOTS = ("1-shot", "5-shot")
GROUPS = ("clutter", "clean")

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
_COVER = 0.75  # of the picture under the brightest attention
_HEAT_SIDE = 240  # least width of a heat map, pixels


def attention_maps(name: str, image: Picture, plain: Map, prompted: Map, token: Map) -> Html:
    """A picture beside what its feature depends on, without and with the prompt on one scale, and the prompt's attention.

    Args:
        name: of the class, which is the prompt.
        image: uint8 (H, W, 3) RGB.
        plain, prompted: float32 (h, w), non-negative.
        token: float32 (h', w'), attention of the prompt's token, non-negative; drawn on a scale of its own.
    """
    peak = float(max(plain.max(), prompted.max()))
    panels = (
        figure(image, "the picture", f"Support picture of {name}"),
        figure(heat_map(image, plain, peak), "without prompt", "What its feature depends on without a prompt"),
        figure(heat_map(image, prompted, peak), f"with prompt: {name}", f"What it depends on with the prompt {name}"),
        figure(heat_map(image, token, float(token.max())), "the prompt's attention", "Attention of the prompt's token"),
    )
    scale = ("0", picture(heat_scale(), "dark to bright"), f"{percent(peak)} of the feature's change in one place")
    return tag("div", tag("div", *panels, class_="look"), tag("div", *scale, class_="scale"))


def heat_map(image: Picture, attention: Map, peak: float) -> Picture:
    """Lays attention over a picture as a smooth glow; the picture, greyer and darker, stays visible below it.

    Args:
        image: uint8 (H, W, 3) RGB.
        attention: float32 (h, w) of the patches, non-negative.
        peak: the attention drawn brightest; maps drawn with one peak can be compared.

    Returns:
        uint8 (s * H, s * W, 3) RGB, s a whole number that makes it wide enough for a smooth map.
    """
    factor = -(-_HEAT_SIDE // image.shape[1])
    size_wh = (image.shape[1] * factor, image.shape[0] * factor)
    base = np.asarray(Image.fromarray(image).resize(size_wh, Image.Resampling.BICUBIC), dtype=np.float32)
    base = 0.85 * (0.4 * base + 0.6 * base.mean(axis=-1, keepdims=True))
    relative = np.asarray(attention / max(peak, 1e-12), dtype=np.float32)
    glow = np.asarray(Image.fromarray(relative).resize(size_wh, Image.Resampling.BICUBIC)).clip(0, 1)
    cover = (_COVER * glow)[..., None]
    colour = np.asarray(_COLOURS(glow))[..., :3] * 255
    return np.clip(base * (1 - cover) + colour * cover, 0, 255).astype(np.uint8)


def place_map(look: Look) -> Picture:
    """Lays over a picture where its name was found: dark where places look as usual, brightest at the best place.

    Where even the best one is below `FULL`, nothing is drawn brightest.

    Returns:
        As `heat_map`.
    """
    return heat_map(look.image_rgb, look.heat.clip(0), max(FULL, float(look.heat.max())))


def heat_scale() -> Picture:
    """The colours of `heat_map` on a grey picture, from none to the peak: uint8 (8, 256, 3) RGB."""
    ramp = np.repeat(np.linspace(0, 1, 256, dtype=np.float32)[None], 8, axis=0)
    return heat_map(np.full((8, 256, 3), 128, dtype=np.uint8), ramp, 1.0)


def accuracy_plot(accuracy: Mapping[str, Any], chance: float) -> Html:
    """The legend, and bars of every accuracy: a panel for each number of shots.

    Args:
        accuracy: one of ROWS -> one of SHOTS -> one of GROUPS -> 'mean' and 'interval', 0 to 1.
        chance: accuracy of guessing, in percent.
    """
    panels = []
    for shots in SHOTS:
        cells = {group: [accuracy[row][shots][group] for row in ROWS] for group in GROUPS}
        groups = {group: [(100 * one["mean"], 100 * one["interval"]) for one in row] for group, row in cells.items()}
        label = f"Bars of the {shots} accuracies with their 95 % intervals; the figures are in the table below."
        panels.append(tag("div", tag("h3", f"{shots} accuracy"), accuracy_bars(groups, chance=chance, label=label)))
    items = (tag("li", name, style=f"--series: var(--series-{number})") for number, name in enumerate(ROWS.values(), 1))
    return join((tag("ul", *items, class_="legend"), tag("div", *panels, class_="panels")))


def accuracy_bars(groups: Mapping[str, Sequence[tuple[float, float]]], *, chance: float, label: str) -> Html:
    """Grouped bars with their 95 % intervals, as an `<svg>` element to stand in a page.

    The page's style gives the colours --ink, --quiet, --line and --series-1 to --series-3, and the font.

    Args:
        groups: a group's name -> (mean, half width of the interval) of each series, in percent.
        chance: accuracy of guessing, in percent.
        label: what a screen reader says of it.
    """
    drawing = Figure(figsize=(_SIZE[0] / 72, _SIZE[1] / 72))  # an SVG has 72 units to the inch
    axes = drawing.add_axes((0.1, 0.1, 0.785, 0.88))
    for group, bars in enumerate(groups.values()):
        for series, (mean, half) in enumerate(bars):
            at = group + (series - (len(bars) - 1) / 2) * _BAR
            axes.bar(at, mean, width=_BAR * 0.86, color=SERIES[series], zorder=2)
            _interval(axes, at, mean - half, mean + half)
            axes.annotate(
                f"{mean:.1f}", (at, mean + half), (0, 5), textcoords="offset points", ha="center", size=12, color=INK, zorder=6
            )
    _dress(axes, list(groups), chance)
    content = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none"}):
        drawing.savefig(content, format="svg", transparent=True)
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
    """An I-shaped line from `low` to `high`; the caps of Matplotlib's own error bars are references to ids."""
    left, right, gap = at - 0.03, at + 0.03, float("nan")
    x = (at, at, gap, left, right, gap, left, right)
    y = (low, high, gap, low, low, gap, high, high)
    axes.plot(x, y, color=INK, linewidth=1.2, solid_capstyle="butt", zorder=3)


def _inline(drawn: str, label: str) -> Html:
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
    return Html(ET.tostring(root, encoding="unicode"))
