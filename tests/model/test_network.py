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
from sp_edge.model import PromptedFeatureMap, PromptedNetwork, PromptedVisformer, SemanticPrompt, build_backbone, build_network
from sp_edge.settings.settings import ModelSettings

TEXT_DIM = 7
SIDE = 96  # the last grid is 3 x 3: M = 9 patches


def settings(**changes: Any) -> ModelSettings:
    return ModelSettings(**{"backbone": "visformer_mini", "image_size": SIDE, "layer": "3-1", **changes})


def random_network(seed: int = 0, text_dim: int = TEXT_DIM, **changes: Any) -> PromptedNetwork:
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


def project(text: Tensor, layers: dict[str, Tensor], kind: str) -> Tensor:
    """h_s, from the parameters under `prompt.spatial.`."""
    if kind == "linear":
        return layers["weight"] @ text
    hidden = text
    for index in {"mlp": ["0"], "mlp3": ["0", "2"]}[kind]:
        hidden = (layers[f"{index}.weight"] @ hidden + layers[f"{index}.bias"]).clamp(min=0)
    return layers[{"mlp": "2", "mlp3": "4"}[kind] + ".weight"] @ hidden


def prompted_by_the_paper(tokens: list[Tensor], prompt: Any, text: Tensor, changes: dict[str, Any]) -> list[Tensor]:
    """The patches, each with beta, and before them the prompt's token."""
    if prompt.channel is not None:
        w1, w2 = prompt.channel_mlp[0], prompt.channel_mlp[2]
        context = sum(tokens) / len(tokens)
        z0 = prompt.channel.weight @ text
        beta = sigmoid(w2.weight @ sigmoid(w1.weight @ torch.cat([context, z0]) + w1.bias) + w2.bias)
        if changes.get("zero_mean", True):
            beta = beta - sum(beta) / len(beta)
        tokens = [t + beta for t in tokens]
    if prompt.spatial is not None:
        return [project(text, prompt.spatial.state_dict(), changes.get("projector", "linear")), *tokens]
    return tokens


