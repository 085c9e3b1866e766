"""The network against a plain re-statement of the paper's equations, written here from the formulas in float64."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from sp_edge.errors import SettingsError
from sp_edge.model import PromptedVisformer, SemanticPrompt, build_backbone, build_network
from sp_edge.model.network import MEAN, STD, normalise
from sp_edge.settings import ModelSettings

TEXT_DIM = 7
SIDE = 96  # the last grid is 3 x 3: M = 9 patches


def settings(**changes: Any) -> ModelSettings:
    return ModelSettings(**{"backbone": "visformer_mini", "image_size": SIDE, "layer": "3-1", **changes})


def random_network(seed: int = 0, text_dim: int = TEXT_DIM, **changes: Any) -> PromptedVisformer:
    """In eval mode, with weights and BatchNorm statistics of which none is 0 or 1."""
    torch.manual_seed(seed)
    network = build_network(settings(**changes), text_dim)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
            elif isinstance(module, nn.Conv2d):
                module.weight.normal_(0, 0.7 / math.sqrt(module.weight[0].numel()))
        for name, value in network.named_parameters():
            if "pos_embed" in name:
                value.normal_(0, 0.3)
    return network.eval()


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def texts() -> Tensor:
    return torch.randn(2, TEXT_DIM, generator=torch.Generator().manual_seed(2))


# --- the paper's equations, one picture at a time, tokens as a list of vectors ---


def batch_norm(token: Tensor, norm: Any) -> Tensor:
    return (token - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias


def self_attention(tokens: list[Tensor], attention: Any, heads: int) -> list[Tensor]:
    """Multi-head self-attention: each token's output mixes all values by softmax(q.k / sqrt(d))."""
    width = len(tokens[0])
    d = width // heads
    every = [attention.qkv.weight[:, :, 0, 0] @ token for token in tokens]
    outputs = []
    for i in range(len(tokens)):
        mixed = []
        for h in range(heads):
            cut = slice(h * d, (h + 1) * d)
            query = every[i][:width][cut]
            keys = [x[width : 2 * width][cut] for x in every]
            values = [x[2 * width :][cut] for x in every]
            exponents = [math.exp(float(query @ key) / math.sqrt(d)) for key in keys]
            mixed.append(sum(e / sum(exponents) * value for e, value in zip(exponents, values, strict=True)))
        outputs.append(attention.proj.weight[:, :, 0, 0] @ torch.cat(mixed))
    return outputs


def feed_forward(token: Tensor, mlp: Any) -> Tensor:
    hidden = mlp.conv1.weight[:, :, 0, 0] @ token
    gelu = 0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2)))
    return mlp.conv3.weight[:, :, 0, 0] @ gelu


def transformer_layer(tokens: list[Tensor], block: Any, heads: int) -> list[Tensor]:
    mixed = self_attention([batch_norm(t, block.norm1) for t in tokens], block.attn, heads)
    tokens = [t + m for t, m in zip(tokens, mixed, strict=True)]
    return [t + feed_forward(batch_norm(t, block.norm2), block.mlp) for t in tokens]


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def feature_by_the_paper(net: PromptedVisformer, grid: Tensor, text: Tensor | None, layer: int, pooling: str) -> Tensor:
    """f(x | g(y)) from the tokens (C, h, w) that enter the prompt's layer."""
    tokens = [grid[:, i, j] for i, j in itertools.product(range(grid.shape[1]), range(grid.shape[2]))]
    prompt = net.prompt
    has_token = False
    if text is not None and prompt is not None:
        if prompt.channel is not None and prompt.channel_mlp is not None:
            w1, w2 = prompt.channel_mlp[0], prompt.channel_mlp[2]
            context = sum(tokens) / len(tokens)
            z0 = prompt.channel.weight @ text
            beta = sigmoid(w2.weight @ sigmoid(w1.weight @ torch.cat([context, z0]) + w1.bias) + w2.bias)
            tokens = [t + beta for t in tokens]
        if prompt.spatial is not None:
            tokens = [prompt.spatial.weight @ text, *tokens]
            has_token = True
    for block in net.backbone.stage3[layer:]:
        tokens = transformer_layer(tokens, block, heads=3)
    tokens = [batch_norm(t, net.backbone.norm) for t in tokens]
    if has_token and pooling == "head":
        return tokens[0]
    if has_token and pooling == "patch":
        tokens = tokens[1:]
    return sum(tokens) / len(tokens)  # type: ignore[return-value]


