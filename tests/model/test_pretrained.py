from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from sp_edge.errors import CheckpointError, SettingsError
from sp_edge.model import build_backbone
from sp_edge.model.pretrained import load_timm_weights, seen_classes

CREATE = timm.create_model


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, torch.Tensor]]:
    """`publish('visformer_tiny')` puts random weights of that model where timm looks for its own, and gives them."""

    def make(name: str) -> dict[str, torch.Tensor]:
        torch.manual_seed(7)
        weights = CREATE(name).state_dict()
        for value in weights.values():
            if value.is_floating_point():
                value.normal_().abs_()
        save_file(weights, tmp_path / "model.safetensors")

        def local(model: str, pretrained: bool = False, **options: Any) -> Any:
            overlay = {"pretrained_cfg_overlay": {"file": str(tmp_path / "model.safetensors")}} if pretrained else {}
            return CREATE(model, pretrained=pretrained, **overlay, **options)

        monkeypatch.setattr(timm, "create_model", local)
        return weights

    return make


@pytest.mark.parametrize("name", ["visformer_tiny", "timm:resnet10t"])
def test_timms_weights_are_loaded_by_name(publish: Callable[..., dict[str, torch.Tensor]], name: str) -> None:
    weights = publish(name.removeprefix("timm:"))
    backbone = build_backbone(name, 224)
    loaded = load_timm_weights(backbone, name)
    assert loaded == {"visformer_tiny": "visformer_tiny.in1k", "timm:resnet10t": "resnet10t.c3_in1k"}[name]
    for key, value in backbone.state_dict().items():
        torch.testing.assert_close(value, weights[key], rtol=0, atol=0, msg=key)


def test_position_embeddings_are_resized_to_the_picture(publish: Callable[..., dict[str, torch.Tensor]]) -> None:
    weights = publish("visformer_tiny")
    backbone = build_backbone("visformer_tiny", 96)
    load_timm_weights(backbone, "visformer_tiny")
    assert backbone.pos_embed2.shape == (1, 192, 6, 6)
    torch.testing.assert_close(backbone.stem[0].weight, weights["stem.0.weight"], rtol=0, atol=0)
    resized = torch.nn.functional.interpolate(weights["pos_embed2"], size=(6, 6), mode="bicubic", antialias=True)
    torch.testing.assert_close(backbone.pos_embed2.detach(), resized)


@pytest.mark.parametrize("name", ["visformer_mini", "visformer_tiny_84", "resnet12"])
def test_a_backbone_that_timm_has_no_weights_for(name: str) -> None:
    with pytest.raises(SettingsError, match="publishes no weights") as raised:
        load_timm_weights(torch.nn.Identity(), name)
    assert raised.value.got == name


def test_weights_that_nobody_published() -> None:
    with pytest.raises(CheckpointError, match="cannot be had") as raised:
        load_timm_weights(torch.nn.Identity(), "timm:resnet10")
    assert "hub" in raised.value.expected


def test_without_a_network_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("we are off line")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(CheckpointError, match=r"visformer_tiny cannot be had[\s\S]*we are off line"):
        load_timm_weights(torch.nn.Identity(), "visformer_tiny")


def test_weights_of_another_network_are_refused(publish: Callable[..., dict[str, torch.Tensor]]) -> None:
    publish("visformer_tiny")
    with pytest.raises(CheckpointError, match=r"do not fit[\s\S]*tensors differ"):
        load_timm_weights(build_backbone("visformer_mini", 64), "visformer_tiny")


@pytest.mark.parametrize(
    ("source", "share"), [("mini-imagenet", "all"), ("tiered-imagenet", "all"), ("cifar-fs", "many"), ("cub", "some")]
)
def test_benchmarks_whose_novel_classes_have_been_seen_are_warned_of(source: str, share: str) -> None:
    warning = seen_classes(source)
    assert warning is not None
    assert f"holds {share} of {source}'s novel classes" in warning


def test_drawn_scenes_and_ones_own_folders_are_not() -> None:
    assert seen_classes("scenes") is None
    assert seen_classes("/data/birds") is None
