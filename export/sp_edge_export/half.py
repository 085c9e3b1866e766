"""Rewrites a float32 graph so that its trunk computes in float16."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sp_edge.errors import ExportError

FLOAT16_MAX = 65504.0
SMALLEST = float(np.finfo(np.float16).smallest_subnormal)


def halve_trunk(model: onnx.ModelProto) -> onnx.ModelProto:
    """Halves everything from the first convolution up to the pooling (a ReduceMean behind the last convolution, if any).

    The normalisation before it, with its values up to 255, and all from the pooling on stay float32, as do the graph's
    inputs and outputs. Q/DQ nodes in the trunk get half scales, so that what they hand on is half, too.

    Raises:
        ExportError: no convolution, or a constant beyond float16's range.
    """
    before, trunk, after = _divide(list(model.graph.node))

    typed = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    floats = {
        v.name for v in (*typed.value_info, *typed.input, *typed.output) if v.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    constants = {c.name: c for c in model.graph.initializer if c.data_type == TensorProto.FLOAT}
    made = {name for node in trunk for name in node.output}
    used = {name for node in trunk for name in node.input}
    used_outside = {name for node in (*before, *after) for name in node.input} | {o.name for o in model.graph.output}

    renamed = {name: f"{name}_half" for name in used if name in constants or (name in floats and name not in made)}
    scales = {node.input[1] for node in trunk if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
    for name in sorted(used & set(constants)):
        model.graph.initializer.append(_half(constants[name], renamed[name], least=SMALLEST if name in scales else 0))
        if name not in used_outside:
            model.graph.initializer.remove(constants[name])
    entering = [_cast(name, renamed[name], TensorProto.FLOAT16) for name in sorted(renamed) if name not in constants]
    leaving = sorted((made & used_outside) & floats)
    restored = {name: f"{name}_half" for name in leaving}
    for node in trunk:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name) or restored.get(name) or name
        for i, name in enumerate(node.output):
            node.output[i] = restored.get(name, name)
        _retarget(node)
    casts = [_cast(restored[name], name, TensorProto.FLOAT) for name in leaving]

    del model.graph.node[:]
    model.graph.node.extend([*before, *entering, *trunk, *casts, *after])
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return model


def _divide(nodes: list[onnx.NodeProto]) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto], list[onnx.NodeProto]]:
    """What feeds the first convolution's data input; the trunk; what follows from the pooling on."""
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    if not convolutions:
        raise ExportError("the graph has no trunk to halve", expected="a convolution", got=f"{len(nodes)} other nodes")
    upstream = {convolutions[0].input[0]}
    for node in reversed(nodes):
        if upstream & set(node.output):
            upstream |= set(node.input)
    before = [bool(upstream & set(node.output)) for node in nodes]
    after = [False] * len(nodes)
    for pooling in (node for node in nodes if node.op_type == "ReduceMean"):
        downstream = set(pooling.output)
        for node in nodes:
            if downstream & set(node.input):
                downstream |= set(node.output)
        if not any(downstream & set(node.output) for node in convolutions):
            after = [bool(downstream & set(node.output)) for node in nodes]
    parts = [(node, b, a) for node, b, a in zip(nodes, before, after, strict=True)]
    return [n for n, b, _ in parts if b], [n for n, b, a in parts if not b and not a], [n for n, _, a in parts if a]


def _half(constant: TensorProto, name: str, *, least: float = 0) -> TensorProto:
    """The constant in float16; what is not zero stays at least `least`: TensorRT refuses a scale that has become zero."""
    values = numpy_helper.to_array(constant)
    if not np.abs(values).max(initial=0) <= FLOAT16_MAX:
        raise ExportError(
            f"the constant {constant.name} does not fit float16",
            expected=f"at most {FLOAT16_MAX}",
            got=str(np.abs(values).max()),
        )
    values = np.where((values > 0) & (values < least), least, values)
    return numpy_helper.from_array(values.astype(np.float16), name)


def _cast(source: str, target: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=kind)


def _retarget(node: onnx.NodeProto) -> None:
    """Turns what a node itself says about float32 into float16."""
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        if node.op_type == "Constant" and attribute.name == "value" and attribute.t.data_type == TensorProto.FLOAT:
            attribute.t.CopyFrom(_half(attribute.t, attribute.t.name))
