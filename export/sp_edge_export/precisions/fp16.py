"""Turns FP32 graphs into FP16 ones. Precision stands in the graph itself, as strongly typed TensorRT wants it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sp_edge_calibration.graph import load_graph
from sp_edge_calibration.ranges import FLOAT16_MAX, Range
from sp_edge_export.half import HEADROOM
from sp_edge_export.precisions.conversion import Conversion, Converted, write_halved


def to_fp16(source: Path, target: Path, ranges: Mapping[str, Range]) -> list[str]:
    """FP32 graph -> graph with a half trunk.

    Args:
        ranges: of its tensors on pictures, by which it is decided what stays float32.

    Returns:
        Names of the operators that stay float32, because float16 could not hold their values.
    """
    return write_halved(load_graph(source), target, ranges)


def convert(job: Conversion) -> Converted:
    """Both graphs in float16."""
    whole = {graph: to_fp16(source, job.targets[graph], job.ranges(graph)) for graph, source in job.sources.items()}
    return Converted(job.targets, {"float32": whole, "limit": FLOAT16_MAX / HEADROOM})
