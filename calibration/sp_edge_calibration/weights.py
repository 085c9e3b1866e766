"""Stores a graph's large weights in eight bits and computes in float32: smaller, nearly exact, and alike on every CPU.

ONNX Runtime's dynamic quantisation rounds the activations, too. That is faster, but ten times as far from the original, ties
a row's rounding to the rows beside it, and its sums overflow on CPUs without VNNI unless weights keep to seven bits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

LEVELS = 127
LEAST = 1 << 12  # numbers; smaller weights stay as they are


def quantize_weights(source: Path, target: Path) -> int:
    """Quantises the weights of MatMul, each output channel with its own scale, and the tables of Gather, row by row.

    Args:
        source: a float32 graph.
        target: the graph to write.

    Returns:
        How many weights were quantised.
    """
    model = onnx.load(source)
    graph = model.graph
    constants = {c.name: c for c in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    done: set[str] = set()
    for node in graph.node:
        place, axis = {"MatMul": (1, 0), "Gather": (0, 1)}.get(node.op_type, (0, -1))
        weight = constants.get(node.input[place]) if axis >= 0 and len(node.input) > place else None
        if weight is None or weight.data_type != TensorProto.FLOAT or len(weight.dims) != 2 or np.prod(weight.dims) < LEAST:
            nodes.append(node)
            continue
        if node.op_type == "Gather" and any(a.name == "axis" and a.i != 0 for a in node.attribute):
            nodes.append(node)
            continue
        stored = f"{weight.name}.{'rows' if axis else 'columns'}"  # tied weights may be needed both ways
        if stored not in done:
            done.add(stored)
            levels, scale = _levels(numpy_helper.to_array(weight), axis)
            graph.initializer.append(numpy_helper.from_array(levels, f"{stored}.int8"))
            graph.initializer.append(numpy_helper.from_array(scale if axis else scale.reshape(-1), f"{stored}.scale"))
        nodes += _gather(node, stored) if axis else _matmul(node, stored)
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in graph.node for name in node.input}
    kept = [c for c in graph.initializer if c.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, target)
    return len(done)


def _levels(weight: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 (a, b) and scales float32 that are shared along `axis`; their product is the weight, to half a scale."""
    scale = np.abs(weight).max(axis=axis, keepdims=True) / LEVELS
    scale = np.where(scale > 0, scale, 1).astype(np.float32)
    return np.clip(np.round(weight / scale), -LEVELS, LEVELS).astype(np.int8), scale


def _matmul(node: onnx.NodeProto, stored: str) -> list[onnx.NodeProto]:
    name = f"{node.name or node.output[0]}.weight"
    rest = helper.make_node("MatMul", [node.input[0], name], list(node.output), name=node.name)
    return [
        helper.make_node("DequantizeLinear", [f"{stored}.int8", f"{stored}.scale"], [name], name=name, axis=1),
        rest,
    ]


def _gather(node: onnx.NodeProto, stored: str) -> list[onnx.NodeProto]:
    """Looks up eight-bit rows and their scales, so that the table stays small in memory, too."""
    out, indices = node.output[0], node.input[1]
    return [
        helper.make_node("Gather", [f"{stored}.int8", indices], [f"{out}.int8"], name=f"{out}.int8"),
        helper.make_node("Gather", [f"{stored}.scale", indices], [f"{out}.scale"], name=f"{out}.scale"),
        helper.make_node("Cast", [f"{out}.int8"], [f"{out}.levels"], name=f"{out}.levels", to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{out}.levels", f"{out}.scale"], [out], name=f"{out}.rows"),
    ]
