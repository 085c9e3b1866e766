"""Gives pictures the form in which a network takes them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sp_edge.settings.settings import MEAN, STD


@dataclass(frozen=True)
class Normalization:
    """The first step of a network, by the statistics of the pictures that its weights were trained on.

    Attributes:
        mean, std: of red, green and blue in 0..255.
    """

    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (B, H, W, 3) RGB -> float32 (B, 3, H, W) in channels-last memory, as the network takes it."""
        mean, std = (torch.tensor(value, device=images.device) for value in (self.mean, self.std))
        return ((images.float() - mean) / std).permute(0, 3, 1, 2)


PAPERS = Normalization()
