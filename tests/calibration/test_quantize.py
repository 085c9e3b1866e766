from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sp_edge_calibration.quantize import quantizable, quantize
from sp_edge_calibration.ranges import tensor_ranges
from sp_edge_calibration.session import open_session

INT8 = TensorProto.INT8


def test_a_channel_without_weights_keeps_its_bias_where_the_runtime_opens_the_graph(model: onnx.ModelProto) -> None:
    """ONNX Runtime's own rewriting of biases would have the bias overflow."""
    (wide,) = (constant for constant in model.graph.initializer if constant.name == "wide.weight")
    weight = numpy_helper.to_array(wide).copy()
    weight[3] *= 1e-9
    wide.CopyFrom(numpy_helper.from_array(weight, wide.name))
    model.graph.initializer.append(numpy_helper.from_array(np.full(16, 20, np.float32), "wide.bias"))
    next(node for node in model.graph.node if node.name == "wide").input.append("wide.bias")
    inputs = {"image": np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)}
    quantised = quantize(model, tensor_ranges(model, inputs))
    (exact,), (got,) = (open_session(each.SerializeToString(), "it")(inputs) for each in (model, quantised))
    assert np.abs(got - exact).max() < 0.03 * np.abs(exact).max()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """image float (N, 3, 8, 8), prompt float (N, 4) -> stem -> Conv -> Relu -> grouped Conv -> MatMul -> feature."""
    rng = np.random.default_rng(0)
    weights = {
        "w0": rng.normal(size=(4, 3, 3, 3)),
        # Channels of very different reach: one scale for all of them would lose the small ones.
        "w1": rng.normal(size=(6, 4, 1, 1)) * np.logspace(-3, 0, 6).reshape(6, 1, 1, 1),
        "b1": rng.normal(size=6),
        "w2": rng.normal(size=(6, 3, 3, 3)),
        "m": rng.normal(size=(6, 5)),
        "p": rng.normal(size=(4, 5)),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["stem"], "stem"),
        helper.make_node("Conv", ["stem", "w1", "b1"], ["mixed"], "pointwise"),
        helper.make_node("Relu", ["mixed"], ["positive"], "relu"),
        helper.make_node("Conv", ["positive", "w2"], ["wide"], "grouped", group=2),
        helper.make_node("GlobalAveragePool", ["wide"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node("MatMul", ["flat", "m"], ["left"], "matmul"),
        helper.make_node("MatMul", ["prompt", "p"], ["right"], "projector"),
        helper.make_node("Add", ["left", "right"], ["feature"], "add"),
    ]
    graph = helper.make_graph(
        nodes,
        "source",
        [
            helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8]),
            helper.make_tensor_value_info("prompt", TensorProto.FLOAT, ["N", 4]),
        ],
        [helper.make_tensor_value_info("feature", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    file = tmp_path_factory.mktemp("source") / "source.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9), file)
    return file


def inputs(count: int = 19, seed: int = 0) -> dict[str, NDArray[np.generic]]:
    rng = np.random.default_rng(seed)
    return {
        "image": rng.normal(1, 2, (count, 3, 8, 8)).astype(np.float32),
        "prompt": rng.normal(size=(count, 4)).astype(np.float32),
    }


@pytest.fixture(scope="module")
def made(source: Path) -> onnx.ModelProto:
    return quantise(source, inputs())


def quantise(source: Path, rows: dict[str, NDArray[np.generic]], **options: object) -> onnx.ModelProto:
    model = onnx.load(source)
    return quantize(model, tensor_ranges(model, rows), **options)  # type: ignore[arg-type]


def constants(model: onnx.ModelProto) -> dict[str, NDArray[np.generic]]:
    return {c.name: numpy_helper.to_array(c) for c in model.graph.initializer}


def pair_before(model: onnx.ModelProto, name: str) -> tuple[onnx.NodeProto, onnx.NodeProto] | None:
    """The Q and DQ nodes that lead to a tensor."""
    makers = {output: node for node in model.graph.node for output in node.output}
    dequantize = makers.get(name)
    if dequantize is None or dequantize.op_type != "DequantizeLinear":
        return None
    return makers[dequantize.input[0]], dequantize


def test_linear_layers_of_the_backbone_are_quantised_with_a_scale_a_column(source: Path) -> None:
    model = onnx.load(source)
    next(node for node in model.graph.node if node.name == "matmul").name = "backbone.head"
    made = quantize(model, tensor_ranges(model, inputs()))
    assert [layer.name for layer in quantizable(model)] == ["pointwise", "grouped", "backbone.head"], "not the prompt's"
    product = next(node for node in made.graph.node if node.name == "backbone.head")
    values, weights = constants(made), constants(model)
    data, columns = (pair_before(made, tensor) for tensor in product.input)
    assert data is not None
    assert columns is not None
    for node in columns:
        assert next(a.i for a in node.attribute if a.name == "axis") == 1
        reach = np.abs(weights["m"].astype(np.float64)).max(axis=0)
        np.testing.assert_allclose(values[node.input[1]], reach / 127, rtol=0.01)
    rows = inputs(7, seed=5)
    expected, got = (
        onnxruntime.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"]).run(["feature"], rows)[0]
        for each in (model, made)
    )
    assert 0 < np.abs(got - expected).max() < 0.05 * np.abs(expected).max()


def test_only_convolutions_but_the_stem_are_quantised(made: onnx.ModelProto) -> None:
    quantised = {node.name: [pair_before(made, name) is not None for name in node.input] for node in made.graph.node}
    assert quantised["stem"] == [False, False]
    assert quantised["pointwise"] == [True, True, False], "data and weights; the bias stays"
    assert quantised["grouped"] == [True, True]
    for name in ("matmul", "projector", "relu", "add", "pool"):
        assert not any(quantised[name]), name
    assert sum(node.op_type == "QuantizeLinear" for node in made.graph.node) == 4, "no pair on an output"


def test_all_is_symmetric_and_signed(made: onnx.ModelProto) -> None:
    values = constants(made)
    pairs = [node for node in made.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) == 8
    for node in pairs:
        zero = values[node.input[2]]
        assert zero.dtype == np.int8
        assert not zero.any()


def test_weights_have_a_scale_a_channel_and_activations_one(made: onnx.ModelProto, source: Path) -> None:
    values, weights = constants(made), constants(onnx.load(source))
    for name, kernel in (("pointwise", "w1"), ("grouped", "w2")):
        convolution = next(node for node in made.graph.node if node.name == name)
        data, kernels = (pair_before(made, tensor) for tensor in convolution.input[:2])
        assert data is not None
        assert kernels is not None
        assert {values[node.input[1]].shape for node in data} == {()}
        for node in kernels:
            assert next(a.i for a in node.attribute if a.name == "axis") == 0
            reach = np.abs(weights[kernel].astype(np.float64)).max(axis=(1, 2, 3))
            np.testing.assert_allclose(values[node.input[1]], reach / 127, rtol=0.01)


def test_it_computes_nearly_the_same_with_any_batch(made: onnx.ModelProto, source: Path) -> None:
    rows = inputs(7, seed=5)
    sessions = [
        onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        for content in (source.read_bytes(), made.SerializeToString())
    ]
    for count in (1, 2, 7):
        expected, got = (s.run(["feature"], {n: v[:count] for n, v in rows.items()})[0] for s in sessions)
        assert got.shape == (count, 5)
        assert 0 < np.abs(got - expected).max() < 0.05 * np.abs(expected).max()


def test_the_order_of_the_pictures_does_not_matter(source: Path, made: onnx.ModelProto) -> None:
    other = quantise(source, {name: rows[::-1] for name, rows in inputs().items()})
    ours, theirs = constants(made), constants(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=1e-5, err_msg=name)


def test_every_picture_counts(source: Path, made: onnx.ModelProto) -> None:
    rows = inputs()
    rows["image"] = rows["image"].copy()
    rows["image"][-1] *= 100  # alone in the last batch
    convolution = next(node for node in made.graph.node if node.name == "pointwise")
    pair = pair_before(made, convolution.input[0])
    assert pair is not None
    scale = pair[0].input[1]
    assert constants(quantise(source, rows))[scale] > 20 * constants(made)[scale]


def test_a_skipped_layer_stays_in_float_and_the_source_as_it_was(source: Path) -> None:
    model = onnx.load(source)
    assert [layer.name for layer in quantizable(model)] == ["pointwise", "grouped"], "not the stem"
    ranges = tensor_ranges(model, inputs())
    one = quantize(model, ranges, skip=["pointwise"])
    assert sum(node.op_type == "QuantizeLinear" for node in one.graph.node) == 2
    convolution = next(node for node in one.graph.node if node.name == "pointwise")
    assert list(convolution.input) == ["stem", "w1", "b1"]
    none = quantize(model, ranges, skip=["pointwise", "grouped"])
    assert [node.op_type for node in none.graph.node] == [node.op_type for node in model.graph.node]
    assert model == onnx.load(source)


def test_what_is_always_zero_gets_a_scale_that_is_not(source: Path) -> None:
    model = onnx.load(source)
    weight = next(c for c in model.graph.initializer if c.name == "w1")
    values = numpy_helper.to_array(weight).copy()
    values[2] = 0
    weight.CopyFrom(numpy_helper.from_array(values, "w1"))
    ranges = tensor_ranges(model, inputs()) | {"positive": (0.0, 0.0)}
    for name, value in constants(quantize(model, ranges)).items():
        assert not name.endswith("scale") or (value > 0).all()
