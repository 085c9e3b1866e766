from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from sp_edge.bundle import Bundle
from sp_edge.matching import unit
from sp_edge.training.checkpoint import Checkpoint
from sp_edge_export.precision import to_fp16, to_int8


def run(file: Path, inputs: dict[str, NDArray[np.generic]]) -> NDArray[np.float32]:
    return np.asarray(onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"]).run(["feature"], inputs)[0])


def cosines(got: NDArray[np.float32], expected: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((unit(got) * unit(expected)).sum(axis=1))


@pytest.fixture(scope="module")
def inputs(images: NDArray[np.uint8], checkpoint: Checkpoint) -> dict[str, dict[str, NDArray[np.generic]]]:
    return {"query": {"image": images}, "support": {"image": images, "prompt": checkpoint.prompts.vectors[: len(images)]}}


@pytest.mark.parametrize("graph", ["query", "support"])
def test_fp16_agrees(bundle: Bundle, inputs: dict[str, dict[str, NDArray[np.generic]]], tmp_path: Path, graph: str) -> None:
    source = bundle.graph(graph, "fp32")
    before = source.read_bytes()
    assert to_fp16(source, tmp_path / "half.onnx", inputs[graph]) == []
    assert source.read_bytes() == before
    assert (tmp_path / "half.onnx").stat().st_size < 0.6 * len(before)
    got, expected = run(tmp_path / "half.onnx", inputs[graph]), run(source, inputs[graph])
    assert not np.array_equal(got, expected)
    assert cosines(got, expected).min() > 0.9999


@pytest.mark.parametrize("graph", ["query", "support"])
def test_int8_agrees_and_is_half_beside_its_convolutions(
    bundle: Bundle, inputs: dict[str, dict[str, NDArray[np.generic]]], tmp_path: Path, graph: str
) -> None:
    source = bundle.graph(graph, "fp32")
    before = source.read_bytes()
    assert to_int8(source, tmp_path / "int8.onnx", inputs[graph]) == []
    assert source.read_bytes() == before
    model = onnx.load(tmp_path / "int8.onnx")
    onnx.checker.check_model(model, full_check=True)
    operators = Counter(node.op_type for node in model.graph.node)
    # A convolution but the stem has a pair for its data and one for its weights.
    assert operators["QuantizeLinear"] == operators["DequantizeLinear"] == 2 * (operators["Conv"] - 1)
    scales = {node.input[1] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    constants = {c.name: c for c in model.graph.initializer}
    assert {constants[name].data_type for name in scales} == {TensorProto.FLOAT16}
    assert all((numpy_helper.to_array(constants[name]) > 0).all() for name in scales)
    got, expected = run(tmp_path / "int8.onnx", inputs[graph]), run(source, inputs[graph])
    assert got.dtype == np.float32
    assert 0.98 < cosines(got, expected).min() < 1 - 1e-6
