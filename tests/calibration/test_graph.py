from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from sp_edge.errors import ExportError
from sp_edge_calibration.graph import layers_of, load_graph, tapped
from sp_edge_calibration.session import features_of, open_session

Change = Callable[[onnx.ModelProto], None]


def outside(model: onnx.ModelProto) -> None:
    """Weights from a file that is none of the graph's business."""
    weight = model.graph.initializer[-1]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "../../etc/passwd"), ("length", "64")):
        weight.external_data.add(key=key, value=value)


def outside_inside_a_node(model: onnx.ModelProto) -> None:
    node = model.graph.node.add(op_type="Constant", output=["hidden"])
    value = TensorProto(dims=[4], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    value.external_data.add(key="location", value="/etc/passwd")
    node.attribute.append(helper.make_attribute("value", value))


def giant(model: onnx.ModelProto) -> None:
    model.graph.initializer[-1].dims[0] = 2**40


def negative(model: onnx.ModelProto) -> None:
    model.graph.initializer[-1].dims[:] = [-48, -16, 1, 1]


def giant_picture(model: onnx.ModelProto) -> None:
    for dim in model.graph.input[0].type.tensor_type.shape.dim[1:3]:
        dim.dim_value = 200_000


def unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[5].op_type = "Relux"


def own_operator(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("acme", 1))
    model.graph.node[5].domain = "acme"


def unknown_type(model: onnx.ModelProto) -> None:
    model.graph.initializer[-1].data_type = 99


def empty(model: onnx.ModelProto) -> None:
    del model.graph.node[:]


def dangling(model: onnx.ModelProto) -> None:
    model.graph.node[4].input[0] = "nothing"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (outside, "has weights outside: narrow.weight[\\s\\S]*etc/passwd"),
        (outside_inside_a_node, "has weights outside"),
        (giant, "is not what it declares to be: narrow.weight"),
        (negative, "is not what it declares to be"),
        (giant_picture, "too large"),
        (unknown_operator, "no valid graph[\\s\\S]*Relux"),
        (own_operator, "operators of its own[\\s\\S]*acme"),
        (unknown_type, "of no known type"),
        (empty, "no operators"),
        (dangling, "no valid graph[\\s\\S]*nothing"),
    ],
)
def test_a_hostile_graph_is_refused(model: onnx.ModelProto, tmp_path: Path, change: Change, words: str) -> None:
    change(model)
    file = tmp_path / "query.onnx"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match=words):
        load_graph(file)


def test_a_sound_graph_is_read_whole(model: onnx.ModelProto, tmp_path: Path) -> None:
    onnx.save(model, tmp_path / "query.onnx")
    assert load_graph(tmp_path / "query.onnx") == model


def test_no_file_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"cannot read query\.onnx"):
        load_graph(tmp_path / "query.onnx")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_an_error_or_nothing(model: onnx.ModelProto, tmp_path: Path, data: st.DataObject) -> None:
    """Cut off or with bytes changed, a graph is either refused by name or still a graph."""
    content = bytearray(model.SerializeToString())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    for _ in range(data.draw(st.integers(0, 3))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path / "query.onnx"
    file.write_bytes(content)
    try:
        sound = bool(load_graph(file).graph.node)
    except ExportError as error:
        sound = "query.onnx" in str(error)
    assert sound


def _inside(model: onnx.ModelProto, images: NDArray[np.uint8], *names: str) -> list[NDArray[np.float32]]:
    return open_session(tapped(model, names).SerializeToString(), "g", names)({"image": images})


def test_layers_and_what_is_inside_them(model: onnx.ModelProto) -> None:
    layers = layers_of(model)
    assert [(layer.name, layer.data, layer.output) for layer in layers] == [
        ("stem", "planes", "first"),
        ("wide", "first", "second"),
        ("narrow", "positive", "third"),
    ]
    images = np.random.default_rng(1).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    second, positive = _inside(model, images, "second", "positive")
    first = _inside(model, images, "first")[0]
    expected = np.einsum("nchw,oc->nohw", first, layers[1].weight[:, :, 0, 0])
    np.testing.assert_allclose(second, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(positive, np.maximum(second, 0))
    third = np.einsum("nchw,oc->nohw", positive, layers[2].weight[:, :, 0, 0])
    np.testing.assert_allclose(features_of(model, {"image": images}), third.mean(axis=(2, 3)), rtol=1e-3, atol=1e-3)
    assert [value.name for value in model.graph.output] == ["feature"], "the graph itself is left alone"
