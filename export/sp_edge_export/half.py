"""Rewrites a float32 graph so that its trunk computes in float16, but for what that format cannot hold."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sp_edge.errors import ExportError
from sp_edge_calibration.ranges import FLOAT16_MAX, Range, reach

SMALLEST = float(np.finfo(np.float16).smallest_subnormal)
# A tensor that came within this factor of the end of float16's range may pass it on a picture that was not measured.
HEADROOM = 4.0

Nodes = list[onnx.NodeProto]
_PAIR = ("QuantizeLinear", "DequantizeLinear")


def beyond_half(ranges: Mapping[str, Range]) -> set[str]:
    """The tensors whose values came near the end of float16's range, or were no numbers."""
    return {name for name, bounds in ranges.items() if not reach(bounds) <= FLOAT16_MAX / HEADROOM}


def halve_trunk(model: onnx.ModelProto, beyond: Collection[str] = ()) -> tuple[onnx.ModelProto, list[str]]:
    """Halves everything from the first convolution up to the pooling (each ReduceMean behind the last convolution, if any).

    The normalisation before it, with its values up to 255, and all from the pooling on stay float32, as do the graph's
    inputs and outputs. So does every operator in the trunk that takes or gives a tensor of `beyond`, or has a constant that
    does not fit. Q/DQ nodes get half scales, so that what they hand on is half, too.

    Args:
        model: is changed in place.
        beyond: tensors that float16 cannot hold. What a Q/DQ pair makes of one of them is as large.

    Returns:
        The model, and the names of the trunk's operators that stayed float32.

    Raises:
        ExportError: no convolution, or a constant that is no number.
    """
    _constants_to_initializers(model.graph)
    nodes = list(model.graph.node)
    trunk = _trunk(nodes)
    constants = {c.name: c for c in model.graph.initializer if c.data_type == TensorProto.FLOAT}
    unfit = {name for name, constant in constants.items() if not _fits(constant)}
    large = unfit | set(beyond)
    for node in nodes:
        if node.op_type in _PAIR and node.input[0] in large:
            large.add(node.output[0])
    touched = [node for node in trunk if large & {*node.input, *node.output}]
    whole = {node.output[0] for node in touched}
    writer = _Writer(model, constants, {node.output[0] for node in trunk} - whole)
    for node in nodes:
        writer.add(node)
    writer.finish()
    onnx.checker.check_model(model, full_check=True)
    return model, [node.name or node.output[0] for node in touched]


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    """Constants of one kind are one case less to think of."""
    kept = []
    for node in graph.node:
        value = next((a.t for a in node.attribute if a.name == "value"), None) if node.op_type == "Constant" else None
        if value is None:
            kept.append(node)
            continue
        constant = graph.initializer.add()
        constant.CopyFrom(value)
        constant.name = node.output[0]
    del graph.node[:]
    graph.node.extend(kept)


def _trunk(nodes: Nodes) -> Nodes:
    """What neither feeds the first convolution's data input nor follows from the pooling on."""
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    if not convolutions:
        raise ExportError("the graph has no trunk to halve", expected="a convolution", got=f"{len(nodes)} other nodes")
    upstream = {convolutions[0].input[0]}
    for node in reversed(nodes):
        if upstream & set(node.output):
            upstream |= set(node.input)
    after: set[str] = set()
    for pooling in (node for node in nodes if node.op_type == "ReduceMean"):
        downstream = set(pooling.output)
        for node in nodes:
            if downstream & set(node.input):
                downstream |= set(node.output)
        if not any(downstream & set(node.output) for node in convolutions):
            after |= downstream
    return [node for node in nodes if not set(node.output) & (upstream | after)]


class _Writer:
    """Writes a graph's nodes anew, with a cast wherever a float tensor passes between float32 and float16."""

    def __init__(self, model: onnx.ModelProto, constants: Mapping[str, TensorProto], halved: set[str]) -> None:
        self._graph = model.graph
        self._constants = constants
        self._halved = halved  # first outputs of the nodes that compute in half
        typed = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
        values = (*typed.value_info, *typed.input, *typed.output)
        self._floats = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT} | set(constants)
        self._half: set[str] = set()  # tensors that are half now
        self._nodes: Nodes = []
        self._cast: set[str] = set()

    def add(self, node: onnx.NodeProto) -> None:
        half = node.output[0] in self._halved
        quantises = node.op_type in _PAIR
        for i, name in enumerate(node.input):
            if name in self._floats:
                node.input[i] = self._as(name, half, least=SMALLEST if quantises and i == 1 else 0)
        if half:
            self._half |= set(node.output) & self._floats
            for attribute in node.attribute:
                if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                    attribute.i = TensorProto.FLOAT16
        self._nodes.append(node)

    def _as(self, name: str, half: bool, least: float) -> str:
        """The tensor's name in the precision that is asked for; makes it where it is not there yet."""
        if (name in self._half) == half:
            return name
        other = f"{name}_half" if half else f"{name}_float"
        if other not in self._cast:
            self._cast.add(other)
            if half and name in self._constants:
                self._graph.initializer.append(_half(self._constants[name], other, least))
            else:
                self._nodes.append(_cast(name, other, TensorProto.FLOAT16 if half else TensorProto.FLOAT))
        return other

    def finish(self) -> None:
        """Gives the outputs back their type and name, drops constants that nobody uses any more."""
        for output in self._graph.output:
            if output.name in self._half:
                inside = f"{output.name}_half"
                for node in self._nodes:
                    for names in (node.input, node.output):
                        for i, name in enumerate(names):
                            if name == output.name:
                                names[i] = inside
                self._nodes.append(_cast(inside, output.name, TensorProto.FLOAT))
        used = {name for node in self._nodes for name in node.input} | {o.name for o in self._graph.output}
        constants = [c for c in self._graph.initializer if c.name in used]
        for part in (self._graph.node, self._graph.initializer, self._graph.value_info):
            del part[:]
        self._graph.node.extend(self._nodes)
        self._graph.initializer.extend(constants)


def _fits(constant: TensorProto) -> bool:
    """Whether the constant is within float16's range.

    Raises:
        ExportError: it has values that are no numbers.
    """
    most = np.abs(numpy_helper.to_array(constant)).max(initial=0)
    if not np.isfinite(most):
        raise ExportError(f"the constant {constant.name} is not finite", expected="numbers", got=str(most))
    return bool(most <= FLOAT16_MAX)


def _half(constant: TensorProto, name: str, least: float) -> TensorProto:
    """The constant in float16; what is not zero stays at least `least`: TensorRT refuses a scale that has become zero."""
    values = numpy_helper.to_array(constant)
    values = np.where((values > 0) & (values < least), least, values)
    return numpy_helper.from_array(values.astype(np.float16), name)


def _cast(source: str, target: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=kind)
