from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from sp_edge.accuracy import Accuracy, Difference
from sp_edge.errors import ExportError
from sp_edge_export.gate import Gate, report_of
from sp_edge_export.layers import LayerError
from sp_edge_export.verify import Parity

GOOD = Parity(
    "fp16", "fp32", 1.0, 1.0, 1.0, 0.0, 4, Accuracy(0.8, 0.01, 600), Accuracy(0.8, 0.01, 600), Difference(0.0, 0.0, 600)
)
LAYERS = [LayerError("a", 0.1, 0.1), LayerError("b", 0.7, 0.6), LayerError("c", 0.8, 0.1)]


def never() -> list[LayerError]:
    raise AssertionError("layers are compared only where a stage fails")


def test_what_passes_is_told_and_kept(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    gate = Gate(tmp_path / "model.spedge", 0.01)
    gate.admit(GOOD, never, {"float32": ["x"]})
    asked = {"cosine_mean": 0.9995, "cosine_min": 0.999, "plain_cosine_min": 0.9999, "max_drop": 0.01}
    assert gate.stages == [GOOD.to_json() | {"asked": asked, "passed": True, "float32": ["x"]}]
    assert log.messages == [str(GOOD)]
    assert "80.0 ± 1.0 % against 80.0 ± 1.0 %, difference +0.0 ± 0.0" in log.messages[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_what_does_not_leaves_a_report_alone(tmp_path: Path, value: float) -> None:
    gate = Gate(tmp_path / "model.spedge", 0.01)
    gate.admit(dataclasses.replace(GOOD, stage="fp32"), never)
    bad = dataclasses.replace(GOOD, cosine_min=value, largest_difference=value)
    with pytest.raises(
        ExportError, match=r"worst layer: b, relative error 0\.7[\s\S]*next: every figure is in .*failed"
    ) as caught:
        gate.admit(bad, lambda: LAYERS, {"float16": ["y"]})
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == [report_of(tmp_path / "model.spedge")] == [tmp_path / "model.spedge.failed.json"]
    told = json.loads(report_of(gate.out).read_text("utf-8"))
    assert told["kind"] == "sp-edge export report"
    assert told["failed"]["stage"] == "fp16"
    assert told["worst_layer"] == {"layer": "b", "error": 0.7, "added": 0.6}
    assert [stage["stage"] for stage in told["stages"]] == ["fp32", "fp16"]
    assert told["stages"][1]["float16"] == ["y"]
    assert [(stage["passed"], stage["asked"]["max_drop"]) for stage in told["stages"]] == [(True, 0.01), (False, 0.01)]
    assert told["stages"][1]["cosine_min"] == (0.5 if value == 0.5 else None), "JSON has no NaN"
    assert len(told["layers"]) == 3


def test_a_drop_is_said_with_what_to_do(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "b", 0.01)
    with pytest.raises(ExportError, match=r"less accurate[\s\S]*next: another --precision.*; every figure is in"):
        gate.admit(dataclasses.replace(GOOD, drop=Difference(-0.02, 0.001, 600)), list)
