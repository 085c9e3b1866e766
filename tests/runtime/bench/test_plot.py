from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("matplotlib")
from sp_edge_runtime.bench import plot


def backend(device: str, precision: str, ms: float, accuracy: float | None) -> dict[str, Any]:
    return {
        "device": device,
        "precision": precision,
        "cosine": 0.99,
        "one_ms": {"median": ms, "low": 0.9 * ms, "high": 1.2 * ms, "p95": 2 * ms, "runs": 8},
        "accuracy": accuracy and {"mean": accuracy, "interval": 0.01, "episodes": 100},
    }


def report(*backends: dict[str, Any]) -> dict[str, Any]:
    return {"bundle": {"name": "a.spedge", "image_size": 224}, "backends": list(backends)}


@pytest.mark.parametrize("accuracy", [None, 0.9])
def test_each_backend_is_a_point_of_its_own_color(accuracy: float | None, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    plot.draw(report(backend("cpu", "fp32", 20, accuracy), backend("openvino", "int8", 9, accuracy)), path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
    for device in ("cpu", "openvino"):
        color = [int(plot.COLORS[device][at : at + 2], 16) for at in (1, 3, 5)]
        assert (np.abs(pixels - color).max(axis=1) < 60).sum() > 100


def test_nothing_measured_is_drawn_as_nothing(tmp_path: Path) -> None:
    plot.draw(report(), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_ticks_are_round_and_at_least_three() -> None:
    assert plot._ticks(7, 110) == [10, 20, 50, 100]
    assert plot._ticks(18, 33) == [20, 30]
    assert len(plot._ticks(8, 22)) >= 3
