"""Runs ONNX graphs on the CPU, whose errors come as ours; a graph from a file is read as a stranger's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sp_edge.errors import ExportError

if TYPE_CHECKING:
    import onnx

Inputs = Mapping[str, NDArray[Any]]  # by name, one row a picture
Run = Callable[[Inputs], list[NDArray[Any]]]

BATCH = 16
_FATAL = 4  # the one severity that ONNX Runtime may still print: its other words come to the user as our errors


def open_session(graph: Path | bytes, name: str, outputs: Sequence[str] = ("feature",)) -> Run:
    """Makes a graph callable: inputs by name -> the outputs.

    Args:
        graph: a file, or what one would hold.
        name: for messages.

    Raises:
        ExportError: it is no sound graph, or ONNX Runtime cannot load it; or, by what is given back, cannot run it.
    """
    if isinstance(graph, Path):
        check_graph(graph)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    try:
        source = graph if isinstance(graph, bytes) else str(graph)
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as cause:  # ONNX Runtime's own errors have no common type
        raise ExportError(f"ONNX Runtime cannot load {name}", got=str(cause)) from cause

    def run(inputs: Inputs) -> list[NDArray[Any]]:
        try:
            return session.run(list(outputs), dict(inputs))
        except Exception as cause:
            raise ExportError(f"ONNX Runtime cannot run {name}", expected=", ".join(inputs), got=str(cause)) from cause

    return run


def check_graph(file: Path) -> None:
    """Looks whether a file is a sound graph, where that can be done: a device that only runs graphs has no onnx.

    Raises:
        ExportError: see `sp_edge_calibration.graph.load_graph`.
    """
    try:
        from sp_edge_calibration.graph import load_graph
    except ModuleNotFoundError as missing:
        if missing.name != "onnx":
            raise
    else:
        load_graph(file)


def batches(inputs: Inputs, size: int = BATCH) -> Iterator[dict[str, NDArray[Any]]]:
    """The rows of the inputs, `size` at a time."""
    count = len(next(iter(inputs.values())))
    for start in range(0, count, size):
        yield {name: rows[start : start + size] for name, rows in inputs.items()}


def run_in_batches(run: Run, inputs: Inputs) -> list[NDArray[np.float32]]:
    """A graph's outputs for all rows of the inputs."""
    return [np.concatenate(parts) for parts in zip(*(run(batch) for batch in batches(inputs)), strict=True)]


def features_of(model: onnx.ModelProto, inputs: Inputs, name: str = "the graph") -> NDArray[np.float32]:
    """The features that a graph gives: float32 (n, D).

    Raises:
        ExportError: ONNX Runtime cannot load or run it.
    """
    (feature,) = run_in_batches(open_session(model.SerializeToString(), name), inputs)
    return feature
