from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import toy
from sp_edge.bundle.bundle import Bundle
from sp_edge.engines.plans import Plan, sidecar_of
from sp_edge.engines.sidecar import Latency
from sp_edge.errors import ExportError
from sp_edge_export.engines.measure import is_slower, measure
from toy_plans import DEVICE, put


class Engine:
    """Gives the toy's features, one output moved by `error`; counts its runs."""

    def __init__(self, error: float = 0.0, moved: str = "feature") -> None:
        self.error, self.moved = error, moved
        self.batches: list[tuple[str, int]] = []

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        self.batches.append((graph, len(inputs["image"])))
        assert set(inputs) == {"image", *(["prompt"] if graph == "support" else [])}
        outputs = {"feature": toy.features(inputs["image"], inputs.get("prompt"))}
        if graph == "support":
            outputs["plain"] = toy.features(inputs["image"])
        outputs[self.moved] = outputs[self.moved] + self.error * np.eye(1, toy.DIM, dtype=np.float32)
        return outputs


@pytest.fixture
def bundle(toy_bundle: Path) -> Bundle:
    return Bundle.load(toy_bundle)


@pytest.mark.parametrize(("graph", "size"), [("query", 1), ("query", 5), ("support", 5)])
def test_time_and_parity_come_into_the_sidecar(bundle: Bundle, tmp_path: Path, graph: str, size: int) -> None:
    # A clock on which the n-th run takes n ms: of 200 runs the median is 100.5 ms.
    ticks = itertools.accumulate(part for n in itertools.count(1) for part in (1.0, n / 1000))
    engine = Engine()
    plan = Plan.load(put(bundle, tmp_path, graph=graph, max_batch=size))
    measured = measure(plan, bundle, engine, clock=lambda: next(ticks))
    assert Plan.load(plan.path) == measured
    assert measured.sidecar == replace(plan.sidecar, latency=measured.sidecar.latency, parity=measured.sidecar.parity)
    assert measured.sidecar.latency is not None
    assert measured.sidecar.parity is not None
    assert (measured.sidecar.latency.batch, measured.sidecar.latency.runs) == (size, 200)
    assert measured.sidecar.latency.median_ms == pytest.approx(100.5)
    assert measured.sidecar.latency.least_ms == pytest.approx(1.0)
    assert measured.sidecar.parity.pictures == size
    assert measured.sidecar.parity.cosine_min == pytest.approx(1, abs=1e-6)
    assert engine.batches == [(graph, size)] * 221


@pytest.mark.parametrize(("graph", "moved"), [("query", "feature"), ("support", "feature"), ("support", "plain")])
@pytest.mark.parametrize("error", [1.0, float("nan")])
def test_an_engine_that_computes_something_else_is_removed(
    bundle: Bundle, tmp_path: Path, error: float, graph: str, moved: str
) -> None:
    path = put(bundle, tmp_path, graph=graph)
    with pytest.raises(ExportError, match=rf"computes other features than {graph}\.onnx") as raised:
        measure(Plan.load(path), bundle, Engine(error, moved))
    assert "0.9995" in raised.value.expected
    assert not path.exists()
    assert not sidecar_of(path).exists()


@pytest.mark.parametrize(("int8", "fp16", "slower"), [(1.2, 1.0, True), (1.0, 1.0, True), (0.9, 1.0, False)])
def test_int8_is_worth_it_only_where_it_is_faster(
    bundle: Bundle, tmp_path: Path, int8: float, fp16: float, slower: bool
) -> None:
    plan = Plan.load(put(bundle, tmp_path, DEVICE))
    timed = [Plan(plan.path, replace(plan.sidecar, latency=Latency(ms, ms, 1, 200))) for ms in (int8, fp16)]
    assert is_slower(*timed) == slower
    assert not is_slower(plan, timed[1])