def feature_by_the_paper(net: PromptedNetwork, grid: Tensor, text: Tensor | None, **changes: Any) -> Tensor:
    """f(x | g(y)) from the tokens (C, h, w) that enter the prompt's layer."""
    stage, block = (int(number) for number in changes.get("layer", "3-1").split("-"))
    height, width = grid.shape[1:]
    tokens = [grid[:, i, j] for i, j in itertools.product(range(height), range(width))]
    backbone = net.backbone
    if text is not None and net.prompt is not None:
        tokens = prompted_by_the_paper(tokens, net.prompt, text, changes)
    if stage == 2:
        for layer in backbone.stage2[block:]:
            tokens = transformer_layer(tokens, layer, heads=3)
        tokens = tokens[-height * width :]
        embed, block = backbone.patch_embed3, 0
        kernel = embed.proj.weight  # 2 x 2, as far apart as it is wide
        patches = []
        for i, j in itertools.product(range(height // 2), range(width // 2)):
            corners = [(m, n, tokens[(2 * i + m) * width + 2 * j + n]) for m in (0, 1) for n in (0, 1)]
            patch = embed.proj.bias + sum(kernel[:, :, m, n] @ token for m, n, token in corners)
            patches.append(batch_norm(patch, embed.norm) + backbone.pos_embed3[0, :, i, j])
        tokens = patches
    for layer in backbone.stage3[block:]:
        tokens = transformer_layer(tokens, layer, heads=3)
    tokens = [batch_norm(t, backbone.norm) for t in tokens]
    pooling = changes.get("pooling", "all")
    if len(tokens) > backbone.pos_embed3[0, 0].numel():
        if pooling == "head":
            return tokens[0]
        if pooling == "patch":
            tokens = tokens[1:]
    return sum(tokens) / len(tokens)  # type: ignore[return-value]


SWITCHES: list[dict[str, Any]] = [
    *({"interaction": "both", "pooling": pooling} for pooling in ("all", "patch", "head")),
    *({"interaction": "spatial", "pooling": pooling} for pooling in ("all", "patch", "head")),
    {"interaction": "channel"},
    {"interaction": "channel", "pooling": "patch"},
    {"zero_mean": False},
    {"zero_mean": False, "interaction": "channel"},
    {"projector": "mlp"},
    {"projector": "mlp3"},
    {"projector": "mlp3", "interaction": "spatial", "pooling": "head"},
    {"layer": "3-0"},
    {"layer": "3-2"},
    {"layer": "2-0"},
    {"layer": "2-1", "projector": "mlp"},
    {"layer": "2-1", "interaction": "channel"},
    {"layer": "2-0", "interaction": "spatial"},
    {"layer": "2-1", "zero_mean": False, "pooling": "patch"},
]


@pytest.mark.parametrize("changes", SWITCHES, ids=lambda c: "-".join(map(str, c.values())))
def test_a_prompted_feature_is_the_papers(pictures: Tensor, texts: Tensor, changes: dict[str, Any]) -> None:
    network = random_network(**changes).double()
    with torch.no_grad():
        actual = network(pictures.double(), texts.double())
        tokens = network.begin(pictures.double())
        rows = [feature_by_the_paper(network, t, g.double(), **changes) for t, g in zip(tokens, texts, strict=True)]
        torch.testing.assert_close(actual, torch.stack(rows), rtol=1e-10, atol=1e-10)
        plain = network(pictures.double())
    assert (plain - actual).abs().max() > 1e-3, "the prompt must matter, or the comparison says nothing"


@pytest.mark.parametrize("layer", ["3-0", "3-2", "2-0", "2-1"])
def test_the_prompt_enters_before_the_layer_that_is_set(pictures: Tensor, layer: str) -> None:
    network = random_network(layer=layer).double()
    stage, block = (int(number) for number in layer.split("-"))
    with torch.no_grad():
        every = network.backbone
        x = every.stage1(every.patch_embed1(every.stem(pictures.double())) + every.pos_embed1)
        x = every.patch_embed2(x) + every.pos_embed2
        if stage == 3:
            x = every.patch_embed3(every.stage2(x)) + every.pos_embed3
        x = (every.stage2 if stage == 2 else every.stage3)[:block](x)
        torch.testing.assert_close(network.begin(pictures.double()), x, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("interaction", "pooling", "layer"),
    [
        *itertools.product(["both"], ["all", "patch", "head"], ["3-1"]),
        *itertools.product(["both"], ["all", "patch"], ["2-1"]),
        *itertools.product(["none"], ["all", "head"], ["3-1", "2-1"]),
    ],
)
def test_a_plain_feature_is_the_papers_whatever_the_pooling(
    pictures: Tensor, interaction: str, pooling: str, layer: str
) -> None:
    network = random_network(interaction=interaction, pooling=pooling, layer=layer).double()
    with torch.no_grad():
        rows = [feature_by_the_paper(network, t, None, layer=layer) for t in network.begin(pictures.double())]
        torch.testing.assert_close(network(pictures.double()), torch.stack(rows), rtol=1e-10, atol=1e-10)


# --- against timm ---


@pytest.mark.parametrize("layer", ["3-0", "3-2", "2-1"])
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
    assert isinstance(network, PromptedVisformer)
    assert (network.stage, network.block) == (3, 2)


@pytest.mark.parametrize(("backbone", "grid"), [("visformer_tiny", 2), ("visformer_tiny_84", 5)])
def test_pictures_of_84_pixels(texts: Tensor, backbone: str, grid: int) -> None:
    network = random_network(backbone=backbone, image_size=84, layer="3-2").double()
    pictures = torch.randn(2, 3, 84, 84, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        tokens = network.begin(pictures)
        assert tokens.shape == (2, 384, grid, grid)
        rows = [feature_by_the_paper(network, t, g, layer="3-2") for t, g in zip(tokens, texts.double(), strict=True)]
        torch.testing.assert_close(network(pictures, texts.double()), torch.stack(rows), rtol=1e-9, atol=1e-9)


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


# --- on the last feature map ---


@pytest.mark.parametrize(
    ("backbone", "zero_mean"),
    [("visformer_mini", False), ("resnet12", True), ("timm:resnet10t", False), ("timm:mobilenetv3_small_050", True)],
)
def test_the_last_feature_map_takes_a_channel_prompt(texts: Tensor, backbone: str, zero_mean: bool) -> None:
    changes = {"backbone": backbone, "image_size": 64, "interaction": "channel", "layer": "last", "zero_mean": zero_mean}
    network = random_network(**changes).double()
    assert isinstance(network, PromptedFeatureMap)
    pictures = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        prompted, plain = network(pictures, texts.double()), network(pictures)
        grids = network.backbone.forward_features(pictures)
        rows = []
        for grid, text in zip(grids, texts.double(), strict=True):
            tokens = [grid[:, i, j] for i, j in itertools.product(range(grid.shape[1]), range(grid.shape[2]))]
            moved = prompted_by_the_paper(tokens, network.prompt, text, changes)
            rows.append(torch.stack(moved, dim=1).reshape(grid.shape))
        expected = network.backbone.forward_head(torch.stack(rows), pre_logits=True)
        torch.testing.assert_close(prompted, expected, rtol=1e-10, atol=1e-10)
        own = network.backbone.forward_head(grids, pre_logits=True)
        torch.testing.assert_close(plain, own, rtol=0, atol=0)
    assert prompted.shape == plain.shape == (2, network.feature_dim)
    assert (prompted - plain).abs().max() > 1e-3


@pytest.mark.parametrize("backbone", ["resnet12", "timm:vit_tiny_patch16_224", "timm:swin_tiny_patch4_window7_224"])
def test_a_network_to_compare_with_takes_no_prompt(backbone: str) -> None:
    network = build_network(settings(backbone=backbone, image_size=64, interaction="none", layer="3-2"), TEXT_DIM).eval()
    picture = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(picture), network.backbone(picture), rtol=1e-5, atol=1e-6)
    assert network.prompt is None
    assert network.strength == 0
    assert network(picture).shape == (2, network.feature_dim)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"backbone": "resnet12", "interaction": "both", "layer": "last"}, "cannot be prompted so"),
        ({"backbone": "resnet12", "interaction": "channel", "layer": "3-2"}, "cannot be prompted so"),
        ({"backbone": "visformer_mini", "interaction": "both", "layer": "last"}, "cannot be prompted so"),
        ({"interaction": "spatial", "layer": "last", "pooling": "head"}, "cannot be prompted so"),
        ({"backbone": "timm:vit_tiny_patch16_224", "interaction": "channel", "layer": "last"}, "no feature map"),
        ({"backbone": "timm:swin_tiny_patch4_window7_224", "interaction": "channel", "layer": "last"}, "no feature map"),
    ],
)
def test_prompts_that_a_network_cannot_take_are_refused(changes: dict[str, str], what: str) -> None:
    with pytest.raises(SettingsError, match=what) as raised:
        build_network(settings(image_size=64, **changes), TEXT_DIM)
    assert "model.interaction = none" in raised.value.expected


