"""timm's models with weights of a file, and without a hub."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from sp_edge.errors import CheckpointError, SettingsError
from sp_edge.model.ready import hub
from sp_edge.model.ready.hub import load_published, read_weights
from sp_edge.model.ready.registry import find_weights
from sp_edge.model.ready.weights import check_fit

SMALL = "timm/mobilenetv3_small_050.lamb_in1k"


@pytest.fixture(scope="module")
def network() -> Any:
    torch.manual_seed(0)
    return timm.create_model("mobilenetv3_small_050").eval()


@pytest.fixture(scope="module")
def file(network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(network.state_dict(), path)
    return path


@torch.no_grad()
def test_the_weights_of_a_file_give_the_features_of_their_network(network: Any, file: Path) -> None:
    ready = load_published(SMALL, file)
    bare = timm.create_model(ready.architecture, num_classes=0).eval()
    bare.load_state_dict(dict(ready.weights))
    pixels = torch.randn(2, 3, 64, 64)
    expected = network.forward_head(network.forward_features(pixels), pre_logits=True)
    assert torch.equal(bare(pixels), expected)
    assert ready.head is not None
    logits = bare(pixels) @ torch.from_numpy(ready.head.rows).T + network.classifier.bias
    assert torch.allclose(logits, network(pixels), atol=1e-5)
    assert ready.head.names[504] == "coffee mug"


def test_what_timm_publishes_of_a_model_comes_with_it(file: Path) -> None:
    ready = load_published(SMALL, file)
    assert (ready.image_size, ready.crop, ready.interpolation, ready.license) == (224, 0.875, "bicubic", "apache-2.0")
    assert ready.mean == pytest.approx((123.675, 116.28, 103.53))
    assert ready.std == pytest.approx((58.395, 57.12, 57.375))
    assert "mobilenetv3_small_050.lamb_in1k" in ready.source
    assert len(ready.sha256) == 64
    assert load_published("timm/mobilenetv3_small_050", file).source == ready.source  # the first of its weights


def test_a_file_of_torch_save_will_do_too(network: Any, tmp_path: Path) -> None:
    torch.save({"state_dict": network.state_dict(), "epoch": 3}, tmp_path / "model.pth")
    ready = load_published(SMALL, tmp_path / "model.pth")
    assert torch.equal(ready.weights["conv_stem.weight"], network.conv_stem.weight)


def test_weights_without_a_classifier_have_no_names(tmp_path: Path) -> None:
    bare = timm.create_model("mobilenetv3_small_050", num_classes=0)
    save_file(bare.state_dict(), tmp_path / "model.safetensors")
    assert load_published(SMALL, tmp_path / "model.safetensors").head is None


def test_a_classifier_whose_classes_nobody_knows_has_no_names(network: Any, file: Path) -> None:
    config = timm.get_pretrained_cfg("mobilenetv3_small_050")
    assert hub._head(network, dataclasses.replace(config, num_classes=1000)) is not None
    strange = timm.create_model("mobilenetv3_small_050", num_classes=37)
    assert hub._head(strange, dataclasses.replace(config, num_classes=37)) is None


def test_weights_of_another_network_are_listed(file: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_published("timm/resnet18.a1_in1k", file)
    assert "missing: conv1.weight" in caught.value.got
    assert "unknown: " in caught.value.got
    assert "bn1.weight (16,) instead of (64,)" in caught.value.got


def test_weights_that_are_not_finite_are_told() -> None:
    own = {"a": torch.zeros(2), "b": torch.zeros(2), "c": torch.ones(1, dtype=torch.int64)}
    with pytest.raises(CheckpointError, match="not finite") as caught:
        check_fit("these", {**own, "b": torch.tensor([0, torch.nan])}, own)
    assert "1 tensors with others: b" in caught.value.got
    check_fit("these", own, own)


def test_a_name_that_ends_before_its_tag_is_told() -> None:
    with pytest.raises(SettingsError, match=r"timm publishes no such weights[\s\S]*timm/resnet18\.a1_in1k"):
        load_published("timm/resnet18.")


@pytest.mark.parametrize(
    ("content", "got"),
    [(b"no weights", "cannot read"), ([torch.zeros(1)], "holds no weights"), ({"a": 3}, "holds no weights")],
)
def test_a_file_of_something_else_is_refused(content: object, got: str, tmp_path: Path) -> None:
    file = tmp_path / "model.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(CheckpointError, match=got):
        read_weights(file)


class Code:
    """What runs when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


