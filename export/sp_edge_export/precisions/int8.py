"""Turns FP32 graphs into INT8 ones, for GPUs and for CPUs, with layers left in float where eight bits cost too much."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from sp_edge.errors import ExportError
from sp_edge_calibration.graph import Layer, load_graph
from sp_edge_calibration.quantize import quantizable, quantize
from sp_edge_calibration.quantize_cpu import quantizable_on_cpu, quantize_for_cpu
from sp_edge_calibration.ranges import FLOAT16_MAX, Range, tensor_ranges
from sp_edge_calibration.sensitivity import PICTURES, sensitivities
from sp_edge_export.half import HEADROOM
from sp_edge_export.precisions.conversion import Conversion, Converted, write_halved
from sp_edge_export.verify import Parity

_log = logging.getLogger(__name__)
FOLDED = "folded"  # the variant that the FP32 graphs are themselves


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


@dataclass(frozen=True)
class _Form:
    """One way to quantize.

    Attributes:
        name: for messages.
        layers: of a graph, that can be quantized.
        quantized: quantizes them, as `quantize` does.
        write: writes a graph of an FP32 one, as `to_int8` does.
    """

    name: str
    layers: Callable[[onnx.ModelProto], Sequence[Layer]]
    quantized: Callable[..., onnx.ModelProto]
    write: Callable[..., list[str]]


def convert(job: Conversion) -> Converted:
    """Both graphs in the form for GPUs, which is TensorRT's: the better of the variants; see `_searched`."""
    models = {FOLDED: {graph: load_graph(file) for graph, file in job.sources.items()}}
    with tempfile.TemporaryDirectory() as place:
        for name, files in job.variants(Path(place)).items():
            models[name] = {graph: load_graph(file) for graph, file in files.items()}
    record, left = _searched(job, models, _Form("int8", quantizable, quantize, to_int8))
    return Converted(job.targets, record | {"float16": left, "limit": FLOAT16_MAX / HEADROOM}, searched=True)


def convert_for_cpu(job: Conversion) -> Converted:
    """Both graphs in the form for CPUs, with BatchNorms folded, which CPUs run fastest; see `_searched`."""
    models = {FOLDED: {graph: load_graph(file) for graph, file in job.sources.items()}}
    record, _ = _searched(job, models, _Form("int8 for CPUs", quantizable_on_cpu, quantize_for_cpu, to_int8_for_cpu))
    return Converted(job.targets, record, searched=True)


def to_int8_for_cpu(
    model: onnx.ModelProto, target: Path, ranges: Mapping[str, Range], *, skip: Collection[str] = ()
) -> list[str]:
    """FP32 graph -> graph that a CPU runs in integers, but for the layers `skip`, which it gives back; see `to_int8`."""
    onnx.save(quantize_for_cpu(model, ranges, skip=skip), target)
    return list(skip)


def _searched(
    job: Conversion, models: Mapping[str, Mapping[str, onnx.ModelProto]], form: _Form
) -> tuple[dict[str, Any], list[str]]:
    """The better of the variants, with layers left in float until they pass on the search's pictures.

    Where all layers can be quantised, nothing is searched. Else the layers are left out in the order of what each alone
    costs, as many as the graphs need to pass. Query and support graph are quantised in the same layers.

    Returns:
        What was decided, and the layers that were left out. The graphs may still not pass, if even the last layer costs too
        much.

    Raises:
        ExportError: the network has no layer that could be quantised.
    """
    if not form.layers(models[FOLDED]["query"]):
        raise ExportError(
            "int8 would quantize nothing of this network",
            expected="convolutions behind the first, or linear layers with a bias",
            got="neither",
            next_step="--precision fp16",
        )
    ranges: dict[str, dict[str, Mapping[str, Range]]] = {
        name: {graph: tensor_ranges(model, job.inputs[graph]) for graph, model in graphs.items()}
        for name, graphs in models.items()
        if name != FOLDED
    }
    ranges[FOLDED] = {graph: job.ranges(graph) for graph in models[FOLDED]}

    def attempt(variant: str, skip: Collection[str] = ()) -> tuple[Parity, dict[str, list[str]]]:
        whole = {
            graph: form.write(model, job.targets[graph], ranges[variant][graph], skip=skip)
            for graph, model in models[variant].items()
        }
        return job.search(job.targets), whole

    tried, last = {}, ""
    for last in models:
        tried[last], whole = attempt(last)
        _log.info(f"{form.name}, {last}: {tried[last]}")
    best = _better(tried, job.max_drop)
    parity = tried[best]
    if best != last:
        parity, whole = attempt(best)
    record: dict[str, Any] = {"variant": best, "tried": {name: parity.to_json() for name, parity in tried.items()}}
    skip: list[str] = []
    if parity.failure(job.max_drop) is not None:
        _log.info(f"{form.name} does not pass with every layer quantized: measuring what each costs, on {PICTURES} pictures")
        costs = sensitivities(
            models[best]["query"],
            ranges[best]["query"],
            job.inputs["query"],
            layers=form.layers,
            quantized=form.quantized,
            progress=True,
        )
        record["sensitivity"] = {"pictures": PICTURES, "cosine_lost": costs}
        names = [layer.name for layer in form.layers(models[best]["support"])]

        def passes_without(count: int) -> bool:
            nonlocal parity, whole, skip
            left = list(costs)[:count]
            # The support graph has the layers behind the prompt twice, without it and with it: NAME and NAME/2.
            skip = [name for name in names if name.partition("/")[0] in left]
            parity, whole = attempt(best, skip)
            _log.info(f"{form.name} but for the {count} most costly of {len(costs)} layers: {parity}")
            return parity.failure(job.max_drop) is None

        _find_least(passes_without, len(costs) - 1)
    return record | {"float32": whole}, skip


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
