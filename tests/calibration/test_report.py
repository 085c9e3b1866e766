from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import onnx
import pytest

import toy
from sp_edge.matching.decide import unit
from sp_edge.preprocess import Preprocess
from sp_edge_calibration.pictures import Pictures
from sp_edge_calibration.plot import draw
from sp_edge_calibration.quantize import quantize
from sp_edge_calibration.ranges import tensor_ranges
from sp_edge_calibration.report import Report, leave_one_out, measure
from sp_edge_calibration.sensitivity import sensitivities
from sp_edge_calibration.session import features_of


@pytest.fixture
def pictures(photos: Path) -> Pictures:
    return Pictures.read(photos, Preprocess(32, 1.0))


@pytest.fixture
def report(model: onnx.ModelProto, pictures: Pictures) -> Report:
    return measure(model, pictures, pictures.images)


def test_sensitivity_is_of_one_layer_alone(model: onnx.ModelProto, pictures: Pictures) -> None:
    inputs = {"image": pictures.images}
    ranges = tensor_ranges(model, inputs)
    found = sensitivities(model, ranges, inputs)
    assert list(found) == sorted(found, key=lambda name: -found[name])
    alone = quantize(model, ranges, skip=["wide"])
    cosine = (unit(features_of(alone, inputs)) * unit(features_of(model, inputs))).sum(axis=1).mean()
    assert found["narrow"] == pytest.approx(1 - cosine, abs=1e-6)


def test_a_layer_that_eight_bits_ruin_comes_first(model: onnx.ModelProto, pictures: Pictures) -> None:
    # One channel of what goes into 'narrow' is a thousand times the others: the others round to nothing.
    weight = next(c for c in model.graph.initializer if c.name == "wide.weight")
    values = onnx.numpy_helper.to_array(weight).copy()
    values[3] *= 1000
    weight.CopyFrom(onnx.numpy_helper.from_array(values, "wide.weight"))
    narrow = next(c for c in model.graph.initializer if c.name == "narrow.weight")
    values = onnx.numpy_helper.to_array(narrow).copy()
    values[:, 3] /= 1e4
    narrow.CopyFrom(onnx.numpy_helper.from_array(values, "narrow.weight"))
    inputs = {"image": pictures.images}
    found = sensitivities(model, tensor_ranges(model, inputs), inputs)
    assert next(iter(found)) == "narrow"
    assert found["narrow"] > 20 * found["wide"]


def test_the_report_says_what_was_measured(report: Report, model: onnx.ModelProto, pictures: Pictures) -> None:
    assert [layer.layer for layer in report.layers] == ["wide", "narrow"]
    ranges = tensor_ranges(model, {"image": pictures.images})
    assert (report.layers[0].low, report.layers[0].high) == ranges["first"]
    assert report.layers[0].headroom == pytest.approx(65504 / max(map(abs, ranges["first"])))
    assert 0.99 < report.cosine_min <= report.cosine_mean < 1
    assert [(value.name, value.pictures) for value in report.classes] == [(name, 8) for name in sorted(toy.COLOURS)]
    assert all(value.fp32 == value.int8 == 1 for value in report.classes), "three colours are easy"
    content = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert content["kind"] == "sp-edge calibration report"
    assert content["layers"][1]["layer"] == "narrow"


def test_without_class_folders_there_is_no_accuracy(model: onnx.ModelProto, pictures: Pictures, photos: Path) -> None:
    flat = Pictures(photos, pictures.images, tuple(photos / file.name for file in pictures.files), 25, ())
    assert measure(model, flat, pictures.images).classes == ()


def test_the_plot_shows_every_layer_and_class(report: Report) -> None:
    root = ET.fromstring(draw(report))  # noqa: S314 - our own
    words = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"wide", "narrow", "red (8)", "green (8)", "blue (8)"} <= set(words)
    assert sum(node.get("rx") == "2" for node in root.iter("{http://www.w3.org/2000/svg}rect")) == 4


def test_a_folder_may_be_called_anything(report: Report) -> None:
    names = [os.fsdecode(b"a\xff"), "b\x01c", "<&>"]
    odd = replace(report, classes=tuple(replace(value, name=name) for value, name in zip(report.classes, names, strict=True)))
    root = ET.fromstring(draw(odd).encode())  # noqa: S314 - our own
    words = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {r"a\udcff (8)", r"b\x01c (8)", "<&> (8)"} <= set(words)


def test_leave_one_out_by_hand() -> None:
    features = np.array([[1, 0], [1, 0.2], [0, 1], [0.2, 1], [1, 0.1]], np.float32)
    labels = np.array([0, 0, 1, 1, 1])
    # The last one's class, without it, points up; the first class points right.
    assert leave_one_out(features, labels).tolist() == [True, True, True, True, False]


def test_leave_one_out_restated() -> None:
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(30, 4)).astype(np.float32), np.arange(30) % 3
    expected = []
    for row in range(30):
        rest = np.arange(30) != row
        means = np.stack([features[rest & (labels == c)].mean(axis=0) for c in range(3)])
        expected.append(int((unit(means) @ unit(features[row])).argmax()) == labels[row])
    assert leave_one_out(features, labels).tolist() == expected
