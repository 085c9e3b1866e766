from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sp_edge_calibration.quantize_cpu import channel_scales, quantizable_on_cpu, quantize_for_cpu
from sp_edge_calibration.ranges import tensor_ranges
from sp_edge_calibration.session import open_session


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    """image uint8 (N, 16, 16, 3), prompt float (N, 4) -> two blocks as a MobileNet has them -> linear layers -> feature."""
    rng = np.random.default_rng(0)
    weights = {
        "stem.weight": rng.normal(size=(8, 3, 3, 3)),
        "stem.bias": rng.normal(size=8),
        "deep.weight": rng.normal(size=(8, 1, 3, 3)) * np.logspace(-2, 0, 8).reshape(8, 1, 1, 1),
        "deep.bias": rng.normal(size=8),
        "wide.weight": rng.normal(size=(8, 8, 1, 1)),
        "wide.bias": rng.normal(size=8),
        "fc.weight": rng.normal(size=(8, 6)),
        "prompt.weight": rng.normal(size=(4, 6)),
        "fc.bias": rng.normal(size=6),
    }
    constants = {name: value.astype(np.float32) for name, value in weights.items()} | {
        "zero": np.array(0, np.float32),
        "six": np.array(6, np.float32),
        "scale": np.array(1 / 64, np.float32),
        "axes": np.array([2, 3], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["numbers"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["numbers", "scale"], ["scaled"], "scaled"),
        helper.make_node("Transpose", ["scaled"], ["planes"], "planes", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "stem.weight", "stem.bias"], ["a"], "stem", pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["a", "zero", "six"], ["b"], "clip"),
        helper.make_node("Conv", ["b", "deep.weight", "deep.bias"], ["c"], "deep", group=8, pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["d"], "relu"),
        helper.make_node("Conv", ["d", "wide.weight", "wide.bias"], ["e"], "wide"),
        helper.make_node("Add", ["b", "e"], ["f"], "residual"),
        helper.make_node("MaxPool", ["f"], ["g"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("ReduceMean", ["g", "axes"], ["h"], "mean", keepdims=0),
        helper.make_node("MatMul", ["h", "fc.weight"], ["i"], "backbone.fc"),
        helper.make_node("Add", ["i", "fc.bias"], ["j"], "bias"),
        helper.make_node("MatMul", ["prompt", "prompt.weight"], ["k"], "prompted"),
        helper.make_node("Add", ["j", "k"], ["feature"], "guided"),
    ]
    graph = helper.make_graph(
        nodes,
        "mobile",
        [
            helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 16, 16, 3]),
            helper.make_tensor_value_info("prompt", TensorProto.FLOAT, ["N", 4]),
        ],
        [helper.make_tensor_value_info("feature", TensorProto.FLOAT, ["N", 6])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    return made


def inputs(count: int = 24, seed: int = 0) -> dict[str, NDArray[np.generic]]:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (count, 1, 1, 3)) + rng.integers(-60, 61, (count, 16, 16, 3))
    return {"image": np.clip(image, 0, 255).astype(np.uint8), "prompt": rng.normal(size=(count, 4)).astype(np.float32)}


@pytest.fixture(scope="module")
def made(model: onnx.ModelProto) -> onnx.ModelProto:
    return quantize_for_cpu(model, tensor_ranges(model, inputs()))


def constants(model: onnx.ModelProto) -> dict[str, NDArray[np.generic]]:
    return {c.name: numpy_helper.to_array(c) for c in model.graph.initializer}


def by_name(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.name == name)


def source(model: onnx.ModelProto, tensor: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if tensor in node.output)


def test_convolutions_and_adds_are_integers_and_what_a_range_says_is_gone(made: onnx.ModelProto) -> None:
    kinds = Counter(node.op_type for node in made.graph.node)
    assert (kinds["Conv"], kinds["MatMul"], kinds["Add"], kinds["MaxPool"]) == (3, 2, 3, 1)
    assert kinds["Clip"] == kinds["Relu"] == 0, "their ranges stand in the zero points"
    for name in ("stem", "deep", "wide", "residual", "pool"):
        node = by_name(made, name)
        assert {source(made, data).op_type for data in node.input} == {"DequantizeLinear"}, name
        assert [n.op_type for n in made.graph.node if node.output[0] in n.input] == ["QuantizeLinear"], name
    for name in ("guided", "bias", "prompted"):
        assert not any(data in n.output for data in by_name(made, name).input for n in made.graph.node if "Quant" in n.op_type)


def test_types_and_scales(made: onnx.ModelProto) -> None:
    values = constants(made)
    for name, axis in (("stem", 0), ("deep", 0), ("wide", 0), ("backbone.fc", 1)):
        data, weight, *bias = (source(made, tensor) for tensor in by_name(made, name).input)
        assert values[data.input[2]].dtype == np.uint8
        assert values[data.input[1]].shape == ()
        assert values[weight.input[0]].dtype == np.int8
        assert not values[weight.input[2]].any(), "symmetric"
        assert values[weight.input[1]].shape == (values[weight.input[0]].shape[axis],), "one a channel"
        assert [values[each.input[0]].dtype for each in bias] == [np.int32] * len(bias)


def test_no_two_products_leave_sixteen_bits(made: onnx.ModelProto) -> None:
    """CPUs without VNNI add two products of 0..255 and a weight in 16 bits, and cut off what is beyond without a word."""
    values = constants(made)
    largest = 0
    for name, axis in (("stem", 0), ("deep", 0), ("wide", 0), ("backbone.fc", 1)):
        weight = values[source(made, by_name(made, name).input[1]).input[0]]
        rows = np.sort(np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(int), axis=1)
        worst = 255 * np.maximum(rows[:, -2:].clip(0).sum(axis=1), (-rows[:, :2]).clip(0).sum(axis=1))
        assert worst.max() <= 32767, name
        largest = max(largest, int(worst.max()))
    assert largest > 0.95 * 32767, "and no room is given away"


@pytest.mark.parametrize(
    ("channel", "reach"),
    [([3, 2, -1], 5), ([3, -2, -1], 3), ([-3, -2, 2], 5), ([4], 4), ([0, 0, 0], 127), ([2, 2, -5, -1], 6)],
)
def test_a_scale_leaves_room_for_the_two_largest_weights_of_one_sign(channel: list[float], reach: float) -> None:
    weight = np.array([channel, channel], np.float32)
    np.testing.assert_allclose(channel_scales(weight, 0), reach / 127, rtol=1e-6)
    np.testing.assert_allclose(channel_scales(weight.T, 1), reach / 127, rtol=1e-6)


def test_it_computes_nearly_the_same_here_and_where_nothing_is_cut_off(model: onnx.ModelProto, made: onnx.ModelProto) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # Q/DQ around float layers
    floats = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for count in (1, 2, 7):
        rows = inputs(count, seed=5)
        (expected,), (got,) = (open_session(each.SerializeToString(), "it")(rows) for each in (model, made))
        assert 0 < np.abs(got - expected).max() < 0.05 * np.abs(expected).max()
        np.testing.assert_allclose(got, floats.run(["feature"], rows)[0], atol=0.02 * float(np.abs(expected).max()))


def test_a_channel_without_weights_keeps_its_bias(model: onnx.ModelProto) -> None:
    """Its bias, counted in steps of data and weight, would be beyond 32 bits."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for constant in changed.graph.initializer:
        if constant.name == "wide.weight":
            weight = numpy_helper.to_array(constant).copy()
            weight[3] *= 1e-9
            constant.CopyFrom(numpy_helper.from_array(weight, constant.name))
    rows = inputs()
    quantized = quantize_for_cpu(changed, tensor_ranges(changed, rows))
    (exact,), (got,) = (open_session(each.SerializeToString(), "it")(rows) for each in (changed, quantized))
    assert np.abs(got - exact).max() < 0.05 * np.abs(exact).max()


def test_a_skipped_layer_and_the_add_behind_it_stay_in_float_and_the_source_as_it_was(model: onnx.ModelProto) -> None:
    before = model.SerializeToString()
    ranges = tensor_ranges(model, inputs())
    assert [layer.name for layer in quantizable_on_cpu(model)] == ["stem", "deep", "wide", "backbone.fc"]
    one = quantize_for_cpu(model, ranges, skip=["wide"])
    assert "wide.weight" in by_name(one, "wide").input
    assert source(one, by_name(one, "residual").input[1]).name == "wide"
    assert source(one, by_name(one, "stem").input[0]).op_type == "DequantizeLinear"
    none = quantize_for_cpu(model, ranges, skip=[layer.name for layer in quantizable_on_cpu(model)])
    assert none == model
    assert model.SerializeToString() == before
