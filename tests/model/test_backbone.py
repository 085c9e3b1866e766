from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from sp_edge.errors import SettingsError
from sp_edge.model import BACKBONES, build_backbone


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


@pytest.mark.parametrize("name", [name for name in BACKBONES if name.startswith("visformer")])
@pytest.mark.parametrize("side", [32, 64, 84, 98])
def test_each_stage_halves_the_grid_and_leaves_out_what_does_not_divide(name: str, side: int) -> None:
    backbone = build_backbone(name, side).eval()
    stem = side if name == "visformer_tiny_84" else side // 2
    grids = [stem // 4, stem // 8, stem // 16]
    assert [tuple(p.shape[2:]) for p in (backbone.pos_embed1, backbone.pos_embed2, backbone.pos_embed3)] == [
        (g, g) for g in grids
    ]
    with torch.no_grad():
        assert backbone.forward_features(torch.zeros(1, 3, side, side)).shape[2:] == (grids[2], grids[2])


@pytest.mark.parametrize(("name", "side"), [("visformer_tiny_84", 33), ("resnet12", 33), ("timm:resnet10t", 65)])
def test_an_odd_size_is_taken_where_the_network_can(name: str, side: int) -> None:
    backbone = build_backbone(name, side).eval()
    with torch.no_grad():
        assert backbone(torch.zeros(1, 3, side, side)).shape == (1, backbone.head_hidden_size)


@pytest.mark.parametrize("name", ["visformer_mini", "visformer_tiny", "visformer_small"])
@pytest.mark.parametrize("side", [-32, 0, 30, 63, 65, 225, 2050])
def test_a_size_that_the_network_cannot_take_is_refused(name: str, side: int) -> None:
    with pytest.raises(SettingsError, match="picture size") as raised:
        build_backbone(name, side)
    assert raised.value.got == str(side)
    assert raised.value.expected == "an even number, 32 to 2048"


def test_the_small_stem_is_as_the_authors_files_have_it() -> None:
    """Names, shapes and counts from a file of theirs: 9,900,848 with a head of 64 classes."""
    backbone = build_backbone("visformer_tiny_84", 84)
    assert count(backbone) + 64 * 384 + 64 == 9_900_848
    shapes = {n: tuple(v.shape) for n, v in backbone.state_dict().items() if n.startswith(("stem", "pos_embed"))}
    norm = {"weight": (16,), "bias": (16,), "running_mean": (16,), "running_var": (16,), "num_batches_tracked": ()}
    assert shapes == {
        "stem.0.weight": (16, 3, 3, 3),
        "stem.3.weight": (16, 16, 3, 3),
        **{f"stem.{i}.{name}": shape for i in (1, 4) for name, shape in norm.items()},
        "pos_embed1": (1, 96, 21, 21),
        "pos_embed2": (1, 192, 10, 10),
        "pos_embed3": (1, 384, 5, 5),
    }
    # And with timm's own stem at 84 pixels: 9,845,232.
    assert count(build_backbone("visformer_tiny", 84)) + 64 * 384 + 64 == 9_845_232


def test_the_small_stem_is_two_convolutions_with_norm_and_relu() -> None:
    backbone = build_backbone("visformer_tiny_84", 84).eval()
    picture = torch.randn(1, 3, 84, 84)
    x = picture
    for conv, norm in ((0, 1), (3, 4)):
        x = torch.conv2d(x, backbone.stem[conv].weight, padding=1) / (1 + backbone.stem[norm].eps) ** 0.5
        x = x.clamp(min=0)
    with torch.no_grad():
        torch.testing.assert_close(backbone.stem(picture), x, rtol=1e-5, atol=1e-5)
    assert backbone.stem[0].weight.std() > 0.05, "initialised as timm's convolutions, by their fan-out"


def test_the_small_size_is_timms() -> None:
    timms = timm.create_model("visformer_small", num_classes=0, img_size=64)
    ours = build_backbone("visformer_small", 64)
    ours.load_state_dict(timms.state_dict(), strict=True)
    assert ours.num_features == 768


def test_resnet12_is_easyfsls() -> None:
    from easyfsl.modules import feat_resnet12

    ours, theirs = build_backbone("resnet12", 84).eval(), feat_resnet12().eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    picture = torch.randn(2, 3, 84, 84)
    with torch.no_grad():
        torch.testing.assert_close(ours(picture), theirs(picture), rtol=0, atol=0)
        assert ours.forward_features(picture).shape == (2, 640, 5, 5)
    assert count(ours) == 12_424_320


@pytest.mark.parametrize("name", ["visformer_tiny_84", "visformer_mini", "visformer_tiny", "timm:vit_tiny_patch16_224"])
def test_drop_path_rises_over_the_blocks(name: str) -> None:
    probs = [m.drop_prob for m in build_backbone(name, 64, 0.3).modules() if type(m).__name__ == "DropPath"]
    assert len(set(probs)) == len(probs) > 1 or name.startswith("timm")
    assert max(probs) == pytest.approx(0.3)
    assert not [m for m in build_backbone(name, 64).modules() if type(m).__name__ == "DropPath"]


def test_a_drop_path_that_the_network_does_not_have_is_refused() -> None:
    with pytest.raises(SettingsError, match="no drop-path"):
        build_backbone("resnet12", 64, 0.1)
    with pytest.raises(SettingsError, match="cannot be built so"):
        build_backbone("timm:densenet121", 64, 0.1)


def test_any_model_of_timms_is_left_in_training_mode() -> None:
    backbone = build_backbone("timm:resnet10t", 64)
    assert all(module.training for module in backbone.modules())


@pytest.mark.parametrize("name", ["resnet13", "", "timm", "Visformer_tiny"])
def test_an_unknown_backbone_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(SettingsError, match="unknown backbone") as raised:
        build_backbone(name, 224)
    assert raised.value.expected == f"{', '.join(BACKBONES)}, timm:NAME or open_clip:NAME"
    assert raised.value.got == name


@pytest.mark.parametrize("name", ["visformr_tiny", "", "hf-hub:timm/resnet18.a1_in1k", "../resnet18", "local-dir:/tmp"])
def test_a_model_that_timm_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="timm has no such model") as raised:
        build_backbone(f"timm:{name}", 64)
    assert raised.value.got == name
    if name.startswith("visformr"):
        assert "visformer_tiny" in raised.value.expected


def test_a_size_that_timms_model_cannot_take_is_refused() -> None:
    with pytest.raises(SettingsError, match="cannot be built so") as raised:
        build_backbone("timm:maxvit_tiny_rw_224", 33)
    assert "33 pixels" in raised.value.got
