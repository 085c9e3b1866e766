from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sp_edge.errors import SettingsError
from sp_edge.model import build_network
from sp_edge.model.attention import attention_map, dependence_map
from sp_edge.model.normalization import Normalization
from sp_edge.settings.settings import ModelSettings

TEXT_DIM = 5
IMAGE = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
PROMPT = np.random.default_rng(1).normal(size=TEXT_DIM).astype(np.float32) * 3


def network(**changes: Any) -> Any:
    torch.manual_seed(0)
    built = build_network(ModelSettings("visformer_mini", 96, **{"layer": "3-1", **changes}), TEXT_DIM).eval()
    with torch.no_grad():
        # Fresh weights look everywhere alike.
        built.backbone.stage3[-1].attn.qkv.weight.normal_(0, 0.1)
    return built


def expected(net: Any, prompt: np.ndarray | None) -> np.ndarray:
    """The same, in float64 numpy, from the tokens that enter the last block's attention."""
    seen: list[torch.Tensor] = []
    hook = net.backbone.stage3[-1].attn.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        net(Normalization()(torch.from_numpy(IMAGE[None])), None if prompt is None else torch.from_numpy(prompt[None]))
    hook.remove()
    tokens = seen[0][0].flatten(1).double().numpy()
    weight = net.backbone.stage3[-1].attn.qkv.weight[:, :, 0, 0].detach().double().numpy()
    query, key, _ = (weight @ tokens).reshape(3, 3, 64, -1)
    maps = []
    for q, k in zip(query, key, strict=True):
        scores = q.T @ k / 8
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        maps.append(scores / scores.sum(axis=1, keepdims=True))
    mean = np.mean(maps, axis=0)
    row = mean[0, 1:] if len(mean) == 10 else mean.mean(axis=0)
    return np.asarray((row / row.sum()).reshape(3, 3))


@pytest.mark.parametrize("prompt", [None, PROMPT], ids=["plain", "prompted"])
@pytest.mark.parametrize(
    "changes", [{}, {"layer": "3-2"}, {"layer": "2-1"}, {"interaction": "channel"}, {"pooling": "head"}], ids=str
)
def test_it_is_the_last_blocks_attention(changes: dict[str, Any], prompt: np.ndarray | None) -> None:
    net = network(**changes)
    share = attention_map(net, IMAGE, prompt)
    assert (share.shape, share.dtype) == ((3, 3), np.float32)
    assert share.min() >= 0
    assert share.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(share, expected(net, prompt), atol=1e-5)
    assert share.std() > 1e-3


def test_the_prompt_changes_where_it_looks() -> None:
    net = network()
    maps = [attention_map(net, IMAGE, prompt) for prompt in (None, PROMPT, -PROMPT)]
    assert np.abs(maps[0] - maps[1]).max() > 1e-3
    assert np.abs(maps[1] - maps[2]).max() > 1e-3


def test_it_leaves_the_network_as_it_was() -> None:
    net = network()
    attention_map(net, IMAGE, PROMPT)
    assert not net.backbone.stage3[-1].attn.qkv._forward_hooks
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())


def test_a_network_without_prompts_refuses_one_and_keeps_no_hook() -> None:
    net = network(interaction="none")
    assert attention_map(net, IMAGE, None).shape == (3, 3)
    with pytest.raises(SettingsError, match="without prompts"):
        attention_map(net, IMAGE, PROMPT)
    assert not net.backbone.stage3[-1].attn.qkv._forward_hooks


@pytest.mark.parametrize("backbone", ["visformer_mini", "resnet12"])
def test_a_network_without_tokens_has_no_attention_to_show(backbone: str) -> None:
    net = build_network(ModelSettings(backbone, 96, "channel", "last"), TEXT_DIM)
    with pytest.raises(SettingsError, match="attention is not known"):
        attention_map(net, IMAGE, None)
    assert dependence_map(net.eval(), IMAGE, PROMPT, cells=2).shape == (2, 2)


class Corner:
    """A network that sees the upper left quarter alone; with a prompt, the lower right."""

    normalise = Normalization()

    def begin(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def _encode(self, images: torch.Tensor, prompts: torch.Tensor | None) -> torch.Tensor:
        half = images.shape[-1] // 2
        part = images[..., :half, :half] if prompts is None else images[..., half:, half:]
        return torch.nn.functional.adaptive_avg_pool2d(part, 4).flatten(1)


@pytest.mark.parametrize(("prompt", "quarter"), [(None, (slice(0, 3), slice(0, 3))), (PROMPT, (slice(3, 6), slice(3, 6)))])
def test_the_feature_depends_on_what_the_network_sees(prompt: np.ndarray | None, quarter: tuple[slice, slice]) -> None:
    share = dependence_map(Corner(), IMAGE, prompt)  # type: ignore[arg-type]
    assert (share.shape, share.dtype) == ((6, 6), np.float32)
    assert share.min() >= 0
    assert share.sum() == pytest.approx(1, abs=1e-5)
    assert share[quarter].sum() > 0.7  # a cover reaches half a cell beyond its own
    far = share[0:2, 0:2] if prompt is not None else share[4:6, 4:6]
    assert far.sum() == pytest.approx(0, abs=1e-5)


def test_the_map_shows_the_prompt_whatever_its_strength_and_share() -> None:
    settings = ModelSettings("visformer_mini", 96, layer="3-1", text_prototype=True, prompt_strength=0.0)
    torch.manual_seed(0)
    net = build_network(settings, TEXT_DIM).eval()
    net.text_share = 1.0
    weak = dependence_map(net, IMAGE, PROMPT, cells=2)
    net.strength, net.text_share = 1.0, 0.0
    np.testing.assert_allclose(weak, dependence_map(net, IMAGE, PROMPT, cells=2), atol=1e-6)
    assert np.abs(weak - dependence_map(net, IMAGE, None, cells=2)).max() > 1e-4


def test_a_network_that_sees_nothing_depends_on_nothing() -> None:
    class Blind(Corner):
        def _encode(self, images: torch.Tensor, prompts: torch.Tensor | None) -> torch.Tensor:
            return torch.ones(len(images), 4)

    share = dependence_map(Blind(), IMAGE, None, cells=3)  # type: ignore[arg-type]
    assert share.shape == (3, 3)
    assert np.isfinite(share).all()