@pytest.mark.parametrize("pooling", ["all", "patch", "head"])
@pytest.mark.parametrize("interaction", ["both", "spatial", "channel"])
def test_a_prompted_feature_is_the_papers(pictures: Tensor, texts: Tensor, interaction: str, pooling: str) -> None:
    network = random_network(interaction=interaction, pooling=pooling).double()
    with torch.no_grad():
        actual = network(pictures.double(), texts.double())
        tokens = network.begin(pictures.double())
        rows = [feature_by_the_paper(network, t, g.double(), 1, pooling) for t, g in zip(tokens, texts, strict=True)]
        torch.testing.assert_close(actual, torch.stack(rows), rtol=1e-10, atol=1e-10)
        plain = network(pictures.double())
    assert (plain - actual).abs().max() > 1e-3, "the prompt must matter, or the comparison says nothing"


@pytest.mark.parametrize("layer", [0, 2])
def test_the_prompt_enters_before_the_layer_that_is_set(pictures: Tensor, texts: Tensor, layer: int) -> None:
    network = random_network(layer=f"3-{layer}").double()
    with torch.no_grad():
        actual = network(pictures.double(), texts.double())
        every = network.backbone
        x = every.stage1(every.patch_embed1(every.stem(pictures.double())) + every.pos_embed1)
        x = every.stage2(every.patch_embed2(x) + every.pos_embed2)
        x = every.stage3[:layer](every.patch_embed3(x) + every.pos_embed3)
        rows = [feature_by_the_paper(network, t, g.double(), layer, "all") for t, g in zip(x, texts, strict=True)]
    torch.testing.assert_close(actual, torch.stack(rows), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("interaction", ["both", "none"])
@pytest.mark.parametrize("pooling", ["all", "patch", "head"])
def test_a_plain_feature_is_the_papers_whatever_the_pooling(pictures: Tensor, interaction: str, pooling: str) -> None:
    network = random_network(interaction=interaction, pooling=pooling).double()
    with torch.no_grad():
        rows = [feature_by_the_paper(network, t, None, 1, pooling) for t in network.begin(pictures.double())]
        torch.testing.assert_close(network(pictures.double()), torch.stack(rows), rtol=1e-10, atol=1e-10)


# --- against timm ---


@pytest.mark.parametrize("layer", ["3-0", "3-2"])
def test_without_a_prompt_it_is_timms_own_network(pictures: Tensor, layer: str) -> None:
    network = random_network(layer=layer)
    with torch.no_grad():
        timms = network.backbone.forward_head(network.backbone.forward_features(pictures), pre_logits=True)
        torch.testing.assert_close(network(pictures), timms, rtol=1e-5, atol=1e-5)


def test_without_a_prompt_the_tiny_network_is_timms_from_its_registry() -> None:
    timms = timm.create_model("visformer_tiny", num_classes=0, img_size=64).eval()
    network = build_network(ModelSettings(image_size=64), TEXT_DIM).eval()
    network.backbone.load_state_dict(timms.state_dict(), strict=True)
    picture = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = timms.forward_head(timms.forward_features(picture), pre_logits=True)
        torch.testing.assert_close(network(picture), expected, rtol=1e-5, atol=1e-5)
    assert network.feature_dim == 384
    assert network.layer == 2


def test_without_a_prompt_the_backbones_gradients_are_timms_and_the_prompt_has_none(pictures: Tensor) -> None:
    network = random_network().double()
    weights = torch.randn(2, network.feature_dim, generator=torch.Generator().manual_seed(3)).double()
    backbone = network.backbone
    (backbone.forward_head(backbone.forward_features(pictures.double()), pre_logits=True) * weights).sum().backward()
    timms = {name: value.grad.clone() for name, value in backbone.named_parameters()}
    backbone.zero_grad()
    (network(pictures.double()) * weights).sum().backward()
    for name, value in backbone.named_parameters():
        torch.testing.assert_close(value.grad, timms[name], rtol=1e-8, atol=1e-10, msg=name)
    assert all(value.grad is None for value in network.prompt.parameters())


# --- the two halves ---


@pytest.mark.parametrize("prompted", [True, False])
@pytest.mark.parametrize("interaction", ["both", "spatial", "channel"])
def test_begin_then_finish_is_forward(pictures: Tensor, texts: Tensor, interaction: str, prompted: bool) -> None:
    network = random_network(interaction=interaction)
    prompt = texts if prompted else None
    with torch.no_grad():
        tokens = network.begin(pictures)
        before = tokens.clone()
        torch.testing.assert_close(network.finish(tokens, prompt), network(pictures, prompt), rtol=0, atol=0)
    assert tokens.shape == (2, 192, 3, 3)
    torch.testing.assert_close(tokens, before, rtol=0, atol=0, msg="finish may not write into what other halves share")


def test_pictures_are_encoded_on_their_own(pictures: Tensor, texts: Tensor) -> None:
    network = random_network()
    with torch.no_grad():
        together = network(pictures, texts)
        for row in range(2):
            alone = network(pictures[row : row + 1], texts[row : row + 1])
            torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pooling", ["all", "patch", "head"])
@pytest.mark.parametrize("interaction", ["both", "spatial", "channel"])
def test_gradients_reach_every_parameter_with_a_prompt(pictures: Tensor, texts: Tensor, interaction: str, pooling: str) -> None:
    network = random_network(interaction=interaction, pooling=pooling).train()
    network(pictures, texts).square().sum().backward()
    missing = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not missing


@pytest.mark.parametrize(
    ("interaction", "parts"),
    [("both", {"spatial", "channel", "channel_mlp"}), ("spatial", {"spatial"}), ("channel", {"channel", "channel_mlp"})],
)
def test_an_interaction_has_the_parameters_that_it_needs(interaction: str, parts: set[str]) -> None:
    network = build_network(settings(interaction=interaction), TEXT_DIM)
    assert {name.split(".")[1] for name in network.state_dict() if name.startswith("prompt.")} == parts


# --- errors ---


@pytest.mark.parametrize("layer", [-1, 3, 99])
def test_a_layer_that_does_not_exist_is_refused(layer: int) -> None:
    with pytest.raises(SettingsError, match="layer does not exist") as raised:
        PromptedVisformer(build_backbone("visformer_mini", 64), None, layer=layer)
    assert raised.value.expected == "3-0 to 3-2"
    assert raised.value.got == f"3-{layer}"


def test_a_network_without_prompts_refuses_one(pictures: Tensor, texts: Tensor) -> None:
    network = random_network(interaction="none")
    assert network.prompt is None
    assert network(pictures).shape == (2, 192)
    with pytest.raises(SettingsError, match="without prompts"):
        network(pictures, texts)


def test_a_prompt_of_another_length_is_not_taken(pictures: Tensor) -> None:
    with pytest.raises(RuntimeError):
        random_network()(pictures, torch.randn(2, TEXT_DIM + 1))


def test_the_prompt_belongs_to_the_network() -> None:
    network = build_network(settings(), TEXT_DIM)
    assert isinstance(network.prompt, SemanticPrompt)
    assert {name.split(".")[0] for name in network.state_dict()} == {"backbone", "prompt"}


# --- normalise ---


def test_normalise_is_the_papers() -> None:
    images = torch.randint(0, 256, (2, 4, 5, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    result = normalise(images)
    assert (result.shape, result.dtype) == ((2, 3, 4, 5), torch.float32)
    for channel in range(3):
        expected = (images[..., channel].double() / 255 - MEAN[channel] / 255) / (STD[channel] / 255)
        torch.testing.assert_close(result[:, channel].double(), expected, rtol=0, atol=1e-5)
    assert MEAN == (125.3, 123.0, 113.9)
    assert STD == (63.0, 62.1, 66.7)
    assert result.is_contiguous(memory_format=torch.channels_last)
