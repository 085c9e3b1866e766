"""A small graph with three convolutions that takes pictures, and pictures of three kinds in a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import toy


def graph(**weights: NDArray[np.floating]) -> onnx.ModelProto:
    """uint8 (N, 32, 32, 3) -> scaled -> stem -> wide -> Relu -> narrow -> mean -> feature (N, 48)."""
    rng = np.random.default_rng(0)
    constants = {
        "scale": np.array(1 / 128, np.float32),
        "axes": np.array([2, 3], np.int64),
        "stem.weight": rng.normal(size=(8, 3, 4, 4)),
        "wide.weight": rng.normal(size=(16, 8, 1, 1)),
        "narrow.weight": rng.normal(size=(48, 16, 1, 1)),
    } | weights
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "stem.weight"], ["first"], "stem", strides=[4, 4]),
        helper.make_node("Conv", ["first", "wide.weight"], ["second"], "wide"),
        helper.make_node("Relu", ["second"], ["positive"]),
        helper.make_node("Conv", ["positive", "narrow.weight"], ["third"], "narrow"),
        helper.make_node("ReduceMean", ["third", "axes"], ["feature"], keepdims=0),
    ]
    made = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 32, 32, 3])],
        [helper.make_tensor_value_info("feature", TensorProto.FLOAT, ["N", 48])],
        [
            numpy_helper.from_array(value if value.dtype == np.int64 else value.astype(np.float32), name)
            for name, value in constants.items()
        ],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.fixture
def model() -> onnx.ModelProto:
    return graph()


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures of each colour in class folders, one beside them, and a file that is no picture; not to be changed."""
    folder = tmp_path_factory.mktemp("photos")
    for name in toy.COLOURS:
        (folder / name).mkdir()
        for seed in range(8):
            Image.fromarray(toy.picture(name, side=40, seed=seed)).save(folder / name / f"{seed}.png")
    Image.fromarray(toy.picture("red", side=40, seed=9)).save(folder / "loose.png")
    (folder / "red" / "broken.jpg").write_bytes(b"not a picture")
    return folder
