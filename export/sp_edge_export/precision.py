"""Turns FP32 graphs into FP16 or INT8 ones. Precision stands in the graph itself, as strongly typed TensorRT wants it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from sp_edge_calibration.graph import load_graph
from sp_edge_calibration.quantize import quantizable, quantize
from sp_edge_calibration.ranges import FLOAT16_MAX, Range, tensor_ranges
from sp_edge_calibration.sensitivity import PICTURES, sensitivities
from sp_edge_calibration.session import Inputs
from sp_edge_export.half import HEADROOM, beyond_half, halve_trunk
from sp_edge_export.verify import Parity

GraphInputs = Mapping[str, Inputs]  # 'query', 'support' -> inputs by name, one row a picture
Measure = Callable[[Mapping[str, Path]], Parity]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Converted:
    """Graphs in a precision.

    Attributes:
        files: 'query', 'support' -> file.
        parity: of the graphs, against the fp32 ones.
        record: what was decided for which layers and why, as the manifest has it.
    """

    files: Mapping[str, Path]
    parity: Parity
    record: dict[str, Any] = field(default_factory=dict)


def to_fp16(source: Path, target: Path, inputs: Inputs) -> list[str]:
    """FP32 graph -> graph with a half trunk.

    Args:
        inputs: pictures by whose values it is decided what stays float32.

    Returns:
        Names of the operators that stay float32, because float16 could not hold their values.
    """
    model = load_graph(source)
    return _halve(model, target, tensor_ranges(model, inputs))


def to_int8(model: onnx.ModelProto, target: Path, ranges: Mapping[str, Range], *, skip: Collection[str] = ()) -> list[str]:
    """FP32 graph -> graph with quantised convolutions, the rest of its trunk half.

    Args:
        model: is left as it is, since several attempts start from it.
        ranges: of its tensors on the calibration pictures.
        skip: layers that stay half.

    Returns:
        Names of the operators that stay float32.
    """
    return _halve(quantize(model, ranges, skip=skip), target, ranges)


def _halve(model: onnx.ModelProto, target: Path, ranges: Mapping[str, Range]) -> list[str]:
    halved, whole = halve_trunk(model, beyond_half(ranges))
    onnx.save(halved, target)
    return whole


def convert_to_fp16(
    sources: Mapping[str, Path], targets: Mapping[str, Path], inputs: GraphInputs, measure: Measure
) -> Converted:
    """Both graphs in float16."""
    whole = {graph: to_fp16(source, targets[graph], inputs[graph]) for graph, source in sources.items()}
    return Converted(targets, measure(targets), {"float32": whole, "limit": FLOAT16_MAX / HEADROOM})


def convert_to_int8(
    variants: Mapping[str, Mapping[str, Path]],
    targets: Mapping[str, Path],
    inputs: GraphInputs,
    measure: Measure,
    max_drop: float,
) -> Converted:
    """Both graphs in int8: the better of the variants, with layers left in float16 until the gate lets it pass.

    Where all layers can be quantised, nothing is searched. Else the layers are left out in the order of what each alone
    costs, as many as the graphs need to pass. Query and support graph are quantised in the same layers.

    Args:
        variants: 'folded', 'unfolded' -> FP32 graphs.
        targets: where the converted graphs go.
        inputs: calibration inputs.
        measure: compares graphs with the fp32 stage.
        max_drop: accuracy that may be lost.

    Returns:
        The graphs; they may still not pass, if even the last layer costs too much.
    """
    models = {name: {graph: load_graph(file) for graph, file in files.items()} for name, files in variants.items()}
    ranges = {
        name: {graph: tensor_ranges(model, inputs[graph]) for graph, model in graphs.items()} for name, graphs in models.items()
    }

    def attempt(variant: str, skip: Collection[str] = ()) -> tuple[Parity, dict[str, list[str]]]:
        whole = {
            graph: to_int8(model, targets[graph], ranges[variant][graph], skip=skip) for graph, model in models[variant].items()
        }
        return measure(targets), whole

    tried, last = {}, ""
    for last in variants:
        tried[last], whole = attempt(last)
        _log.info(f"int8, {last}: {tried[last]}")
    best = _better(tried, max_drop)
    parity = tried[best]
    if best != last:
        parity, whole = attempt(best)
    record: dict[str, Any] = {"variant": best, "tried": {name: parity.to_json() for name, parity in tried.items()}}
    skip: list[str] = []
    if parity.failure(max_drop) is not None:
        _log.info(f"int8 does not pass with every layer quantised: measuring what each costs, on {PICTURES} pictures")
        costs = sensitivities(models[best]["query"], ranges[best]["query"], inputs["query"], progress=True)
        record["sensitivity"] = {"pictures": PICTURES, "cosine_lost": costs}
        names = [layer.name for layer in quantizable(models[best]["support"])]

        def passes_without(count: int) -> bool:
            nonlocal parity, whole, skip
            left = list(costs)[:count]
            # The support graph has the layers behind the prompt twice, without it and with it: NAME and NAME/2.
            skip = [name for name in names if name.partition("/")[0] in left]
            parity, whole = attempt(best, skip)
            _log.info(f"int8 but for the {count} most costly of {len(costs)} layers: {parity}")
            return parity.failure(max_drop) is None

        _find_least(passes_without, len(costs) - 1)
    record |= {"float16": skip, "float32": whole, "limit": FLOAT16_MAX / HEADROOM}
    return Converted(targets, parity, record)


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