def test_code_in_a_file_does_not_run_and_nobody_is_advised_to_run_it(tmp_path: Path) -> None:
    torch.save({"conv1.weight": Code(tmp_path / "ran")}, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="cannot read") as caught:
        read_weights(tmp_path / "model.pth")
    assert not (tmp_path / "ran").exists()
    assert "may be code" in caught.value.got
    assert "weights_only" not in str(caught.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot read"):
        read_weights(tmp_path / "none.safetensors")


def test_without_a_network_and_a_cache_it_says_what_to_copy_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_args: object, **_options: object) -> object:
        raise OSError("no route to host")

    monkeypatch.setattr(hub, "_cached", lambda _repository: None)
    monkeypatch.setattr(hub.timm, "create_model", unreachable)
    with pytest.raises(CheckpointError) as caught:
        load_published(SMALL)
    assert "no route to host" in caught.value.got
    assert "huggingface.co/timm/mobilenetv3_small_050.lamb_in1k" in caught.value.next_step
    assert "--weights model.safetensors" in caught.value.next_step


def test_what_is_in_the_hubs_cache_is_taken(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        hub, "_cached", lambda repository: file if repository == f"timm/{SMALL.removeprefix('timm/')}" else None
    )
    assert load_published(SMALL).sha256 == load_published(SMALL, file).sha256


def test_a_license_that_is_not_open_is_told_before_the_download(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def downloaded(_model: str, _config: object) -> object:
        assert "dinov3-license" in caplog.text
        raise CheckpointError("stop")

    monkeypatch.setattr(hub, "_cached", lambda _repository: None)
    monkeypatch.setattr(hub, "_downloaded", downloaded)
    with caplog.at_level(logging.WARNING), pytest.raises(CheckpointError, match="stop"):
        load_published("timm/vit_small_patch16_dinov3.lvd1689m")


@pytest.mark.parametrize(("license_name", "told"), [("apache-2.0", ""), ("Apache-2.0", ""), (None, "without a license")])
def test_only_a_license_that_is_not_open_is_told(license_name: str | None, told: str, caplog: pytest.LogCaptureFixture) -> None:
    hub.warn_of_license("timm/x", SimpleNamespace(license=license_name, hf_hub_id="timm/x"))
    assert told in caplog.text
    assert bool(caplog.text) == bool(told)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("timm/resnet19", "timm/resnet18"),
        ("timm/resnet18.nope", "timm/resnet18.a1_in1k"),
        ("timm/visformer_tiny.in22k", "timm/visformer_tiny.in1k"),
        ("resnet18", "timm/resnet18"),
        ("efficientnet-lite0", "efficientnet_lite0"),
        ("?", "efficientnet_lite0, efficientnet_lite1, efficientnet_lite2, timm/NAME or open_clip/NAME/TAG"),
    ],
)
def test_an_unknown_model_is_told_with_names_that_are_near(model: str, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        find_weights(model)
    assert expected in caught.value.expected


def test_a_packaged_model_takes_no_file(file: Path) -> None:
    with pytest.raises(SettingsError, match="from a package"):
        find_weights("efficientnet_lite0", file)


def test_pictures_that_cannot_be_prepared_are_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = timm.get_pretrained_cfg("mobilenetv3_small_050")
    for change in ({"input_size": (3, 224, 256)}, {"interpolation": "lanczos"}):
        monkeypatch.setattr(hub, "_config", lambda _model, change=change: dataclasses.replace(config, **change))
        with pytest.raises(SettingsError, match="cannot prepare"):
            load_published(SMALL, file)
