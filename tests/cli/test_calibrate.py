from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from PIL import Image

import toy

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A toy bundle whose query graph ends in two convolutions."""
    folder = toy.make_bundle(tmp_path / "model.spedge")
    model = toy.graph("query")
    rng = toy.np.random.default_rng(0)
    for number, last in enumerate(("planes", "conv0")):
        weight = rng.normal(size=(3, 3, 1, 1)).astype("float32")
        model.graph.initializer.append(onnx.numpy_helper.from_array(weight, f"w{number}"))
        node = onnx.helper.make_node("Conv", [last, f"w{number}"], [f"conv{number}"], f"layer{number}")
        model.graph.node.insert(4 + number, node)
    next(node for node in model.graph.node if node.op_type == "AveragePool").input[0] = "conv1"
    onnx.save(model, folder / "query.onnx")
    toy.reseal(folder)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in toy.COLOURS:
        (tmp_path / "photos" / name).mkdir(parents=True)
        for seed in range(6):
            Image.fromarray(toy.picture(name, side=40, seed=seed)).save(tmp_path / "photos" / name / f"{seed}.png")
    return tmp_path / "photos"


def test_calibrate_shows_a_table_and_writes_a_report(call: Call, bundle: Path, photos: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    code, out, err = call("calibrate", bundle, "--data", photos)
    assert code == 0, err
    assert "18 calibration pictures are few" in err
    lines = out.splitlines()
    assert any(line.startswith("layer1") and len(line.split()) == 6 for line in lines)
    assert any(line.split() == ["blue", "6", "100.0", "100.0"] for line in lines)
    assert sorted(tmp_path.rglob("*")) == before, "nothing is written unless asked for"
    code, out, err = call("calibrate", bundle, "--data", photos, "--report", tmp_path / "deep" / "report")
    assert code == 0, err
    content = json.loads((tmp_path / "deep" / "report" / "report.json").read_text("utf-8"))
    assert [layer["layer"] for layer in content["layers"]] == ["layer1"]
    assert (tmp_path / "deep" / "report" / "report.svg").read_text("utf-8").startswith("<svg")


def test_what_it_cannot_use_is_said(call: Call, bundle: Path, photos: Path, tmp_path: Path) -> None:
    assert call("calibrate", bundle)[0] == 2
    code, _, err = call("calibrate", bundle, "--data", tmp_path / "none")
    assert (code, "no folder" in err) == (2, True)
    (tmp_path / "file").write_text("here already")
    code, _, err = call("calibrate", bundle, "--data", photos, "--report", tmp_path / "file")
    assert code == 2
    code, _, err = call("calibrate", tmp_path / "none.safetensors", "--data", photos)
    assert (code, "none.safetensors" in err) == (2, True)
    (bundle / "query.onnx").write_bytes((bundle / "query.onnx").read_bytes()[:-30])
    toy.reseal(bundle)
    code, _, err = call("calibrate", bundle, "--data", photos)
    assert (code, "query.onnx" in err) == (1, True)


def test_pictures_that_cannot_be_read_are_named_at_the_end(call: Call, bundle: Path, photos: Path) -> None:
    (photos / "red" / "bad.png").write_bytes(b"no picture")
    code, out, err = call("calibrate", bundle, "--data", photos)
    assert code == 2
    assert any(line.startswith("layer1") for line in out.splitlines())
    assert "1 of 19 pictures cannot be read, and were left out" in err
    assert "bad.png" in err
