"""Targets of the classifier: smoothed labels, and pictures mixed in pairs with their labels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sp_edge.settings.settings import PretrainSettings


def targets(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """int64 (B,) -> float32 (B, C): 1 - s at the label, and s spread evenly over all classes (Szegedy et al., 1512.00567)."""
    return functional.one_hot(labels, classes).float() * (1 - smoothing) + smoothing / classes


def mix(images: Tensor, wanted: Tensor, settings: PretrainSettings, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Mixes each picture with its neighbour: 1st with 2nd, 3rd with 4th, ..., so that any even part of a batch mixes alike.

    mixup (arXiv 1710.09412) takes w x_i + (1 - w) x_j; CutMix (arXiv 1905.04899) puts a rectangle of x_j, of 1 - w of the
    area before it is cut at the edges, into x_i. Targets are mixed by the share of each picture that is seen.

    Args:
        images: uint8 (B, H, W, 3) RGB; the last of an odd number has no neighbour and stays.
        wanted: float32 (B, C) targets.
        rng: decides for the whole batch: which of the two, where both are on, and w ~ Beta(a, a).

    Returns:
        Images and targets of the same shapes and types.
    """
    ways = [name for name in ("mixup", "cutmix") if getattr(settings, name) > 0]
    if not ways or len(images) < 2:
        return images, wanted
    way = ways[int(rng.integers(len(ways)))]
    weight = float(rng.beta(getattr(settings, way), getattr(settings, way)))
    other = torch.arange(len(images), device=images.device) ^ 1
    other[other == len(images)] = len(images) - 1
    if way == "mixup":
        images = (weight * images.float() + (1 - weight) * images[other].float()).round_().to(torch.uint8)
    else:
        height, width = images.shape[1:3]
        rows, columns = (_span(length, (1 - weight) ** 0.5, rng) for length in (height, width))
        partners, images = images[other], images.clone()
        images[:, rows, columns] = partners[:, rows, columns]
        weight = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
    return images, weight * wanted + (1 - weight) * wanted[other.to(wanted.device)]


def _span(length: int, share: float, rng: np.random.Generator) -> slice:
    """A part of an axis around a random middle, cut at the ends."""
    middle, half = int(rng.integers(length)), int(length * share) // 2
    return slice(max(0, middle - half), min(length, middle + half))
