"""Writes an ablation as a table, Markdown, JSON and a plot."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sp_edge.accuracy import Accuracy
from sp_edge.files import atomic_file, write_bytes, write_json
from sp_edge.settings.settings import EvalSettings
from sp_edge.training.ablate import Row
from sp_edge.training.evaluate import title

_COLOURS = ("#2a6fb0", "#c8553d", "#3a8f5d", "#8a5fb5", "#b8860b", "#4a4a4a", "#d17aa5", "#5aa7a7")


def report(rows: Sequence[Row], protocol: EvalSettings, folder: Path) -> None:
    """Writes ablation.md, ablation.json and ablation.png."""
    header, lines = table(rows)
    cells = [header, ["---", *["---:"] * (len(header) - 1)], *lines]
    text = "\n".join("| " + " | ".join(line) + " |" for line in cells)
    write_bytes(folder / "ablation.md", f"{text}\n\n{caption(rows, protocol)}\n".encode())
    write_json(folder / "ablation.json", to_json(rows, protocol))
    plot(rows, folder / "ablation.png")


def caption(rows: Sequence[Row], protocol: EvalSettings) -> str:
    """What the figures are."""
    seeds = len(rows[0].runs)
    over = f" Mean of {seeds} seeds; their standard deviation in brackets, which the intervals leave out." if seeds > 1 else ""
    return (
        f"{protocol.n_way}-way accuracy on novel classes in %, with prompts where the variant has any: mean of "
        f"{protocol.episodes:,} episodes with its 95 % interval. Difference: to '{rows[0].variant.name}', on the same "
        f"episodes, with the interval of the paired differences.{over}"
    )


def table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Header and lines: for each setting the accuracy in %, and how far it is ahead of the first row's."""
    settings = list(rows[0].scores)
    header = ["", *(text for setting in settings for text in (title(setting), "difference")), "strength"]
    lines = []
    for row in rows:
        cells = []
        for setting in settings:
            spread = f" [{100 * row.spread(setting):.1f}]" if len(row.runs) > 1 else ""
            cells += [f"{row.accuracy(setting)}{spread}", "" if row is rows[0] else str(row.ahead(rows[0], setting))]
        lines.append([row.variant.name, *cells, ", ".join(f"{run.strength:g}" for run in row.runs)])
    return header, lines


def to_json(rows: Sequence[Row], protocol: EvalSettings) -> dict[str, Any]:
    """Everything that the table and the plot show, and the settings of every row."""
    described = []
    for row in rows:
        cells: dict[str, dict[str, Any]] = {}
        for n_shot, group in row.scores:
            setting = (n_shot, group)
            cells.setdefault(f"{n_shot}-shot", {})[group] = {
                "accuracy": dataclasses.asdict(row.accuracy(setting)),
                "difference": dataclasses.asdict(row.ahead(rows[0], setting)),
                "without prompts": dataclasses.asdict(Accuracy.of(row.plain[setting])),
                "spread": row.spread(setting),
            }
        runs = [{"folder": str(run.folder), "strength": run.strength} for run in row.runs]
        described.append({"name": row.variant.name, "figures": cells, "runs": runs, "settings": row.variant.settings.to_json()})
    return {"reference": rows[0].variant.name, "protocol": dataclasses.asdict(protocol), "rows": described}


def plot(rows: Sequence[Row], file: Path) -> None:
    """Draws every row's difference to the first, in points with its interval, a panel for each setting."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings = list(rows[0].scores)
    groups = list(dict.fromkeys(_varied(row) for row in rows))
    size = (2.2 + 0.06 * max(len(row.variant.name) for row in rows) + 3.1 * len(settings), 1.3 + 0.3 * len(rows))
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(settings), sharey=True, sharex=True, squeeze=False)[0]
    for axes, setting in zip(panels, settings, strict=True):
        axes.axvline(0, color="#888888", linewidth=0.8, linestyle="--", zorder=1)
        for at, row in enumerate(rows):
            ahead = row.ahead(rows[0], setting)
            colour = _COLOURS[groups.index(_varied(row)) % len(_COLOURS)]
            mean, half = 100 * ahead.mean, 100 * ahead.interval
            axes.errorbar(mean, at, xerr=half, fmt="o", color=colour, markersize=5, capsize=2.5, linewidth=1.4, zorder=3)
            figures = f"{100 * row.accuracy(setting).mean:.1f}"
            axes.annotate(figures, (1, at), (4, 0), ("axes fraction", "data"), textcoords="offset points", va="center", size=8)
        axes.annotate("%", (1, 0), (4, 14), ("axes fraction", "data"), textcoords="offset points", size=8, color="#666666")
        axes.set_title(title(setting), size=10)
        axes.set_xlabel(f"points against {rows[0].variant.name}", size=8)
        axes.tick_params(labelsize=8)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color="#e5e5e5", linewidth=0.6, zorder=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
    panels[0].set_yticks(range(len(rows)), [row.variant.name for row in rows])
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    with atomic_file(file) as temporary:
        figure.savefig(temporary, format="png")


def _varied(row: Row) -> str:
    """The names of the settings that a row's variant sets."""
    return ", ".join(part.partition("=")[0] for part in row.variant.name.split(", "))
