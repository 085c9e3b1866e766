"""Measures built engines where they run: their features against the graph that they were built from, and their time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sp_edge.bundle.bundle import Bundle, Golden
from sp_edge.bundle.manifest import INPUTS, OUTPUTS
from sp_edge.engines.plans import Plan, sidecar_of
from sp_edge.engines.sidecar import Latency, Parity
from sp_edge.errors import ExportError
from sp_edge.files import write_json
from sp_edge.matching.decide import row_cosines
from sp_edge_calibration.session import open_session

# Least cosine between an engine's features and its graph's, as (mean, minimum).
LIMITS = (0.9995, 0.999)
_WARM, _RUNS = 20, 200

Inputs = dict[str, NDArray[Any]]


class Runs(Protocol):
    """What runs the engines: a backend of the runtime."""

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """A graph's outputs, float32 (N, D) each, of its inputs."""
        ...


def measure(plan: Plan, bundle: Bundle, runs: Runs, *, clock: Callable[[], float] = time.perf_counter) -> Plan:
    """Runs a plan on the golden pictures, and writes what was measured into its sidecar.

    Args:
        plan: that `runs` takes for batches of its largest size.
        clock: seconds.

    Returns:
        The plan with the new sidecar.

    Raises:
        ExportError: its features are not the graph's; the plan is removed.
        BackendError: it does not run.
    """
    what, golden = plan.sidecar, bundle.golden()
    inputs = _batch(golden, what.graph, what.max_batch)
    made, names = runs.run(what.graph, inputs), OUTPUTS[what.graph]
    expected = open_session(bundle.read_graph(what.graph, what.precision), what.onnx_file, names)(inputs)
    cosines = row_cosines(np.stack([made[name] for name in names]), np.stack(expected))
    mean, least = float(cosines.mean()), float(cosines.min())
    if not (mean >= LIMITS[0] and least >= LIMITS[1]):  # so that NaN does not pass
        remove(plan)
        raise ExportError(
            f"the engine {plan.path.name} computes other features than {what.onnx_file}",
            expected=f"cosine at least {LIMITS[0]} on average and {LIMITS[1]} everywhere",
            got=f"{mean:.6f} and {least:.6f}",
            next_step="another --precision; the engine was removed",
        )
    for _ in range(_WARM):
        runs.run(what.graph, inputs)
    times = []
    for _ in range(_RUNS):
        started = clock()
        runs.run(what.graph, inputs)
        times.append((clock() - started) * 1000)
    latency = Latency(float(np.median(times)), min(times), what.max_batch, _RUNS)
    parity = Parity(min(mean, 1.0), min(least, 1.0), what.max_batch)
    measured = Plan(plan.path, replace(what, latency=latency, parity=parity))
    write_json(sidecar_of(plan.path), measured.sidecar.to_json())
    return measured


def is_slower(int8: Plan, fp16: Plan) -> bool:
    """Whether int8 takes at least as long as fp16, both measured."""
    quick, usual = int8.sidecar.latency, fp16.sidecar.latency
    return quick is not None and usual is not None and quick.median_ms >= usual.median_ms


def remove(plan: Plan) -> None:
    """Takes a plan away, its sidecar first: without it nobody reads the plan."""
    sidecar_of(plan.path).unlink(missing_ok=True)
    plan.path.unlink(missing_ok=True)


def _batch(golden: Golden, graph: str, size: int) -> Inputs:
    """`size` golden pictures, over and over where there are fewer, with their prompts where the graph takes them."""
    rows = np.arange(size) % len(golden.images)
    inputs: Inputs = {"image": golden.images[rows], "prompt": golden.prompts[rows]}
    return {name: inputs[name] for name in INPUTS[graph]}
