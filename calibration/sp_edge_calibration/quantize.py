"""Puts explicit Q/DQ nodes before the layers of an FP32 graph, in the form that TensorRT takes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from sp_edge_calibration.graph import Layer, layers_of, linear_layers_of
from sp_edge_calibration.ranges import Range, reach

LEVELS = 127.0  # of eight bits, symmetric: -127 to 127


def quantizable(model: onnx.ModelProto) -> list[Layer]:
    """Every convolution but the stem, which with its few channels gains nothing, and every linear layer of the backbone."""
    return [*layers_of(model)[1:], *linear_layers_of(model)]


def quantize(model: onnx.ModelProto, ranges: Mapping[str, Range], *, skip: Collection[str] = ()) -> onnx.ModelProto:
    """Quantises layers: weights with a scale a channel, activations with one a tensor, all symmetric.

    Attention's products of activations, which lose accuracy, stay in float. So do biases, which TensorRT takes as they are.

    Args:
        model: FP32 graph; left as it is.
        ranges: of its tensors, from `tensor_ranges`.
        skip: names of layers that stay in float, too.

    Returns:
        The graph with a Q/DQ pair before the data and the weights of each layer.
    """
    quantised = onnx.ModelProto()
    quantised.CopyFrom(model)
    chosen = {layer.output: layer for layer in quantizable(model) if layer.name not in skip}
    constants = {constant.name: constant for constant in quantised.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    added = {"zero": numpy_helper.from_array(np.array(0, np.int8), "quantise/zero")} if chosen else {}

    def pair(source: str, key: str, scale: NDArray[np.float32], zero: str, **axis: Any) -> str:
        added[f"{key}/scale"] = numpy_helper.from_array(scale, f"{key}/scale")
        names = [f"{key}/quantised", f"{key}/dequantised"]
        nodes.append(helper.make_node("QuantizeLinear", [source, f"{key}/scale", zero], names[:1], f"{key}/quantise", **axis))
        nodes.append(
            helper.make_node("DequantizeLinear", [names[0], f"{key}/scale", zero], names[1:], f"{key}/dequantise", **axis)
        )
        return names[1]

    for node in quantised.graph.node:
        layer = chosen.get(node.output[0])
        if layer is not None:
            weight = numpy_helper.to_array(constants[node.input[1]])
            others = tuple(axis for axis in range(weight.ndim) if axis != layer.axis)
            channels = np.abs(weight.astype(np.float64)).max(axis=others)
            zeros = f"quantise/zeros {len(channels)}"
            added[zeros] = numpy_helper.from_array(np.zeros(len(channels), np.int8), zeros)
            data = pair(node.input[0], f"{layer.name}/data", _scale(np.array(reach(ranges[layer.data]))), "quantise/zero")
            node.input[1] = pair(node.input[1], f"{layer.name}/weight", _scale(channels), zeros, axis=layer.axis)
            node.input[0] = data
        nodes.append(node)
    del quantised.graph.node[:]
    quantised.graph.node.extend(nodes)
    quantised.graph.initializer.extend(added.values())
    del quantised.graph.value_info[:]
    onnx.checker.check_model(quantised, full_check=True)
    return quantised


def _scale(reaches: NDArray[np.float64]) -> NDArray[np.float32]:
    """What one step stands for; of what is always zero, anything."""
    return np.where(reaches > 0, reaches / LEVELS, 1).astype(np.float32)
