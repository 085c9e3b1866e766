"""What a conversion of FP32 graphs is given, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from sp_edge_calibration.graph import load_graph
from sp_edge_calibration.ranges import Range, tensor_ranges
from sp_edge_calibration.session import Inputs
from sp_edge_export.half import beyond_half, halve_trunk
from sp_edge_export.verify import Parity

Graphs = Mapping[str, Path]  # 'query', 'support' -> file


@dataclass(frozen=True)
class Conversion:
    """One conversion to do.

    Attributes:
        sources: the FP32 graphs.
        targets: where the converted graphs go.
        inputs: 'query', 'support' -> inputs by name, one row a picture, by which ranges are seen.
        variants: writes the FP32 graphs in other forms, which may convert better, into a folder: name -> graphs.
        search: compares graphs with the FP32 ones, on pictures to choose by.
        max_drop: accuracy, 0 to 1, that the gate will let be lost.
        measured: what `ranges` found; conversions of the same graphs and inputs may share it.
    """

    sources: Graphs
    targets: Graphs
    inputs: Mapping[str, Inputs]
    variants: Callable[[Path], Mapping[str, Graphs]]
    search: Callable[[Graphs], Parity]
    max_drop: float
    measured: dict[str, Mapping[str, Range]] = field(default_factory=dict)

    def ranges(self, graph: str) -> Mapping[str, Range]:
        """Of the tensors of an FP32 graph, 'query' or 'support', on the inputs; measured once.

        Raises:
            ExportError: the graph cannot be read or run.
        """
        if graph not in self.measured:
            self.measured[graph] = tensor_ranges(load_graph(self.sources[graph]), self.inputs[graph])
        return self.measured[graph]


@dataclass(frozen=True)
class Converted:
    """Graphs in a precision.

    Attributes:
        files: where they are.
        record: what was decided for which layers and why, as the manifest has it.
        searched: whether something was chosen by `search`, so that other pictures have to judge.
    """

    files: Graphs
    record: dict[str, Any] = field(default_factory=dict)
    searched: bool = False


Convert = Callable[[Conversion], Converted]


def write_halved(model: onnx.ModelProto, target: Path, ranges: Mapping[str, Range]) -> list[str]:
    """Writes a graph with a half trunk; gives the names of the operators that float16 cannot hold, which stay float32."""
    halved, whole = halve_trunk(model, beyond_half(ranges))
    onnx.save(halved, target)
    return whole
