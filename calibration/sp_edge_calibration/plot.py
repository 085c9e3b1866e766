"""Draws a calibration report as one SVG picture."""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape

from sp_edge_calibration.report import Report

_ROW, _NAME, _PANEL, _GAP, _TOP = 18, 230, 300, 40, 64  # pixels
_INK, _QUIET = "#1f2933", "#7b8794"
_BLUE, _ORANGE = "#2f6fb0", "#d9822b"
_LEFT = 16


def draw(report: Report) -> str:
    """The report as SVG: what goes into each layer, what its quantisation costs, and accuracy by class."""
    layers = report.layers
    reaches = [max(abs(layer.low), abs(layer.high)) for layer in layers]
    lost = [max(layer.cosine_lost, 0) for layer in layers]
    height = _TOP + _ROW * len(layers)
    first, second = _LEFT + _NAME, _LEFT + _NAME + _PANEL + _GAP
    width = second + _PANEL + 60
    parts = [
        _text(_LEFT, 24, "Calibration", size=16, weight=600),
        _text(
            _LEFT + 100, 24,
            f"{report.calibration['chosen']} pictures; int8 with every layer quantized: cosine {report.cosine_mean:.5f} mean, "
            f"{report.cosine_min:.5f} least", fill=_QUIET,
        ),
        _text(first, 52, "largest value that goes in (log scale)", fill=_QUIET),
        _text(second, 52, f"1 - cosine where this layer alone is int8, {report.sensitivity_pictures} pictures", fill=_QUIET),
        *(_text(_LEFT, _TOP + _ROW * i + 13, _short(layer.layer)) for i, layer in enumerate(layers)),
        *_bars(first, _log(reaches), [f"{value:.3g}" for value in reaches], _BLUE),
        *_bars(second, _share(lost), [f"{value:.1e}" for value in lost], _ORANGE),
    ]  # fmt: skip
    if report.classes:
        top = height + 48
        parts.append(_text(_LEFT, top - 12, "pictures nearest to their own class's other pictures, %", fill=_QUIET))
        for number, value in enumerate(report.classes):
            y = top + _ROW * number
            parts.append(_text(_LEFT, y + 13, f"{value.name} ({value.pictures})"))
            for offset, share, colour in ((3, value.fp32, _BLUE), (9, value.int8, _ORANGE)):
                parts.append(f'<rect x="{first}" y="{y + offset}" width="{_PANEL * share:.1f}" height="5" fill="{colour}"/>')
            figures = f"{100 * value.fp32:.0f} fp32, {100 * value.int8:.0f} int8"
            parts.append(_text(first + _PANEL + 8, y + 13, figures, fill=_QUIET))
        height = top + _ROW * len(report.classes)
    height += 16
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="system-ui, sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
        f"{''.join(parts)}</svg>\n"
    )


def _bars(left: int, lengths: Iterable[float], labels: Iterable[str], colour: str) -> Iterable[str]:
    for number, (length, label) in enumerate(zip(lengths, labels, strict=True)):
        y = _TOP + _ROW * number
        reach = max(_PANEL * length, 1)
        yield f'<rect x="{left}" y="{y + 4}" width="{reach:.1f}" height="10" rx="2" fill="{colour}"/>'
        yield _text(left + reach + 4, y + 13, label, fill=_QUIET)


def _log(values: list[float]) -> list[float]:
    """Lengths, 0.05 to 0.85, by the values' logarithms."""
    logs = [math.log10(max(value, 1e-6)) for value in values]
    low, high = min(logs, default=0), max(logs, default=0)
    return [0.05 + 0.8 * (value - low) / max(high - low, 1e-9) for value in logs]


def _share(values: list[float]) -> list[float]:
    """Lengths, 0 to 0.85, of the largest."""
    most = max(values, default=0) or 1
    return [0.85 * value / most for value in values]


def _short(name: str) -> str:
    return name.removeprefix("backbone.")


def _text(x: float, y: float, words: str, *, fill: str = _INK, size: int = 12, weight: int = 400) -> str:
    # A folder's name may hold what neither XML nor UTF-8 has.
    shown = escape("".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in words))
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" font-size="{size}" font-weight="{weight}">{shown}</text>'
