"""Puts Q/DQ nodes around the layers of an FP32 graph, in the form that CPUs run in integers from end to end.

TensorRT's form (`quantize`) is symmetric and keeps biases, Clips and Adds in float, which CPUs run slower than float32. Here
activations are uint8 with a zero point, so that the end of a range stands for Clip and Relu; weights are int8 with a scale a
channel, biases int32, and Adds of quantized tensors are integers, too. onnxruntime.quantization writes the nodes.

CPUs without VNNI add two products of uint8 and int8 in 16 bits, and what is beyond is cut off without a word. Which two are
added depends on the engine. So the scale of each channel leaves room for the two largest weights of either sign: the result is
the same on every CPU. Seven-bit weights (`reduce_range`) do so, too, and lose far more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import QDQQuantizer, QuantType, TensorData

from sp_edge_calibration.graph import Layer, layers_of, linear_layers_of
from sp_edge_calibration.ranges import Range

# 255 * (127 + 1) is within 16 bits: two weights may add up to 127, and rounding adds at most a half to each.
PAIR = 127.0
# What can take the quantized tensors of convolutions as they are.
_FOLLOWERS = ("Add", "Clip", "MaxPool", "Relu")


def quantizable_on_cpu(model: onnx.ModelProto) -> list[Layer]:
    """Every convolution, the stem too, and every linear layer of the backbone."""
    return [*layers_of(model), *linear_layers_of(model)]


def quantize_for_cpu(model: onnx.ModelProto, ranges: Mapping[str, Range], *, skip: Collection[str] = ()) -> onnx.ModelProto:
    """Quantizes layers, and between convolutions what needs no float: Add, Clip, MaxPool and Relu.

    What linear layers give stays in float: residual streams of transformers, which are added up there, have outliers.

    Args:
        model: FP32 graph whose nodes have names; left as it is.
        ranges: of its tensors, from `tensor_ranges`.
        skip: names of layers that stay in float.
    """
    chosen = [layer for layer in quantizable_on_cpu(model) if layer.name not in skip]
    if not chosen:
        unchanged = onnx.ModelProto()
        unchanged.CopyFrom(model)
        return unchanged
    weights, names = {}, []
    for node in _quantized_nodes(model, {layer.output: layer for layer in chosen}):
        names.append(node.name)
        layer = next((layer for layer in chosen if layer.output == node.output[0]), None)
        if layer is not None:
            weights[node.input[1]] = [
                {"axis": layer.axis, "quant_type": QuantType.QInt8, "scale": scale, "zero_point": np.int8(0)}
                for scale in channel_scales(layer.weight, layer.axis)
            ]
    known = {name: TensorData(lowest=np.float32(low), highest=np.float32(high)) for name, (low, high) in ranges.items()}
    options: dict[str, Any] = {
        "TensorQuantOverrides": weights,
        "MatMulConstBOnly": True,
        "OpTypesToExcludeOutputQuantization": ["MatMul"],
    }
    quantizer = QDQQuantizer(
        onnx.shape_inference.infer_shapes(model, strict_mode=True),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=known,
        nodes_to_quantize=names,
        nodes_to_exclude=[],
        op_types_to_quantize=["Conv", "MatMul", *_FOLLOWERS],
        extra_options=options,
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized: onnx.ModelProto = quantizer.model.model
    del quantized.graph.value_info[:]
    onnx.checker.check_model(quantized, full_check=True)
    return quantized


def channel_scales(weight: NDArray[np.floating[Any]], axis: int) -> NDArray[np.float32]:
    """What one step of each channel's weights stands for, float32 (channels,); of weights that are all zero, anything.

    Args:
        weight: float, of any shape.
        axis: of the channels.
    """
    rows = np.moveaxis(weight.astype(np.float64), axis, 0).reshape(weight.shape[axis], -1)
    ordered = np.sort(rows, axis=1)
    pairs = [np.maximum(ends, 0).sum(axis=1) for ends in (ordered[:, -2:], -ordered[:, :2])]
    reaches = np.maximum(*pairs)
    return np.where(reaches > 0, reaches / PAIR, 1).astype(np.float32)


def _quantized_nodes(model: onnx.ModelProto, chosen: Mapping[str, Layer]) -> Iterator[onnx.NodeProto]:
    """The nodes of the chosen layers, and those that get nothing but what convolutions among them give."""
    integers: set[str] = set()
    constants = {constant.name for constant in model.graph.initializer}
    for node in model.graph.node:
        data = [name for name in node.input if name and name not in constants]
        follows = node.op_type in _FOLLOWERS and integers.issuperset(data) and (len(data) == 2 or node.op_type != "Add")
        if node.output[0] in chosen or follows:
            yield node
            if node.op_type != "MatMul":
                integers.add(node.output[0])
