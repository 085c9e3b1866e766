from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sp_edge_calibration.weights import quantize_weights

RNG = np.random.default_rng(0)
TABLE = (RNG.normal(size=(100, 64)) * np.exp(RNG.normal(size=(100, 1)))).astype(np.float32)
WEIGHT = (RNG.normal(size=(64, 96)) * np.exp(RNG.normal(size=(1, 96)))).astype(np.float32)
SMALL = RNG.normal(size=(96, 4)).astype(np.float32)


def save(file: Path, nodes: list[onnx.NodeProto], constants: dict[str, NDArray[np.float32]]) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["N", "L"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", "L", "K"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    onnx.save(model, file)
    return file


@pytest.fixture
def source(tmp_path: Path) -> Path:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"], name="g"),
        helper.make_node("MatMul", ["rows", "weight"], ["wide"], name="m"),
        helper.make_node("MatMul", ["wide", "small"], ["out"], name="s"),
    ]
    return save(tmp_path / "source.onnx", nodes, {"table": TABLE, "weight": WEIGHT, "small": SMALL})


def run(file: Path, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # as the runtime has it
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return session.run(["out"], {"ids": ids})[0]


def rounded(weight: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """To the nearest of 255 levels, each row or column by its own."""
    scale = np.abs(weight).max(axis=axis, keepdims=True) / 127
    return np.round(weight / scale) * scale


def test_weights_are_rounded_by_row_or_column_and_nothing_else_is(source: Path, tmp_path: Path) -> None:
    ids = np.array([[0, 99, 5], [7, 7, 42]])
    assert quantize_weights(source, tmp_path / "target.onnx") == 2
    expected = rounded(TABLE, 1)[ids] @ rounded(WEIGHT, 0) @ SMALL
    np.testing.assert_allclose(run(tmp_path / "target.onnx", ids), expected, rtol=1e-3, atol=1e-3)
    exact = run(source, ids)
    assert 1e-3 < np.abs(expected - exact).max() < 0.03 * np.abs(exact).max()


def test_it_is_a_quarter_of_the_size_and_still_one_file(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.onnx"
    quantize_weights(source, target)
    assert target.stat().st_size < 0.35 * source.stat().st_size
    constants = {c.name: c for c in onnx.load(target).graph.initializer}
    assert set(constants) == {
        "table.rows.int8", "table.rows.scale", "weight.columns.int8", "weight.columns.scale", "small",
    }  # fmt: skip
    assert constants["table.rows.int8"].data_type == TensorProto.INT8
    before = source.read_bytes()
    quantize_weights(source, source)
    assert len(source.read_bytes()) < len(before), "in place, too"


def test_a_weight_that_serves_twice_is_stored_once(tmp_path: Path) -> None:
    square = RNG.normal(size=(64, 64)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["square", "ids"], ["rows"]),
        helper.make_node("MatMul", ["rows", "other"], ["a"]),
        helper.make_node("MatMul", ["a", "other"], ["b"]),
        helper.make_node("MatMul", ["b", "square"], ["out"]),
    ]
    save(tmp_path / "s.onnx", nodes, {"square": square, "other": WEIGHT[:, :64].copy()})
    assert quantize_weights(tmp_path / "s.onnx", tmp_path / "t.onnx") == 3, "the square one by rows and by columns"
    ids = np.array([[1, 2]])
    other = rounded(WEIGHT[:, :64], 0)
    expected = rounded(square, 1)[ids] @ other @ other @ rounded(square, 0)
    np.testing.assert_allclose(run(tmp_path / "t.onnx", ids), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_a_channel_of_zeros_stays_zero(tmp_path: Path) -> None:
    weight = WEIGHT.copy()
    weight[:, 3] = 0
    nodes = [helper.make_node("Gather", ["table", "ids"], ["rows"]), helper.make_node("MatMul", ["rows", "weight"], ["out"])]
    save(tmp_path / "s.onnx", nodes, {"table": TABLE, "weight": weight})
    quantize_weights(tmp_path / "s.onnx", tmp_path / "t.onnx")
    found = run(tmp_path / "t.onnx", np.array([[1]]))
    assert np.isfinite(found).all()
    assert not found[..., 3].any()
