"""Rewrites a trained network for inference: BatchNorm folded into convolutions, attention with few reshapes. Exact in value."""

from __future__ import annotations

import copy
from typing import Any

import torch
from timm.models.visformer import Attention, Visformer
from torch import Tensor, nn

from sp_edge.model import PromptedNetwork
from sp_edge.model.resnet import ResidualBlock


class FoldedAttention(nn.Module):
    """timm's Visformer attention with its scale inside the query weights, and no permutation of the token axis."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.heads, self.head_dim = attention.num_heads, attention.head_dim
        self.qkv, self.proj = attention.qkv, attention.proj
        queries = self.heads * self.head_dim
        with torch.no_grad():
            self.qkv.weight[:queries] *= attention.scale
            if self.qkv.bias is not None:
                self.qkv.bias[:queries] *= attention.scale

    def forward(self, x: Tensor) -> Tensor:
        """Float (B, C, H, W) -> the same shape."""
        _, _, height, width = x.shape
        qkv = self.qkv(x).reshape(-1, 3 * self.heads, self.head_dim, height * width)
        query, key, value = qkv.chunk(3, dim=1)
        weights = (query.transpose(-2, -1) @ key).softmax(dim=-1)
        mixed = (value @ weights.transpose(-2, -1)).reshape(-1, self.heads * self.head_dim, height, width)
        out: Tensor = self.proj(mixed)
        return out


def fold(network: PromptedNetwork, *, norms_before: bool = True) -> PromptedNetwork:
    """A copy of the network, in eval mode on the CPU, that computes the same features with fewer operations.

    Visformers and ResNet-12 are rewritten; timm's other models stay as they are, and are left to the engines' own fusions.
    In float32 the result is as close to the exact value as the network itself.

    Args:
        norms_before: whether BatchNorms that precede a 1x1 convolution go into it. Left where they are, they bring its
            input to one range, which eight bits can suit better.
    """
    folded = copy.deepcopy(network).cpu().eval()
    if isinstance(folded.backbone, Visformer):
        _fold_visformer(folded.backbone, norms_before)
    else:
        for module in folded.backbone.modules():
            if isinstance(module, ResidualBlock):
                _fold_residual(module)
    return folded


def has_norms_before(network: PromptedNetwork) -> bool:
    """Whether `norms_before` makes a difference."""
    return isinstance(network.backbone, Visformer)


def _fold_visformer(backbone: Any, norms_before: bool) -> None:
    _fold_sequence(backbone.stem)
    for embed in (backbone.patch_embed1, backbone.patch_embed2, backbone.patch_embed3):
        embed.proj = _norm_after(embed.proj, embed.norm)
        embed.norm = nn.Identity()
    for block in (*backbone.stage1, *backbone.stage2, *backbone.stage3):
        if block.attn is not None:
            if norms_before:
                block.attn.qkv = _norm_before(block.norm1, block.attn.qkv)
                block.norm1 = nn.Identity()
            block.attn = FoldedAttention(block.attn)
        if norms_before:
            block.mlp.conv1 = _norm_before(block.norm2, block.mlp.conv1)
            block.norm2 = nn.Identity()


def _fold_residual(block: Any) -> None:
    for number in (1, 2, 3):
        conv, norm = f"conv{number}", f"bn{number}"
        setattr(block, conv, _norm_after(getattr(block, conv), getattr(block, norm)))
        setattr(block, norm, nn.Identity())
    _fold_sequence(block.downsample)


def _fold_sequence(layers: nn.Sequential) -> None:
    """Folds every BatchNorm that follows a convolution."""
    for i in range(len(layers) - 1):
        conv, norm = layers[i], layers[i + 1]
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            layers[i], layers[i + 1] = _norm_after(conv, norm), nn.Identity()


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and shift of a BatchNorm in eval mode, float64 for exactness."""
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()  # type: ignore[union-attr]
    return scale, norm.bias.double() - norm.running_mean.double() * scale  # type: ignore[union-attr]


@torch.no_grad()
def _norm_before(norm: nn.BatchNorm2d, conv: nn.Conv2d) -> nn.Conv2d:
    """conv(norm(x)) as one convolution. Exact for 1x1 kernels only: padding would have to carry the shift."""
    scale, shift = _affine(norm)
    weight = conv.weight.double()
    bias = weight[:, :, 0, 0] @ shift + (conv.bias.double() if conv.bias is not None else 0)
    return _with(conv, weight * scale[None, :, None, None], bias)


@torch.no_grad()
def _norm_after(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """norm(conv(x)) as one convolution."""
    scale, shift = _affine(norm)
    bias = shift + scale * (conv.bias.double() if conv.bias is not None else 0)
    return _with(conv, conv.weight.double() * scale[:, None, None, None], bias)


def _with(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    new = copy.deepcopy(conv)
    new.weight = nn.Parameter(weight.float())
    new.bias = nn.Parameter(bias.float())
    return new
