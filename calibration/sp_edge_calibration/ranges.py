"""Finds between which values a graph's tensors stay on real pictures."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from sp_edge_calibration.graph import tapped
from sp_edge_calibration.session import Inputs, batches, open_session

Range = tuple[float, float]  # least and largest value
FLOAT16_MAX = 65504.0


def tensor_ranges(model: onnx.ModelProto, inputs: Inputs) -> dict[str, Range]:
    """Least and largest value of every float32 tensor that the graph computes.

    The graph itself finds them, so that of each tensor only two numbers leave it.

    Args:
        inputs: by name, one row a picture, as the graph takes them.

    Returns:
        Tensor -> range; NaN where a value is none.

    Raises:
        ExportError: ONNX Runtime cannot run the graph.
    """
    typed = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*typed.value_info, *typed.output)}
    made = [name for node in model.graph.node if node.op_type != "Constant" for name in node.output]
    names = [name for name in made if kinds.get(name) == TensorProto.FLOAT]
    taps = [f"{name}/{end}" for name in names for end in ("ReduceMin", "ReduceMax")]
    measured = tapped(model, taps)
    measured.graph.node.extend(
        helper.make_node(end, [name], [f"{name}/{end}"], keepdims=0) for name in names for end in ("ReduceMin", "ReduceMax")
    )
    run = open_session(measured.SerializeToString(), "the graph with its ranges", taps)
    values = np.array([run(batch) for batch in batches(inputs)], np.float64).reshape(-1, len(names), 2)
    low, high = values[:, :, 0].min(axis=0), values[:, :, 1].max(axis=0)
    return {name: (float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)}


def reach(bounds: Range) -> float:
    """The largest absolute value of a range."""
    return float(np.abs(bounds).max())
