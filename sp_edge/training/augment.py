"""Random changes to a batch of training pictures."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sp_edge.settings import AugmentSettings


def augment(images: Tensor, settings: AugmentSettings, rng: np.random.Generator) -> Tensor:
    """Shifts, mirrors and brightens each picture on its own.

    Args:
        images: uint8 (B, H, W, 3) RGB.
        rng: decides; the same state gives the same pictures.

    Returns:
        uint8 (B, H, W, 3) RGB.
    """
    count, height, width, _ = images.shape
    reach_y, reach_x = int(settings.shift * height), int(settings.shift * width)
    dy = torch.from_numpy(rng.integers(-reach_y, reach_y + 1, (count, 1)))
    dx = torch.from_numpy(rng.integers(-reach_x, reach_x + 1, (count, 1)))
    rows = _reflect(torch.arange(height) + dy, height)
    columns = _reflect(torch.arange(width) + dx, width)
    if settings.flip:
        mirrored = torch.from_numpy(rng.random((count, 1)) < 0.5)
        columns = torch.where(mirrored, width - 1 - columns, columns)
    device = images.device
    which = torch.arange(count, device=device)[:, None, None]
    moved = images[which, rows.to(device)[:, :, None], columns.to(device)[:, None, :]]
    if settings.brightness == 0:
        return moved
    gain = rng.uniform(1 - settings.brightness, 1 + settings.brightness, (count, 1, 1, 3)).astype(np.float32)
    return (moved.float() * torch.from_numpy(gain).to(device)).clamp_(0, 255).to(torch.uint8)


def _reflect(index: Tensor, length: int) -> Tensor:
    """Folds indices back from beyond either end; the edge itself is not repeated."""
    index = index.abs()
    return torch.where(index >= length, 2 * length - 2 - index, index)
