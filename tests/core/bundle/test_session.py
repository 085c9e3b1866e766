from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

import toy
from sp_edge.bundle.session import Session, Signature
from sp_edge.errors import BackendError, BundleError, ExportError

IMAGE: Signature = {"image": ("uint8", ("N", toy.SIDE, toy.SIDE, 3))}
FEATURE: Signature = {"feature": ("float32", ("N", toy.DIM))}


def content() -> bytes:
    return toy.graph("query").SerializeToString()


def test_it_runs_what_it_was_given() -> None:
    session = Session(content(), "query.onnx", BackendError, threads=1)
    session.check(IMAGE, FEATURE)
    images = np.stack([toy.picture(name) for name in toy.COLOURS])
    (feature,) = session.run({"image": images}, ["feature"])
    np.testing.assert_allclose(feature, toy.features(images), atol=1e-5)


def test_it_does_not_keep_the_file() -> None:
    given = content()
    before = sys.getrefcount(given)
    session = Session(given, "query.onnx", BackendError)
    assert sys.getrefcount(given) == before
    session.run({"image": np.zeros((1, toy.SIDE, toy.SIDE, 3), np.uint8)}, ["feature"])


@pytest.mark.parametrize("error", [BackendError, ExportError])
def test_errors_are_of_the_callers_type(error: type[BackendError]) -> None:
    with pytest.raises(error, match=r"cannot load query\.onnx"):
        Session(b"no graph", "query.onnx", error)
    model = toy.graph("query")
    model.graph.node[1].op_type = "Mulx"
    with pytest.raises(error, match=r"ONNX Runtime cannot load query\.onnx") as raised:
        Session(model.SerializeToString(), "query.onnx", error, next_step="--device cpu")
    assert raised.value.next_step == "--device cpu"
    with pytest.raises(error, match=r"ONNX Runtime cannot run query\.onnx"):
        Session(content(), "query.onnx", error).run({"image": np.zeros((1, 8, 8, 3), np.uint8)}, ["feature"])


def test_a_graph_cannot_read_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = toy.graph("query")
    weight = model.graph.initializer[0]
    (tmp_path / "weights.bin").write_bytes(weight.raw_data)
    monkeypatch.chdir(tmp_path)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="weights.bin")
    onnx.save(model, "query.onnx")
    onnxruntime.InferenceSession("query.onnx", providers=["CPUExecutionProvider"])  # opened by its path, it reads the file
    with pytest.raises(BackendError, match="reads other files"):
        Session(model.SerializeToString(), "query.onnx", BackendError)


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ({"picture": IMAGE["image"]}, FEATURE),
        ({"image": ("float32", IMAGE["image"][1])}, FEATURE),
        ({"image": ("uint8", ("N", 64, 64, 3))}, FEATURE),
        ({"image": ("uint8", (1, toy.SIDE, toy.SIDE, 3))}, FEATURE),
        (IMAGE, {"feature": ("float32", ("N", "D"))}),
        (IMAGE, {**FEATURE, "plain": FEATURE["feature"]}),
    ],
    ids=["name", "dtype", "size", "batch", "free", "missing"],
)
def test_what_a_graph_takes_and_gives_is_held_against_what_it_should(inputs: Signature, outputs: Signature) -> None:
    session = Session(content(), "query.onnx", BackendError)
    with pytest.raises(BundleError, match=r"query\.onnx is not what the manifest says") as raised:
        session.check(inputs, outputs, next_step="export it again")
    assert raised.value.got == "image uint8 (N, 32, 32, 3) -> feature float32 (N, 48)"
    assert raised.value.next_step == "export it again"


def test_a_name_of_a_free_dimension_does_not_count() -> None:
    model = toy.graph("query")
    model.graph.input[0].type.tensor_type.shape.dim[0].ClearField("dim_param")
    onnx.checker.check_model(model)
    Session(model.SerializeToString(), "query.onnx", BackendError).check(IMAGE, FEATURE)
