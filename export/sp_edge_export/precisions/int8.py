"""Turns FP32 graphs into INT8 ones, with layers left in float16 where eight bits cost too much."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import onnx

from sp_edge.errors import ExportError
from sp_edge_calibration.graph import load_graph
from sp_edge_calibration.quantize import quantizable, quantize
from sp_edge_calibration.ranges import FLOAT16_MAX, Range, tensor_ranges
from sp_edge_calibration.sensitivity import PICTURES, sensitivities
from sp_edge_export.half import HEADROOM
from sp_edge_export.precisions.conversion import Conversion, Converted, write_halved
from sp_edge_export.verify import Parity

_log = logging.getLogger(__name__)


def to_int8(model: onnx.ModelProto, target: Path, ranges: Mapping[str, Range], *, skip: Collection[str] = ()) -> list[str]:
    """FP32 graph -> graph with quantised layers, the rest of its trunk half.

    Args:
        model: is left as it is, since several attempts start from it.
        ranges: of its tensors on the calibration pictures.
        skip: layers that stay half.

    Returns:
        Names of the operators that stay float32.
    """
    return write_halved(quantize(model, ranges, skip=skip), target, ranges)


def convert(job: Conversion) -> Converted:
    """Both graphs in int8: the better of the variants, with layers left in float16 until they pass on the search's pictures.

    Where all layers can be quantised, nothing is searched. Else the layers are left out in the order of what each alone
    costs, as many as the graphs need to pass. Query and support graph are quantised in the same layers.

    Returns:
        The graphs; they may still not pass, if even the last layer costs too much.

    Raises:
        ExportError: the network has no layer that could be quantised.
    """
    models = {"folded": {graph: load_graph(file) for graph, file in job.sources.items()}}
    if not quantizable(models["folded"]["query"]):
        raise ExportError(
            "int8 would quantize nothing of this network",
            expected="convolutions behind the first, or linear layers with a bias",
            got="neither",
            next_step="--precision fp16",
        )
    with tempfile.TemporaryDirectory() as place:
        for name, files in job.variants(Path(place)).items():
            models[name] = {graph: load_graph(file) for graph, file in files.items()}
    ranges = {
        name: {graph: tensor_ranges(model, job.inputs[graph]) for graph, model in graphs.items()}
        for name, graphs in models.items()
    }

    def attempt(variant: str, skip: Collection[str] = ()) -> tuple[Parity, dict[str, list[str]]]:
        whole = {
            graph: to_int8(model, job.targets[graph], ranges[variant][graph], skip=skip)
            for graph, model in models[variant].items()
        }
        return job.search(job.targets), whole

    tried, last = {}, ""
    for last in models:
        tried[last], whole = attempt(last)
        _log.info(f"int8, {last}: {tried[last]}")
    best = _better(tried, job.max_drop)
    parity = tried[best]
    if best != last:
        parity, whole = attempt(best)
    record: dict[str, Any] = {"variant": best, "tried": {name: parity.to_json() for name, parity in tried.items()}}
    skip: list[str] = []
    if parity.failure(job.max_drop) is not None:
        _log.info(f"int8 does not pass with every layer quantized: measuring what each costs, on {PICTURES} pictures")
        costs = sensitivities(models[best]["query"], ranges[best]["query"], job.inputs["query"], progress=True)
        record["sensitivity"] = {"pictures": PICTURES, "cosine_lost": costs}
        names = [layer.name for layer in quantizable(models[best]["support"])]

        def passes_without(count: int) -> bool:
            nonlocal parity, whole, skip
            left = list(costs)[:count]
            # The support graph has the layers behind the prompt twice, without it and with it: NAME and NAME/2.
            skip = [name for name in names if name.partition("/")[0] in left]
            parity, whole = attempt(best, skip)
            _log.info(f"int8 but for the {count} most costly of {len(costs)} layers: {parity}")
            return parity.failure(job.max_drop) is None

        _find_least(passes_without, len(costs) - 1)
    record |= {"float16": skip, "float32": whole, "limit": FLOAT16_MAX / HEADROOM}
    return Converted(job.targets, record, searched=True)


def _find_least(passes: Callable[[int], bool], most: int) -> None:
    """Doubles a count until it passes, then halves the way back; the last that is asked for is the least that passed."""
    failed, passed = 0, min(1, most)
    while not passes(passed):
        if passed == most:
            return
        failed, passed = passed, min(2 * passed, most)
    last = passed
    while passed - failed > 1:
        last = (failed + passed) // 2
        if passes(last):
            passed = last
        else:
            failed = last
    if last != passed:
        passes(passed)


def _better(tried: Mapping[str, Parity], max_drop: float) -> str:
    """The first of the variants, unless another passes where it does not, or is ahead by more than chance."""
    best, *others = tried
    for name in others:
        ours, theirs = tried[name], tried[best]
        passes, passed = (parity.failure(max_drop) is None for parity in (ours, theirs))
        if passes > passed or (passes == passed and ours.drop.mean - theirs.drop.mean > theirs.drop.interval):
            best = name
    return best
