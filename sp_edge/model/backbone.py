"""The plain image encoders: Visformers in the sizes that sp-edge trains, and those to compare them with."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial
from typing import Any

import timm
import torch
from timm.models.visformer import Visformer
from torch import Tensor, nn

from sp_edge.errors import SettingsError
from sp_edge.model import clip
from sp_edge.model.resnet import ResNet12

TIMM = "timm:"
SIZES = (32, 2048)

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


def _tiny_84(*, img_size: int, **options: Any) -> Any:
    """visformer_tiny with a stem of two 3x3 convolutions that keeps the picture's size, for pictures of 84 pixels.

    timm's stem halves the picture, so its grids are those of one twice as large.
    """
    net: Any = timm.create_model("visformer_tiny", img_size=2 * img_size, **options)
    first, second = (nn.Conv2d(channels, 16, 3, padding=1, bias=False) for channels in (3, 16))
    for conv in (first, second):
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")  # as timm's
    net.stem = nn.Sequential(
        first, nn.BatchNorm2d(16), nn.ReLU(inplace=True), second, nn.BatchNorm2d(16), nn.ReLU(inplace=True)
    )
    return net


def _resnet12(*, img_size: int, drop_path_rate: float = 0.0, **_: Any) -> nn.Module:
    if drop_path_rate:
        raise SettingsError("resnet12 has no drop-path", expected="model.drop_path = 0", got=str(drop_path_rate))
    return ResNet12()


BACKBONES: dict[str, Callable[..., Any]] = {
    "visformer_tiny": partial(timm.create_model, "visformer_tiny"),
    "visformer_tiny_84": _tiny_84,
    "visformer_small": partial(timm.create_model, "visformer_small"),
    "visformer_mini": _mini,
    "resnet12": _resnet12,
}
# Its 7x7 convolution halves a picture, and rounds an odd side up where the position embeddings are made for one rounded down.
_TIMMS_STEM = ("visformer_tiny", "visformer_small", "visformer_mini")


def build_backbone(name: str, image_size: int, drop_path: float = 0.0) -> nn.Module:
    """An image encoder without a classification head, with fresh weights, under timm's parameter names.

    Args:
        name: one of `BACKBONES`, 'timm:NAME' for any image model of timm's, or 'open_clip:NAME' for the image tower of one of
            open_clip's models.
        image_size: side of its square input in pixels, 32 to 2048. timm's Visformers need an even one; where the grid does
            not divide, its patch embeddings leave out the last row and column.
        drop_path: share of residual branches that training drops.

    Raises:
        SettingsError: unknown name, or a size or drop-path that the network cannot take.
    """
    if name not in BACKBONES and not name.startswith((TIMM, clip.PREFIX)):
        expected = f"{', '.join(BACKBONES)}, {TIMM}NAME or {clip.PREFIX}NAME"
        raise SettingsError("unknown backbone", expected=expected, got=name)
    least, most = SIZES
    even = name in _TIMMS_STEM
    if not least <= image_size <= most or (even and image_size % 2):
        expected = f"{'an even number, ' if even else ''}{least} to {most}"
        raise SettingsError("the network cannot take this picture size", expected=expected, got=str(image_size))
    if name.startswith(TIMM):
        return _timms(name, image_size, drop_path)
    if name.startswith(clip.PREFIX):
        if drop_path:
            raise SettingsError("open_clip's towers have no drop-path", expected="model.drop_path = 0", got=str(drop_path))
        return clip.build_clip(name.removeprefix(clip.PREFIX), image_size)
    backbone: nn.Module = BACKBONES[name](num_classes=0, img_size=image_size, drop_path_rate=drop_path)
    return backbone


@torch.no_grad()
def feature_map_of(backbone: nn.Module, image_size: int) -> Tensor:
    """What the backbone's `forward_features` makes of an empty picture, found by asking it."""
    training = backbone.training
    net: Any = backbone.eval()
    features: Tensor = net.forward_features(torch.zeros(1, 3, image_size, image_size))
    backbone.train(training)
    return features


def _timms(name: str, image_size: int, drop_path: float) -> nn.Module:
    model = name.removeprefix(TIMM)
    if not timm.is_model(model):
        near = difflib.get_close_matches(model, timm.list_models(), n=3, cutoff=0.4)
        raise SettingsError("timm has no such model", expected=", ".join(near) or "a name from timm.list_models()", got=model)
    options: dict[str, Any] = {"num_classes": 0} | ({"drop_path_rate": drop_path} if drop_path else {})
    try:
        backbone: nn.Module = _sized(model, image_size, options)
        feature_map_of(backbone, image_size)
        int(backbone.head_hidden_size)  # type: ignore[arg-type]
    except Exception as cause:  # each model says in its own way what it cannot do
        raise SettingsError(
            f"{name} cannot be built so",
            expected="a picture size, and a drop-path, that it can take",
            got=f"{image_size} pixels, drop-path {drop_path}: {type(cause).__name__}: {str(cause)[:200]}",
        ) from cause
    return backbone


def _sized(model: str, image_size: int, options: dict[str, Any]) -> Any:
    """A model of timm's at this picture size: convolutional ones take any, and so do not know the argument."""
    try:
        return timm.create_model(model, img_size=image_size, **options)
    except TypeError as cause:
        if "img_size" not in str(cause):
            raise
        return timm.create_model(model, **options)
