from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import ExportError
from sp_edge_calibration.ranges import reach, tensor_ranges
from sp_edge_export.half import FLOAT16_MAX, beyond_half, halve_trunk

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def small(
    *,
    named: bool = True,
    pooled: bool = True,
    quantised: bool = False,
    constant: float = 1.0,
    weight: float = 1.0,
    weight_scale: float = 0.01,
    shared: bool = False,
    gated: bool = False,
) -> onnx.ModelProto:
    """uint8 (N, 6, 6, 3) -> normalise -> Conv -> Mul -> Conv -> mean -> feature (N, 4)."""
    rng = np.random.default_rng(0)
    constants = {
        "mean": np.array([120, 121, 122], np.float32),
        "std": np.array(60, np.float32),
        "w1": rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "b1": rng.normal(size=4).astype(np.float32),
        "w2": (weight * rng.normal(size=(4, 4, 1, 1))).astype(np.float32),
        "axes": np.array([2, 3], np.int64),
    }
    nodes: list[tuple[str, Sequence[str], str, dict[str, object]]] = [
        ("Cast", ["image"], "floats", {"to": FLOAT}),
        ("Sub", ["floats", "mean"], "centred", {}),
        ("Div", ["centred", "std"], "scaled", {}),
        ("Transpose", ["scaled"], "planes", {"perm": [0, 3, 1, 2]}),
        ("Conv", ["planes", "w1", "b1"], "first", {}),
        ("Constant", [], "factor", {"value": numpy_helper.from_array(np.array(constant, np.float32))}),
        ("Mul", ["first", "std" if shared else "factor"], "louder", {}),
    ]
    data, kernel = "louder", "w2"
    if gated:
        nodes += [("ReduceMean", ["louder", "axes"], "gate", {}), ("Add", ["louder", "gate"], "gated", {})]
        data = "gated"
    if quantised:
        constants |= {"s": np.array(0.05, np.float32), "z": np.array(0, np.int8)}
        constants |= {"ws": np.full(4, weight_scale, np.float32), "wz": np.zeros(4, np.int8)}
        nodes += [
            ("QuantizeLinear", ["louder", "s", "z"], "louder_q", {}),
            ("DequantizeLinear", ["louder_q", "s", "z"], "louder_dq", {}),
            ("QuantizeLinear", ["w2", "ws", "wz"], "w2_q", {"axis": 0}),
            ("DequantizeLinear", ["w2_q", "ws", "wz"], "w2_dq", {"axis": 0}),
        ]
        data, kernel = "louder_dq", "w2_dq"
    nodes.append(("Conv", [data, kernel], "second", {}))
    if pooled:
        nodes.append(("ReduceMean", ["second", "axes"], "feature", {"keepdims": 0}))
    else:
        constants |= {"zero": np.array(0, np.int64)}
        nodes += [("Gather", ["second", "zero"], "row", {"axis": 3}), ("Gather", ["row", "zero"], "feature", {"axis": 2})]
        if not gated:
            del constants["axes"]
    graph = helper.make_graph(
        [
            helper.make_node(kind, list(inputs), [output], name=output if named else "", **attributes)
            for kind, inputs, output, attributes in nodes
        ],
        "small",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 6, 6, 3])],
        [helper.make_tensor_value_info("feature", FLOAT, ["N", 4])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["feature"], {"image": images})[0])


