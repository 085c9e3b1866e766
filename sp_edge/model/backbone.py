"""The plain image encoders: timm's Visformer in the sizes that sp-edge trains."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import timm
from timm.models.visformer import Visformer
from torch import nn

from sp_edge.errors import SettingsError

# visformer_mini is visformer_tiny at half the width with fewer blocks (widths 48, 96, 192): it trains in minutes on a CPU.
_mini = partial(
    Visformer,
    init_channels=16,
    embed_dim=96,
    depth=(1, 2, 3),
    num_heads=3,
    mlp_ratio=4.0,
    group=8,
    attn_stage="011",
    spatial_conv="100",
    norm_layer=nn.BatchNorm2d,
    embed_norm=nn.BatchNorm2d,
    conv_init=True,
)
BACKBONES: dict[str, Callable[..., Any]] = {
    "visformer_tiny": partial(timm.create_model, "visformer_tiny"),
    "visformer_mini": _mini,
}


def build_backbone(name: str, image_size: int) -> Visformer:
    """A Visformer without a classification head, with fresh weights, under timm's own parameter names.

    Args:
        name: one of `BACKBONES`.
        image_size: side of its square input in pixels, a multiple of 32 (the last stage's stride) from 64 to 2048.

    Raises:
        SettingsError: unknown name, or a size that the network cannot take.
    """
    if name not in BACKBONES:
        raise SettingsError("unknown backbone", expected=", ".join(BACKBONES), got=name)
    if not 64 <= image_size <= 2048 or image_size % 32:
        raise SettingsError(
            "the network cannot take this picture size", expected="a multiple of 32, 64 to 2048", got=str(image_size)
        )
    return BACKBONES[name](num_classes=0, img_size=image_size)
