"""Reads ONNX graphs without trusting them, and finds what is inside."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sp_edge.errors import ExportError

_MAX_BYTES = 2**31 - 1  # what a protobuf file can hold
_MAX_NUMBERS = 2**28  # of one tensor of one picture; the largest of visformer_small at 2048 pixels has a quarter of it


def load_graph(file: Path) -> onnx.ModelProto:
    """Reads a graph that may come from anywhere.

    Raises:
        ExportError: it cannot be read, or as `parse_graph`.
    """
    try:
        size = file.stat().st_size
        if size > _MAX_BYTES:
            raise ExportError(f"{file.name} is no graph of ours", expected=f"at most {_MAX_BYTES:,} bytes", got=f"{size:,}")
        content = file.read_bytes()
    except OSError as cause:
        raise ExportError(f"cannot read {file.name}", expected="an ONNX file", got=str(cause)) from cause
    return parse_graph(content, file.name)


def parse_graph(content: bytes, name: str) -> onnx.ModelProto:
    """A graph that may come from anywhere, from its file's content.

    Its weights must be inside: a graph that names other files could have any file of this machine read. What it declares
    must be there, so that nobody reserves memory for a claim.

    Raises:
        ExportError: truncated, no ONNX, with weights outside, of operators that ONNX does not know, or of tensors that are not
            what they declare to be.
    """
    try:
        model = onnx.load_model_from_string(content)
    except (DecodeError, ValueError) as cause:
        raise ExportError(f"cannot read {name}", expected="an ONNX file", got=str(cause)[:300] or "damaged") from cause
    if not model.graph.node:
        raise ExportError(f"cannot read {name}", expected="an ONNX file", got="no operators")
    _check_parts(model, name)
    try:
        onnx.checker.check_model(model)
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    except Exception as cause:  # onnx's own errors have no common type
        raise ExportError(f"{name} is no valid graph", got=str(cause)[:300]) from cause
    for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
        numbers = math.prod(dim.dim_value for dim in value.type.tensor_type.shape.dim if dim.dim_value)
        if numbers > _MAX_NUMBERS:
            raise ExportError(
                f"a tensor of {name} is too large: {value.name}",
                expected=f"at most {_MAX_NUMBERS:,} numbers a picture",
                got=f"{numbers:,}",
            )
    return model


def _check_parts(model: onnx.ModelProto, name: str) -> None:
    foreign = sorted({entry.domain for entry in model.opset_import if entry.domain not in ("", "ai.onnx")})
    if foreign or model.functions:
        raise ExportError(
            f"{name} has operators of its own", expected="ONNX's", got=", ".join(foreign) or model.functions[0].name
        )
    for tensor in _tensors(model.graph):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise ExportError(
                f"{name} has weights outside: {tensor.name}",
                expected="weights inside the file",
                got=", ".join(f"{entry.key} {entry.value}" for entry in tensor.external_data)[:200],
            )
        try:
            declared = math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        except (KeyError, TypeError) as cause:
            raise ExportError(f"{name} has a tensor of no known type: {tensor.name}", got=str(tensor.data_type)) from cause
        # Small constants may stand as numbers of a field each; then there are as many as declared, or reading them fails.
        held = len(tensor.raw_data) if tensor.HasField("raw_data") else tensor.ByteSize() * 8
        if min(tensor.dims, default=0) < 0 or declared > held:
            raise ExportError(
                f"a tensor of {name} is not what it declares to be: {tensor.name}",
                expected=f"{list(tensor.dims)}, {declared:,} bytes",
                got=f"{held:,} bytes",
            )


def _tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution, or a linear layer's product.

    Attributes:
        name: such as 'backbone.stage2.0.attn.qkv'.
        data, output: tensors that it takes, before quantisation, and gives.
        weight: of a convolution float (out, in / groups, h, w), of a linear layer float (in, out).
        axis: of the weight's output channels.
    """

    name: str
    data: str
    output: str
    weight: NDArray[np.floating[Any]]
    axis: int = 0


def layers_of(model: onnx.ModelProto) -> list[Layer]:
    """The convolutions in the order of work; what merely converts numbers on the way to them is looked through."""
    constants = {constant.name: constant for constant in model.graph.initializer}
    origin = _origins(model)
    found = []
    for number, node in enumerate(node for node in model.graph.node if node.op_type == "Conv"):
        weight = constants.get(origin(node.input[1]))
        if weight is None:
            raise ExportError(f"the weights of {node.name} are no constant", expected="an initializer", got=node.input[1])
        name = node.name or f"convolution {number}"
        found.append(Layer(name, origin(node.input[0]), node.output[0], numpy_helper.to_array(weight)))
    return found


def linear_layers_of(model: onnx.ModelProto) -> list[Layer]:
    """The products with the weights of the backbone's linear layers, in the order of work; see `layers_of`.

    Those of prompts are none of the backbone's, and products of two activations, as in attention, have no weights.
    """
    constants = {constant.name: constant for constant in model.graph.initializer}
    origin = _origins(model)
    return [
        Layer(node.name, origin(node.input[0]), node.output[0], numpy_helper.to_array(weight), axis=1)
        for node in model.graph.node
        if node.op_type == "MatMul" and node.name.startswith("backbone.")
        if (weight := constants.get(origin(node.input[1]))) is not None and len(weight.dims) == 2
    ]


def _origins(model: onnx.ModelProto) -> Callable[[str], str]:
    """Finds the tensor of which another one is merely a conversion."""
    makers = {output: node for node in model.graph.node for output in node.output}

    def origin(name: str) -> str:
        while (node := makers.get(name)) is not None and node.op_type in ("QuantizeLinear", "DequantizeLinear", "Cast"):
            name = node.input[0]
        return name

    return origin


def tapped(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """A copy of a graph that gives out tensors from inside, beside its own outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    given = {value.name for value in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(tensors) if name not in given)
    return copy
