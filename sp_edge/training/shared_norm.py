"""BatchNorm whose statistics are those of all processes' pictures, where PyTorch has none: on the CPU."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed
from accelerate import Accelerator
from timm.layers.norm_act import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm


def share_statistics(module: nn.Module, accelerator: Accelerator) -> nn.Module:
    """Makes a module's BatchNorm layers count all processes' pictures, so that N processes train as one would.

    Parameters, buffers and their names stay. On GPUs this is PyTorch's own SyncBatchNorm.
    """
    if accelerator.num_processes == 1:
        return module
    if accelerator.device.type != "cpu":
        converted: nn.Module = convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        return converted
    for layer in module.modules():
        if type(layer) is BatchNormAct2d:
            layer.__class__ = SharedBatchNormAct2d
        elif type(layer) in (nn.BatchNorm1d, nn.BatchNorm2d):
            layer.__class__ = SharedBatchNorm
    return module


class SharedBatchNorm(_BatchNorm):
    """BatchNorm over (B, C, ...) of all processes; B and the rest must be equal in each."""

    def forward(self, x: Tensor) -> Tensor:
        """In training by the statistics of all processes' x; else as BatchNorm."""
        return normalised(self, x)

    def _check_input_dim(self, x: Tensor) -> None:
        pass


class SharedBatchNormAct2d(BatchNormAct2d):
    """The same, followed by timm's dropout and activation."""

    def forward(self, x: Tensor) -> Tensor:
        """See `SharedBatchNorm`."""
        return self.act(self.drop(normalised(self, x)))


def normalised(layer: _BatchNorm, x: Tensor) -> Tensor:
    """What a BatchNorm layer makes of x (B, C, ...), before any activation.

    Each process lays its own mean and variance into its row of a table of zeros, and the sum of the tables holds everyone's.
    The variance of all is then the mean of the variances plus the variance of the means.
    """
    if not layer.training:
        means, variances = layer.running_mean, layer.running_var
        return functional.batch_norm(x, means, variances, layer.weight, layer.bias, means is None, 0.0, layer.eps)
    over = [dim for dim in range(x.ndim) if dim != 1]
    own_variance, own_mean = torch.var_mean(x.float(), dim=over, correction=0)
    processes, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    table = functional.pad(torch.stack([own_mean, own_variance])[None], (0, 0, 0, 0, rank, processes - 1 - rank))
    summed: Tensor = _Sum.apply(table)
    every_mean, every_variance = summed.unbind(dim=1)
    mean = every_mean.mean(dim=0)
    variance = every_variance.mean(dim=0) + (every_mean - mean).square().mean(dim=0)
    _remember(layer, mean.detach(), variance.detach(), processes * x.numel() // x.shape[1])
    scale = (variance + layer.eps).rsqrt()
    if layer.weight is not None:
        scale = scale * layer.weight
    shift = -mean * scale if layer.bias is None else layer.bias - mean * scale
    shape = [1, -1] + [1] * (x.ndim - 2)
    return (x.float() * scale.reshape(shape) + shift.reshape(shape)).to(x.dtype)


def _remember(layer: _BatchNorm, mean: Tensor, variance: Tensor, count: int) -> None:
    """Moves the running statistics, of which the variance is the unbiased one."""
    if layer.running_mean is None or layer.running_var is None or layer.num_batches_tracked is None:
        return
    layer.num_batches_tracked.add_(1)
    momentum = 1 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
    layer.running_mean.lerp_(mean, momentum)
    layer.running_var.lerp_(variance * count / max(1, count - 1), momentum)


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; what each process's tensor does to every loss flows back to it."""

    @staticmethod
    def forward(_context: Any, own: Tensor) -> Tensor:
        total = own.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total
