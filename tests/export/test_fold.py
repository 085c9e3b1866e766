from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sp_edge.model import PromptedFeatureMap, PromptedNetwork
from sp_edge.model.normalization import Normalization
from sp_edge_export.fold import FoldedAttention, fold


def relative(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).abs().max() / expected.abs().max())


@pytest.fixture(scope="module")
def inputs(images: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    return Normalization()(torch.from_numpy(images[:4].copy())), torch.from_numpy(
        np.random.default_rng(3).normal(0, 2, (4, 16)).astype(np.float32)
    )


@pytest.mark.parametrize("layer", ["3-0", "3-2"])
@pytest.mark.parametrize(
    ("interaction", "pooling"),
    [("both", "all"), ("both", "patch"), ("both", "head"), ("spatial", "all"), ("spatial", "head"), ("channel", "all")],
)
@torch.no_grad()
def test_a_folded_network_computes_the_same(
    build_small: Callable[..., PromptedNetwork], inputs: tuple[Tensor, Tensor], interaction: str, pooling: str, layer: str
) -> None:
    network = build_small(interaction=interaction, pooling=pooling, layer=layer)
    folded = fold(network)
    image, prompt = inputs
    assert relative(folded(image), network(image)) < 1e-5
    assert relative(folded(image, prompt), network(image, prompt)) < 1e-5
    assert relative(network(image, prompt), network(image)) > 1e-2, "the prompt does nothing here: the test would prove nothing"


@pytest.mark.parametrize(
    "changes",
    [
        {"layer": "2-0"},
        {"layer": "2-1", "interaction": "spatial", "projector": "mlp"},
        {"layer": "2-1", "interaction": "channel", "zero_mean": False, "pooling": "patch"},
        {"projector": "mlp3", "zero_mean": False, "pooling": "head"},
        {"prompt_strength": 0.4, "layer": "2-1"},
        {"text_prototype": True, "text_share": 0.3, "prompt_strength": 0.6},
        {"backbone": "visformer_tiny_84", "image_size": 36, "projector": "mlp", "pooling": "patch"},
        {"backbone": "visformer_small", "image_size": 32},
        {"backbone": "visformer_mini", "interaction": "channel", "layer": "last"},
        {"backbone": "resnet12", "image_size": 32, "interaction": "channel", "layer": "last"},
        {"backbone": "timm:resnet10t", "interaction": "channel", "layer": "last"},
        {"backbone": "timm:tf_efficientnet_lite0", "interaction": "spatial", "layer": "last"},
        {"backbone": "timm:vit_tiny_patch16_224", "interaction": "spatial", "layer": "last"},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
@torch.no_grad()
def test_every_switch_and_backbone(build_small: Callable[..., PromptedNetwork], changes: dict[str, Any]) -> None:
    network = build_small(settled=True, **changes)
    side = changes.get("image_size", 64)
    rng = torch.Generator().manual_seed(5)
    image, prompt = torch.randn(4, 3, side, side, generator=rng), 2 * torch.randn(4, 16, generator=rng)
    folded = fold(network)
    assert relative(folded(image), network(image)) < 2e-5
    assert relative(folded(image, prompt), network(image, prompt)) < 2e-5
    assert relative(network(image, prompt), network(image)) > 1e-3, "the prompt does nothing here"


@torch.no_grad()
def test_without_prompts_and_in_the_large_size(
    build_small: Callable[..., PromptedNetwork], inputs: tuple[Tensor, Tensor]
) -> None:
    for changes in ({"interaction": "none"}, {"backbone": "visformer_tiny", "layer": "3-2"}):
        network = build_small(**changes)
        assert relative(fold(network)(inputs[0]), network(inputs[0])) < 1e-5


def test_no_norm_is_left_before_a_convolution(build_small: Callable[..., PromptedNetwork]) -> None:
    folded = fold(build_small())
    left = [name for name, module in folded.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert left == ["backbone.norm"], "the last one is followed by the pooling, and by nothing to fold it into"
    blocks = [block for stage in (folded.backbone.stage2, folded.backbone.stage3) for block in stage]
    assert blocks
    assert all(isinstance(block.attn, FoldedAttention) for block in blocks)


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({"backbone": "visformer_tiny_84", "layer": "2-3"}, ["backbone.norm"]),
        ({"backbone": "resnet12", "interaction": "channel", "layer": "last"}, []),
    ],
)
def test_nor_in_the_other_backbones(
    build_small: Callable[..., PromptedNetwork], changes: dict[str, str], left: list[str]
) -> None:
    folded = fold(build_small(**changes))
    assert [name for name, module in folded.named_modules() if isinstance(module, nn.BatchNorm2d)] == left


def test_the_original_is_left_as_it_was(build_small: Callable[..., PromptedNetwork]) -> None:
    network = build_small().train()
    before = copy.deepcopy(network.state_dict())
    folded = fold(network)
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert network.training
    assert not folded.training
    shared = {p.data_ptr() for p in folded.parameters()} & {p.data_ptr() for p in network.parameters()}
    assert not shared, "a change to the folded weights would change the original's"


@pytest.mark.parametrize("backbone", ["timm:resnet10t", "timm:tf_efficientnet_lite0", "timm:mobilenetv3_small_050", "resnet12"])
def test_every_norm_behind_a_convolution_goes_into_it(build_small: Callable[..., PromptedNetwork], backbone: str) -> None:
    network = build_small(backbone=backbone, interaction="none")
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fold(network).modules())


class Odd(nn.Module):
    """Convolutions whose BatchNorm is not all that sees what they give."""

    num_features = head_hidden_size = 8

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.conv, self.norm = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)
        self.norm.running_mean.normal_()  # type: ignore[union-attr]

    def forward_features(self, image: Tensor) -> Tensor:
        given = self.conv(image)
        if self.form == "used twice":
            return self.norm(given) - given
        if self.form == "called twice":
            return self.norm(given) * self.conv(image + 1)
        return self.norm(given.relu_())

    def forward_head(self, features: Tensor, pre_logits: bool = True) -> Tensor:
        return features.mean(dim=(2, 3))


@pytest.mark.parametrize("form", ["used twice", "called twice", "changed in place"])
@torch.no_grad()
def test_a_norm_that_does_not_follow_directly_stays(form: str) -> None:
    torch.manual_seed(0)
    network = PromptedFeatureMap(Odd(form), None, image_size=16).eval()
    folded = fold(network)
    image = torch.randn(2, 3, 16, 16)
    assert isinstance(folded.backbone.norm, nn.BatchNorm2d)
    torch.testing.assert_close(folded(image), network(image))
