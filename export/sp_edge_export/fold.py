"""Rewrites a trained network for inference: BatchNorm folded into convolutions, attention with few reshapes. Exact in value."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from timm.models.visformer import Attention, Visformer
from torch import Tensor, nn

from sp_edge.matching.decide import row_cosines
from sp_edge.model import PromptedNetwork

SAME = 0.9999  # least cosine of features before and after
# Not their subclasses, which may do something else with their weights.
_CONVOLUTIONS = (nn.Conv2d, Conv2dSame)
_NORMS = (nn.BatchNorm2d, BatchNormAct2d)


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


class Mean(nn.Module):
    """Average pooling over the whole map, as one operator: PyTorch's adaptive one is exported as a dozen."""

    def forward(self, x: Tensor) -> Tensor:
        """Float (B, C, H, W) -> (B, C, 1, 1)."""
        return x.mean(dim=(2, 3), keepdim=True)


def fold(network: PromptedNetwork, *, norms_before: bool = True) -> PromptedNetwork:
    """A copy of the network, in eval mode on the CPU, that computes the same features with fewer operations.

    Every BatchNorm that follows a convolution goes into it, in any network. Attention, and BatchNorms before convolutions, are
    rewritten in Visformers alone. In float32 the result is as close to the exact value as the network itself.

    Args:
        norms_before: whether BatchNorms that precede a 1x1 convolution go into it. Left where they are, they bring its
            input to one range, which eight bits can suit better.
    """
    folded = copy.deepcopy(network).cpu().eval()
    for module in folded.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]  # PyTorch's exporter takes three times as long over it
    _fold_norms_after(folded)
    for name, module in list(folded.backbone.named_modules()):
        if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)):
            folded.backbone.set_submodule(name, Mean())
    if isinstance(folded.backbone, Visformer):
        _fold_visformer(folded.backbone, norms_before)
    return folded


def has_norms_before(network: PromptedNetwork) -> bool:
    """Whether `norms_before` makes a difference."""
    return isinstance(network.backbone, Visformer)


@torch.no_grad()
def _fold_norms_after(network: PromptedNetwork) -> None:
    """Folds BatchNorms into the convolutions that they follow, which are found by watching the network at work.

    Where features are others afterwards, some convolution's output is used elsewhere, too, and all is left as it was.
    """
    noise = torch.randn(2, 3, network.image_size, network.image_size, generator=torch.Generator().manual_seed(0))
    before = network(noise)
    folded = copy.deepcopy(network.backbone)
    for conv_name, norm_name in _pairs(network, noise):
        conv, norm = folded.get_submodule(conv_name), folded.get_submodule(norm_name)
        folded.set_submodule(conv_name, _norm_after(conv, norm))
        folded.set_submodule(
            norm_name, nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()
        )
    original, network.backbone = network.backbone, folded
    if row_cosines(network(noise).numpy(), before.numpy()).min() < SAME:
        network.backbone = original


def _pairs(network: PromptedNetwork, noise: Tensor) -> list[tuple[str, str]]:
    """Names of convolutions and of the BatchNorms that take exactly what they give, each at work but once."""
    given: dict[int, tuple[str, int, Tensor]] = {}  # a tensor's id -> whose it is, its version, and itself: it must live
    calls: Counter[str] = Counter()
    pairs: list[tuple[str, str]] = []

    def keep(name: str, module: nn.Module) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            calls[name] += 1
            if type(module) in _CONVOLUTIONS:
                given[id(output)] = name, output._version, output

        return hook

    def match(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            conv, version, _ = given.get(id(inputs[0]), ("", -1, None))
            if conv and version == inputs[0]._version:
                pairs.append((conv, name))

        return hook

    hooks = []
    for name, module in network.backbone.named_modules():
        if type(module) in _CONVOLUTIONS or type(module) in _NORMS:
            hooks.append(module.register_forward_hook(keep(name, module)))
        if type(module) in _NORMS and module.affine and module.track_running_stats:
            hooks.append(module.register_forward_pre_hook(match(name)))
    try:
        network(noise)
    finally:
        for hook in hooks:
            hook.remove()
    return [(conv, norm) for conv, norm in pairs if calls[conv] == calls[norm] == 1]


def _fold_visformer(backbone: Any, norms_before: bool) -> None:
    for block in (*backbone.stage1, *backbone.stage2, *backbone.stage3):
        if block.attn is not None:
            if norms_before:
                block.attn.qkv = _norm_before(block.norm1, block.attn.qkv)
                block.norm1 = nn.Identity()
            block.attn = FoldedAttention(block.attn)
        if norms_before:
            block.mlp.conv1 = _norm_before(block.norm2, block.mlp.conv1)
            block.norm2 = nn.Identity()


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
