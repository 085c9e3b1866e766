"""1x1 convolutions as matrix products, which a CPU that computes in bf16 does faster."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional


def multiply_pointwise(module: nn.Module, accelerator: Accelerator) -> None:
    """Lets a module's 1x1 convolutions train as matrix products where that pays; parameters and their names stay."""
    if accelerator.device.type != "cpu" or accelerator.mixed_precision != "bf16":
        return
    for layer in module.modules():
        plain = type(layer) is nn.Conv2d and layer.groups == 1 and layer.padding == (0, 0)
        if plain and layer.kernel_size == layer.stride == (1, 1):
            layer.__class__ = PointwiseConv2d


class PointwiseConv2d(nn.Conv2d):
    """A 1x1 convolution that multiplies where a picture's channels lie side by side: (B, C, H, W) -> (B, C', H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """In training, of a channels-last x, by a matrix product; else as a convolution."""
        if not self.training or not x.is_contiguous(memory_format=torch.channels_last):
            return super().forward(x)
        return functional.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)
