"""Draws a bench's report: how good each engine and precision is against how long a picture takes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sp_edge.files import atomic_file

INK, QUIET, GRID = "#1f2933", "#7b8794", "#e4e7eb"
COLORS = {"cpu": "#2f6fb0", "openvino": "#d9822b", "cuda": "#3c8d5a", "tensorrt": "#8a4fa3"}
MARKERS = {"fp32": "o", "fp16": "s", "bf16": "D", "int8": "^"}


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Writes the plot as PNG.

    Args:
        report: `Report.to_json`.
        path: of the file, which is replaced as a whole.

    Raises:
        OSError: it cannot be written.
    """
    figure = Figure(figsize=(7.2, 4.5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    shown = [one for one in report["backends"] if one["one_ms"]]
    measured = bool(shown) and all(one["accuracy"] for one in shown)
    for one in shown:
        _point(axes, one, measured=measured)
    axes.set_xscale("log")
    taken = [one["one_ms"][end] for one in shown for end in ("low", "high")] or [1.0, 10.0]
    axes.set_xlim(min(taken) / 1.25, max(taken) * 1.25)
    ticks = _ticks(*axes.get_xlim())
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("milliseconds a picture, batch 1: median and quartiles", color=INK)
    axes.set_ylabel("accuracy, %, with 95 % interval" if measured else "least cosine to the golden features", color=INK)
    axes.set_title(f"{report['bundle']['name']}, {report['bundle']['image_size']} pixels", loc="left", color=INK, size=12)
    axes.grid(color=GRID)
    axes.set_axisbelow(True)
    axes.tick_params(colors=QUIET, labelcolor=INK)
    axes.ticklabel_format(axis="y", useOffset=False)
    for spine in axes.spines.values():
        spine.set_color(QUIET)
    if shown:
        axes.legend(frameon=False, labelcolor=INK, loc="center left", bbox_to_anchor=(1.0, 0.5))
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png")


def _point(axes: Axes, one: Mapping[str, Any], *, measured: bool) -> None:
    taken, accuracy = one["one_ms"], one["accuracy"]
    y = 100 * accuracy["mean"] if measured else one["cosine"]
    x = taken["median"]
    axes.errorbar(
        [x],
        [y],
        xerr=[[x - taken["low"]], [taken["high"] - x]],
        yerr=[[100 * accuracy["interval"]]] * 2 if measured else None,
        fmt=MARKERS.get(one["precision"], "o"),
        color=COLORS.get(one["device"], INK),
        markersize=8,
        alpha=0.85,
        elinewidth=1.2,
        label=f"{one['device']} {one['precision']}",
    )


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between two: 1, 2 and 5 times powers of ten, and more where these are few."""
    for steps in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        every = [step * 10.0**power for power in range(-3, 6) for step in steps]
        within = [tick for tick in every if low <= tick <= high]
        if len(within) >= 3:
            return within
    return within
