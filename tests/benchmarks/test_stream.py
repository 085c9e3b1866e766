from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def stream(open_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return open_benchmark("stream")


def found(**changed: Any) -> dict[str, Any]:
    return {
        "teaching": {"network_ms": 20.0, "enroll_over_network": 1.4},
        "stream": {"p50_ms": 26.0, "inference_ms": 20.0, "p95_ms": 30.0},
        "while_taught": {"p95_ms": 36.0},
        "matching_ms": {10_000: 0.8, 100_000: 4.0},
        "preprocess_ms": 0.4,
        "decode_over_opencv": 0.9,
        "start": {"label_s": 0.6, "memory_mb": 140.0, "cpu_over_network": 1.05},
        **changed,
    }


def test_goals_are_met_or_missed_one_by_one(stream: ModuleType) -> None:
    goals = stream.goals_of(found())
    assert len(goals) == 10
    assert all(goal["met"] for goal in goals)
    assert goals[0]["measured"] == pytest.approx(0.3)
    goals = stream.goals_of(found(preprocess_ms=0.6, matching_ms={10_000: 2.0, 100_000: 4.0}))
    missed = [(goal["what"], goal["measured"]) for goal in goals if not goal["met"]]
    assert missed == [("preprocessing of 1280x720", 0.6), ("matching 10,000 classes, of the network", 10.0)]
