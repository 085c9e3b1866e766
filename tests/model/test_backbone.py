from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from sp_edge.errors import SettingsError
from sp_edge.model import BACKBONES, build_backbone

SIZES = {"visformer_tiny": 224, "visformer_mini": 64}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_timms_own_weights_fit_strictly() -> None:
    timms = timm.create_model("visformer_tiny", num_classes=0)
    ours = build_backbone("visformer_tiny", 224)
    ours.load_state_dict(timms.state_dict(), strict=True)
    picture = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(picture), timms.eval()(picture), rtol=0, atol=0)


def test_the_tiny_backbone_has_as_many_parameters_as_the_papers() -> None:
    backbone = build_backbone("visformer_tiny", 224)
    assert count(backbone) == 9_936_368
    assert backbone.num_features == 384
    assert [len(backbone.stage1), len(backbone.stage2), len(backbone.stage3)] == [7, 4, 4]


def test_the_mini_backbone_is_half_as_wide() -> None:
    backbone = build_backbone("visformer_mini", 64)
    assert backbone.num_features == 192
    assert [len(backbone.stage1), len(backbone.stage2), len(backbone.stage3)] == [1, 2, 3]
    assert [p.shape[1] for p in (backbone.pos_embed1, backbone.pos_embed2, backbone.pos_embed3)] == [48, 96, 192]
    assert count(backbone) < count(build_backbone("visformer_tiny", 224)) / 4


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_gives_features_and_passes_gradients_to_all_weights(name: str) -> None:
    backbone = build_backbone(name, 64)
    features = backbone(torch.randn(2, 3, 64, 64))
    assert features.shape == (2, backbone.num_features)
    features.square().sum().backward()
    assert not [n for n, p in backbone.named_parameters() if p.grad is None]


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("side", [64, 96])
def test_the_last_grid_is_a_thirty_second_of_the_picture(name: str, side: int) -> None:
    backbone = build_backbone(name, side).eval()
    with torch.no_grad():
        assert backbone.forward_features(torch.zeros(1, 3, side, side)).shape[2:] == (side // 32, side // 32)


@pytest.mark.parametrize("side", [-32, 0, 32, 63, 65, 84, 225])
def test_a_size_that_the_network_cannot_take_is_refused(side: int) -> None:
    with pytest.raises(SettingsError, match="picture size") as raised:
        build_backbone("visformer_mini", side)
    assert raised.value.got == str(side)


def test_an_unknown_backbone_is_refused_with_those_that_are() -> None:
    with pytest.raises(SettingsError, match="unknown backbone") as raised:
        build_backbone("resnet12", 224)
    assert raised.value.expected == "visformer_tiny, visformer_mini"
    assert raised.value.got == "resnet12"
