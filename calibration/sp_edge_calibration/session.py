"""Runs ONNX graphs on pictures, batch by batch, on the CPU; a graph from a file is read as a stranger's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.bundle.session import Session
from sp_edge.errors import ExportError

if TYPE_CHECKING:
    import onnx

Inputs = Mapping[str, NDArray[Any]]  # by name, one row a picture
Run = Callable[[Inputs], list[NDArray[Any]]]

BATCH = 16


def open_session(graph: Path | bytes, name: str, outputs: Sequence[str] = ("feature",)) -> Run:
    """Makes a graph callable: inputs by name -> the outputs.

    Args:
        graph: a file, which is read as a stranger's, or what one would hold.
        name: for messages.
        outputs: names of those that are wanted.

    Raises:
        ExportError: it is no sound graph, or ONNX Runtime cannot load it; or, by what is given back, cannot run it.
    """
    if isinstance(graph, Path):
        graph = _read(graph)
        check_graph(graph, name)
    session = Session(graph, name, ExportError)
    return lambda inputs: session.run(inputs, outputs)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as cause:
        raise ExportError(f"cannot read {file.name}", expected="an ONNX file", got=str(cause)) from cause


def check_graph(content: bytes, name: str) -> None:
    """Looks whether a file's content is a sound graph, where that can be done: a device that only runs graphs has no onnx.

    Raises:
        ExportError: see `sp_edge_calibration.graph.parse_graph`.
    """
    try:
        from sp_edge_calibration.graph import parse_graph
    except ModuleNotFoundError as missing:
        if missing.name != "onnx":
            raise
    else:
        parse_graph(content, name)


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