# --- the two halves ---


@pytest.mark.parametrize("prompted", [True, False])
@pytest.mark.parametrize("interaction", ["both", "spatial", "channel"])
@pytest.mark.parametrize(("layer", "shape"), [("3-1", (2, 192, 3, 3)), ("2-1", (2, 96, 6, 6)), ("last", (2, 192, 3, 3))])
def test_begin_then_finish_is_forward(
    pictures: Tensor, texts: Tensor, layer: str, shape: tuple[int, ...], interaction: str, prompted: bool
) -> None:
    network = random_network(interaction="channel" if layer == "last" else interaction, layer=layer)
    prompt = texts if prompted else None
    with torch.no_grad():
        tokens = network.begin(pictures)
        before = tokens.clone()
        torch.testing.assert_close(network.finish(tokens, prompt), network(pictures, prompt), rtol=0, atol=0)
    assert tokens.shape == shape
    torch.testing.assert_close(tokens, before, rtol=0, atol=0, msg="finish may not write into what other halves share")


@torch.no_grad()
def test_finish_takes_a_plain_feature_that_is_known(pictures: Tensor, texts: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_network(prompt_strength=0.6)
    expected, plain = network(pictures, texts), network(pictures)
    tokens, asked = network.begin(pictures), []
    encode = network._encode
    monkeypatch.setattr(network, "_encode", lambda tokens, prompt: asked.append(prompt) or encode(tokens, prompt))
    torch.testing.assert_close(network.finish(tokens, texts, plain=plain), expected, rtol=0, atol=0)
    assert len(asked) == 1
    assert asked[0] is texts, "and does not compute it again"


def test_pictures_are_encoded_on_their_own(pictures: Tensor, texts: Tensor) -> None:
    network = random_network()
    with torch.no_grad():
        together = network(pictures, texts)
        for row in range(2):
            alone = network(pictures[row : row + 1], texts[row : row + 1])
            torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("changes", SWITCHES, ids=lambda c: "-".join(map(str, c.values())))
def test_gradients_reach_every_parameter_with_a_prompt(pictures: Tensor, texts: Tensor, changes: dict[str, Any]) -> None:
    network = random_network(**changes).train()
    network(pictures, texts).square().sum().backward()
    missing = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not missing


@pytest.mark.parametrize("layer", ["2-0", "3-2"])
def test_drop_path_drops_branches_in_training_alone(pictures: Tensor, texts: Tensor, layer: str) -> None:
    network = random_network(drop_path=0.9, layer=layer)
    kept = random_network(layer=layer)
    with torch.no_grad():
        torch.testing.assert_close(network(pictures, texts), kept(pictures, texts), rtol=0, atol=0)
        last = network.backbone.stage3[-1].drop_path
        assert last.drop_prob == pytest.approx(0.9)
        assert network.backbone.stage1[0].drop_path(pictures) is pictures, "the first block is never dropped"
        network.train()
        torch.manual_seed(0)
        assert (network(pictures, texts) - network(pictures, texts)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("interaction", "parts"),
    [("both", {"spatial", "channel", "channel_mlp"}), ("spatial", {"spatial"}), ("channel", {"channel", "channel_mlp"})],
)
def test_an_interaction_has_the_parameters_that_it_needs(interaction: str, parts: set[str]) -> None:
    network = build_network(settings(interaction=interaction), TEXT_DIM)
    assert {name.split(".")[1] for name in network.state_dict() if name.startswith("prompt.")} == parts


# --- errors ---


@pytest.mark.parametrize("at", [(3, -1), (3, 3), (2, 2), (2, 99), (1, 0), (4, 0)])
def test_a_layer_that_does_not_exist_is_refused(at: tuple[int, int]) -> None:
    with pytest.raises(SettingsError, match="layer does not exist") as raised:
        PromptedVisformer(build_backbone("visformer_mini", 64), None, at=at)
    assert raised.value.expected == "2-0 to 2-1 or 3-0 to 3-2"
    assert raised.value.got == f"{at[0]}-{at[1]}"


@pytest.mark.parametrize("changes", [{"interaction": "channel"}, {"layer": "2-1"}, {"interaction": "channel", "layer": "last"}])
def test_the_prompts_token_cannot_be_pooled_where_there_is_none(changes: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=r"pool|prompted so"):
        build_network(settings(pooling="head", **changes), TEXT_DIM)


def test_a_network_without_prompts_refuses_one(pictures: Tensor, texts: Tensor) -> None:
    network = random_network(interaction="none")
    assert network.prompt is None
    assert network.strength == 0
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


@pytest.mark.parametrize(
    ("options", "mean", "std"),
    [
        ({}, (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)),
        ({"mean": (127.5, 120.0, 0.0), "std": (127.5, 60.0, 1.0)}, (127.5, 120.0, 0.0), (127.5, 60.0, 1.0)),
    ],
)
def test_a_network_normalises_by_the_papers_statistics_or_by_its_own(
    options: dict[str, tuple[float, ...]], mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    images = torch.randint(0, 256, (2, 4, 5, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    result = build_network(settings(**options), TEXT_DIM).normalise(images)
    assert (result.shape, result.dtype) == ((2, 3, 4, 5), torch.float32)
    for channel in range(3):
        expected = (images[..., channel].double() / 255 - mean[channel] / 255) / (std[channel] / 255)
        torch.testing.assert_close(result[:, channel].double(), expected, rtol=1e-6, atol=1e-5)
    assert result.is_contiguous(memory_format=torch.channels_last)
