"""The image towers of open_clip's image-and-text models, in the two halves of timm's models."""

from __future__ import annotations

import difflib
from typing import Any

from torch import Tensor, nn

from sp_edge.errors import MissingExtraError, SettingsError

PREFIX = "open_clip:"


class ClipTransformer(nn.Module):
    """open_clip's own Vision Transformer; its feature is the class token, projected to where texts lie.

    Args:
        visual: the tower; its parameters keep their names under `visual.`.
        dim: D, of a feature.
    """

    num_prefix_tokens = 1

    def __init__(self, visual: Any, dim: int) -> None:
        super().__init__()
        self.visual = visual
        self.num_features = int(visual.conv1.out_channels)
        self.head_hidden_size = dim

    def forward_features(self, image: Tensor) -> Tensor:
        """Float (B, 3, H, W) -> tokens (B, 1 + h w, C), the class's first."""
        tower = self.visual
        tokens: Tensor = tower.transformer(tower._embeds(image))
        return tokens if tower.final_ln_after_pool else tower.ln_post(tokens)

    def forward_head(self, tokens: Tensor, pre_logits: bool = True) -> Tensor:
        """Tokens -> features (B, D)."""
        tower = self.visual
        pooled: Tensor = tower._global_pool(tokens)[0]
        if tower.final_ln_after_pool:
            pooled = tower.ln_post(pooled)
        return pooled if tower.proj is None else pooled @ tower.proj


class ClipOfTimm(nn.Module):
    """A tower that is one of timm's models with a projection.

    Args:
        visual: open_clip's `TimmModel`; its parameters keep their names under `visual.`.
        dim: D, of a feature.
    """

    def __init__(self, visual: Any, dim: int) -> None:
        super().__init__()
        self.visual = visual
        self.num_features = int(visual.trunk.num_features)
        self.num_prefix_tokens = int(getattr(visual.trunk, "num_prefix_tokens", 0))
        self.output_fmt = getattr(visual.trunk, "output_fmt", "NCHW")
        self.head_hidden_size = dim

    def forward_features(self, image: Tensor) -> Tensor:
        """Float (B, 3, H, W) -> what timm's model gives before its pooling."""
        features: Tensor = self.visual.trunk.forward_features(image)
        return features

    def forward_head(self, features: Tensor, pre_logits: bool = True) -> Tensor:
        """That -> features (B, D)."""
        feature: Tensor = self.visual.head(self.visual.trunk.forward_head(features))
        return feature


def open_clip_with(name: str, asked: str) -> Any:
    """The module open_clip, which has a model of this name.

    Args:
        name: of open_clip's `list_models()`.
        asked: what needs it, for the error.

    Raises:
        MissingExtraError: open_clip is not installed.
        SettingsError: it has no such model.
    """
    try:
        import open_clip
    except ImportError as error:
        raise MissingExtraError(f"{asked} needs open_clip", package="open_clip_torch", extra="train") from error
    if name not in open_clip.list_models():
        near = difflib.get_close_matches(name, open_clip.list_models(), n=3, cutoff=0.4)
        expected = ", ".join(near) or "a name from open_clip.list_models()"
        raise SettingsError("open_clip has no such model", expected=expected, got=name)
    return open_clip


def build_clip(name: str, image_size: int) -> nn.Module:
    """An image tower with fresh weights.

    Args:
        name: of open_clip's `list_models()`.
        image_size: pixels.

    Raises:
        SettingsError: open_clip has no such model, or its tower cannot be used.
        MissingExtraError: open_clip is not installed.
    """
    open_clip = open_clip_with(name, PREFIX + name)
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer

    try:
        visual = open_clip.create_model(name, force_image_size=image_size, load_weights=False, pretrained_text=False).visual
    except Exception as cause:  # each model says in its own way what it cannot do
        raise SettingsError(
            f"{PREFIX}{name} cannot be built so",
            expected="a picture size that it can take",
            got=f"{image_size} pixels: {type(cause).__name__}: {str(cause)[:200]}",
        ) from cause
    dim = int(open_clip.get_model_config(name)["embed_dim"])
    if isinstance(visual, TimmModel):
        return ClipOfTimm(visual, dim)
    if isinstance(visual, VisionTransformer) and visual.attn_pool is None:
        return ClipTransformer(visual, dim)
    raise SettingsError(
        f"{PREFIX}{name} has an image tower that sp-edge does not know",
        expected="a Vision Transformer without attention pooling, or a model of timm's",
        got=type(visual).__name__,
    )