def kinds(model: onnx.ModelProto) -> dict[str, int]:
    """Type of every tensor, inferred anew."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    found = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    return found | {c.name: c.data_type for c in graph.initializer}


@pytest.fixture
def pictures() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (5, 6, 6, 3), dtype=np.uint8)


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_a_graph_made_by_hand(pictures: NDArray[np.uint8], named: bool, pooled: bool, quantised: bool) -> None:
    model = small(named=named, pooled=pooled, quantised=quantised)
    expected = run(model, pictures)
    half, _ = halve_trunk(model)
    onnx.checker.check_model(half, full_check=True)
    got = run(half, pictures)
    assert got.dtype == np.float32
    assert 0 < np.abs(got - expected).max() < (0.1 if quantised else 5e-3) * np.abs(expected).max()
    convolutions = [node for node in half.graph.node if node.op_type == "Conv"]
    typed = kinds(half)
    assert [typed[name] for node in convolutions for name in (*node.input, *node.output)] == [HALF] * 7


def test_normalisation_and_pooling_stay_whole() -> None:
    half, _ = halve_trunk(small())
    typed = kinds(half)
    for node in half.graph.node:
        if node.op_type in ("Sub", "Div", "Transpose", "ReduceMean"):
            assert [typed[name] for name in node.output] == [FLOAT], node.op_type
    assert typed["image"] == TensorProto.UINT8
    assert typed["feature"] == FLOAT


def test_every_pooling_stays_whole() -> None:
    """As in a support graph, whose plain feature is pooled for itself."""
    model = small()
    pooling = model.graph.node.add()
    pooling.CopyFrom(model.graph.node[-2])
    pooling.name = pooling.output[0] = "plain"
    model.graph.output.append(helper.make_tensor_value_info("plain", FLOAT, ["N", 4]))
    half, _ = halve_trunk(model)
    typed = kinds(half)
    for node in half.graph.node:
        if node.op_type == "ReduceMean":
            assert [typed[name] for name in (node.input[0], node.output[0])] == [FLOAT, FLOAT]


@pytest.mark.parametrize("pooled", [True, False])
def test_a_mean_inside_the_trunk_is_not_taken_for_the_pooling(pooled: bool) -> None:
    # Such as the channel interaction's; with pooling 'head' it is the graph's only one.
    half, _ = halve_trunk(small(gated=True, pooled=pooled))
    typed = kinds(half)
    assert {typed["gate"], typed["gated"]} == {HALF}
    assert [typed[name] for node in half.graph.node if node.op_type == "Conv" for name in node.output] == [HALF] * 2


def test_scales_of_q_and_dq_are_half_and_integers_stay() -> None:
    half, _ = halve_trunk(small(quantised=True))
    typed = kinds(half)
    pairs = [node for node in half.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) == 4
    for node in pairs:
        assert typed[node.input[1]] == HALF
        assert typed[node.input[2]] == TensorProto.INT8


def test_a_scale_too_small_for_half_does_not_become_zero(pictures: NDArray[np.uint8]) -> None:
    # A channel that training has switched off has weights, and so a scale, of next to nothing. TensorRT refuses zero.
    half, _ = halve_trunk(small(quantised=True, weight_scale=1e-9))
    scales = {c.name: numpy_helper.to_array(c) for c in half.graph.initializer}
    assert (scales["ws_half"] > 0).all()
    assert np.isfinite(run(half, pictures)).all()


@pytest.mark.parametrize("change", [{"weight": np.nan}, {"constant": np.inf}])
def test_a_constant_that_is_no_number_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ExportError, match="is not finite"):
        halve_trunk(small(**change))  # type: ignore[arg-type]


@pytest.mark.parametrize(("change", "whole"), [({"constant": 65505 * 2.0}, ["louder"]), ({"weight": 1e6}, ["second"])])
def test_a_constant_beyond_the_range_stays_whole(
    pictures: NDArray[np.uint8], change: dict[str, float], whole: list[str]
) -> None:
    model = small(**change)  # type: ignore[arg-type]
    expected = run(model, pictures)
    half, names = halve_trunk(model, beyond_half(tensor_ranges(model, {"image": pictures})))
    assert set(whole) <= set(names)
    typed = kinds(half)
    assert {typed[name] for node in half.graph.node if node.name in whole for name in (*node.input, *node.output)} == {FLOAT}
    assert typed["first_float" if whole == ["louder"] else "first"] in (FLOAT, HALF)
    np.testing.assert_allclose(run(half, pictures), expected, rtol=0, atol=5e-3 * np.abs(expected).max())


def test_the_largest_half_is_still_taken() -> None:
    half, names = halve_trunk(small(constant=65504))
    assert not names
    values = {c.name: numpy_helper.to_array(c) for c in half.graph.initializer}
    assert values["factor_half"] == np.float16(65504)


def test_ranges_are_those_of_the_pictures(pictures: NDArray[np.uint8]) -> None:
    ranges = tensor_ranges(small(), {"image": pictures})
    centred = pictures.astype(np.float32) - np.array([120, 121, 122], np.float32)
    assert ranges["centred"] == (centred.min(), centred.max())
    assert ranges["scaled"] == pytest.approx((centred.min() / 60, centred.max() / 60), rel=1e-6)
    assert set(ranges) >= {"floats", "planes", "first", "louder", "second", "feature"}
    assert "image" not in ranges


@pytest.mark.parametrize("quantised", [False, True])
def test_what_overflows_stays_whole_and_is_named(pictures: NDArray[np.uint8], quantised: bool) -> None:
    """Weights scaled so that one tensor passes 65504 and the next is small again."""
    model = small(constant=3e4, weight=1e-4, quantised=quantised, weight_scale=1e-6)
    if quantised:
        scale = next(c for c in model.graph.initializer if c.name == "s")
        scale.CopyFrom(numpy_helper.from_array(np.array(3e3, np.float32), "s"))
    expected = run(model, pictures)
    ranges = tensor_ranges(model, {"image": pictures})
    assert reach(ranges["louder"]) > FLOAT16_MAX
    assert beyond_half(ranges) == ({"louder", "louder_dq"} if quantised else {"louder"})
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    if not quantised:
        assert not np.isfinite(run(halve_trunk(plain)[0], pictures)).all(), "it does not overflow: the test proves nothing"
    half, whole = halve_trunk(model, {"louder"})  # what the pair makes of it follows
    assert whole == (["louder", "louder_q", "louder_dq", "second"] if quantised else ["louder", "second"])
    typed = kinds(half)
    assert {typed[name] for node in half.graph.node if node.name == "first" for name in node.output} == {HALF}
    # Half rounding may tip a value over to the next of eight bits' coarse steps.
    atol = (0.1 if quantised else 5e-3) * np.abs(expected).max()
    np.testing.assert_allclose(run(half, pictures), expected, rtol=0, atol=atol)


def test_a_value_that_is_no_number_is_beyond_any_range() -> None:
    assert beyond_half({"a": (np.nan, np.nan), "b": (-1, np.inf), "c": (0, 16376), "d": (-16377, 0)}) == {"a", "b", "d"}


def test_a_constant_that_both_sides_use_keeps_both_forms(pictures: NDArray[np.uint8]) -> None:
    model = small(shared=True)
    expected = run(model, pictures)
    half, _ = halve_trunk(model)
    assert {c.name for c in half.graph.initializer} >= {"std", "std_half"}
    np.testing.assert_allclose(run(half, pictures), expected, rtol=0, atol=5e-3 * np.abs(expected).max())


def test_a_graph_without_convolution_is_refused() -> None:
    values = [helper.make_tensor_value_info(name, FLOAT, ["N", 4]) for name in ("image", "feature")]
    graph = helper.make_graph([helper.make_node("Relu", ["image"], ["feature"])], "g", values[:1], values[1:])
    with pytest.raises(ExportError, match="convolution"):
        halve_trunk(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9))


@pytest.mark.parametrize("graph", ["query", "support"])
def test_the_network_is_half_from_the_first_to_the_last_convolution(bundle: Bundle, graph: str) -> None:
    model = onnx.load(bundle.graph(graph, "fp16"))
    onnx.checker.check_model(model, full_check=True)
    typed = kinds(model)
    kind_of = [(node.op_type, {typed[name] for name in node.output}) for node in model.graph.node]
    for operator in ("Conv", "MatMul", "Softmax", "Gelu"):
        assert [outputs for name, outputs in kind_of if name == operator], f"no {operator} in the graph"
        assert all(outputs == {HALF} for name, outputs in kind_of if name == operator)
    assert [outputs for name, outputs in kind_of if name == "ReduceMean"][-1] == {FLOAT}
    ends = len(model.graph.input) + len(model.graph.output)
    assert sum(name == "Cast" for name, _ in kind_of) <= ends + 1, "no casts to and fro inside the trunk"
    assert not any(c.data_type == FLOAT and numpy_helper.to_array(c).size > 3 for c in model.graph.initializer)
