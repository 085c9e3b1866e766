from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sp_edge.model import PromptedNetwork
from sp_edge.model.network import normalise
from sp_edge_export.fold import FoldedAttention, fold


def relative(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).abs().max() / expected.abs().max())


@pytest.fixture(scope="module")
def inputs(images: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    return normalise(torch.from_numpy(images[:4].copy())), torch.from_numpy(
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
