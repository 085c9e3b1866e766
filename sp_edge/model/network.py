"""The network that encodes support pictures with their class's prompt and query pictures without."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.visformer import Visformer
from torch import Tensor, nn

from sp_edge.errors import SettingsError
from sp_edge.model.backbone import build_backbone
from sp_edge.model.prompt import SemanticPrompt
from sp_edge.settings import ModelSettings

# Channel mean and standard deviation of RGB in 0..255 that Semantic Prompt normalises with.
MEAN = (125.3, 123.0, 113.9)
STD = (63.0, 62.1, 66.7)


class PromptedVisformer(nn.Module):
    """f(x | g(y)): one forward serves both, the prompted support picture and the plain query picture.

    Args:
        backbone: timm's Visformer; its parameters keep timm's names under `backbone.`.
        prompt: the semantic prompt, or None for a network that knows no prompts.
        layer: the block of stage 3 before which the prompt enters, from 0.
        pooling: 'all' averages the last layer's tokens with the prompt's, 'patch' without it, 'head' takes it alone.
        strength: s in s f(x | g(y)) + (1 - s) f(x), the support feature in eval mode; training sees the prompted one alone.
    """

    def __init__(
        self, backbone: Visformer, prompt: SemanticPrompt | None, *, layer: int, pooling: str = "all", strength: float = 1.0
    ) -> None:
        super().__init__()
        if not 0 <= layer < len(backbone.stage3):
            raise SettingsError(
                "the prompt's layer does not exist", expected=f"3-0 to 3-{len(backbone.stage3) - 1}", got=f"3-{layer}"
            )
        self.backbone = backbone
        self.prompt = prompt
        self.layer = layer
        self.pooling = pooling
        self.strength = strength

    @property
    def feature_dim(self) -> int:
        """D, the length of a feature."""
        return int(self.backbone.num_features)

    def forward(self, image: Tensor, prompt: Tensor | None = None) -> Tensor:
        """Encodes pictures.

        Args:
            image: float (B, 3, H, W) RGB, normalised with `MEAN` and `STD`.
            prompt: float (B, T) text embedding of each picture's class; None encodes queries.

        Returns:
            float (B, D) features, not normalised.
        """
        return self.finish(self.begin(image), prompt)

    def begin(self, image: Tensor) -> Tensor:
        """The part before the prompt, the same for support and query: (B, 3, H, W) -> tokens (B, C, h, w)."""
        net: Any = self.backbone
        x = net.stage1(net.pos_drop(net.patch_embed1(net.stem(image)) + net.pos_embed1))
        x = net.stage2(net.pos_drop(net.patch_embed2(x) + net.pos_embed2))
        x = net.pos_drop(net.patch_embed3(x) + net.pos_embed3)
        tokens: Tensor = net.stage3[: self.layer](x)
        return tokens

    def finish(self, tokens: Tensor, prompt: Tensor | None = None) -> Tensor:
        """The part from the prompt on: tokens (B, C, h, w) and, for support, prompts (B, T) -> features (B, D)."""
        if prompt is None:
            return self._last_blocks(tokens).mean(dim=(2, 3))
        if self.prompt is None:
            raise SettingsError("this network was built without prompts", expected="prompt=None", got="a prompt")
        prompted = self._pool(self._last_blocks(self.prompt(tokens, prompt)))
        if self.training or self.strength == 1:
            return prompted
        return self.strength * prompted + (1 - self.strength) * self.finish(tokens)

    def _last_blocks(self, tokens: Tensor) -> Tensor:
        return self.backbone.norm(self.backbone.stage3[self.layer :](tokens))

    def _pool(self, tokens: Tensor) -> Tensor:
        """Prompted tokens (B, C, M or M + 1, 1) -> (B, C)."""
        if self.prompt is not None and self.prompt.spatial is not None:
            if self.pooling == "head":
                return tokens[:, :, 0, 0]
            if self.pooling == "patch":
                tokens = tokens[:, :, 1:]
        return tokens.mean(dim=(2, 3))


def build_network(settings: ModelSettings, text_dim: int) -> PromptedVisformer:
    """A network with fresh weights as the settings describe it, for text embeddings of length `text_dim`."""
    backbone = build_backbone(settings.backbone, settings.image_size)
    prompt = None
    if settings.interaction != "none":
        prompt = SemanticPrompt(
            text_dim,
            int(backbone.num_features),
            spatial=settings.interaction in ("spatial", "both"),
            channel=settings.interaction in ("channel", "both"),
        )
    return PromptedVisformer(
        backbone, prompt, layer=_layer(settings), pooling=settings.pooling, strength=settings.prompt_strength
    )


def _layer(settings: ModelSettings) -> int:
    if settings.prompt_at is None or settings.prompt_at[0] != 3:
        raise SettingsError("prompts enter stage 3 only, so far", expected="3-0 to 3-3", got=settings.layer)
    return settings.prompt_at[1]


def normalise(images: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) RGB -> float32 (B, 3, H, W) in channels-last memory, as the network takes it."""
    mean, std = (torch.tensor(value, device=images.device) for value in (MEAN, STD))
    return ((images.float() - mean) / std).permute(0, 3, 1, 2)
