"""Random changes to a batch of training pictures, on the device that holds them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as transforms

from sp_edge.settings.settings import AugmentSettings

MOST = 30  # RandAugment's magnitudes run from 0 to this
_STANDARD = 10  # random numbers that the standard changes use


def augment(images: Tensor, settings: AugmentSettings, rng: np.random.Generator, share: slice = slice(None)) -> Tensor:
    """Changes each picture on its own, as the policy says.

    Args:
        images: uint8 (B, H, W, 3) RGB.
        rng: decides; the same state gives the same pictures.
        share: the rows to change and return; each comes out as it would among all B.

    Returns:
        uint8 (B, H, W, 3) RGB, or the rows of the share.
    """
    if settings.policy == "none":
        return images[share]
    # All chance of a picture is one row, so that a share of the batch meets the same.
    chances = rng.random((len(images), _STANDARD + 2 * settings.operations))[share]
    images = _moved(images[share], settings, chances[:, :7])
    if settings.brightness > 0:
        gain = 1 + settings.brightness * (2 * chances[:, None, None, 7:10] - 1)
        images = (images.float() * torch.from_numpy(gain.astype(np.float32)).to(images.device)).clamp_(0, 255).to(torch.uint8)
    if settings.policy == "randaugment":
        images = _rand_augmented(images, settings, chances[:, _STANDARD:])
    return images


def _moved(images: Tensor, settings: AugmentSettings, chances: NDArray[np.float64]) -> Tensor:
    """Crops, shifts and mirrors.

    A crop (`RandomResizedCrop`) has a share of the area and an aspect ratio of 3/4 to 4/3 of its own. All three say where an
    output's rows and columns come from, so that the picture is sampled but once.
    """
    _, height, width, _ = images.shape
    area = settings.crop + (1 - settings.crop) * chances[:, 0]
    aspect = (4 / 3) ** (2 * chances[:, 1] - 1) if settings.crop < 1 else 1.0
    positions = []
    for length, share, place, shift in (
        (height, np.sqrt(area / aspect), chances[:, 2], chances[:, 4]),
        (width, np.sqrt(area * aspect), chances[:, 3], chances[:, 5]),
    ):
        kept = np.minimum(share, 1)[:, None] * (length - 1)
        start = place[:, None] * (length - 1 - kept)
        reach = int(settings.shift * length)
        moved = np.minimum(np.floor(shift * (2 * reach + 1)), 2 * reach)[:, None] - reach
        positions.append(_reflect(start + np.linspace(0, 1, length) * kept + moved, length))
    rows, columns = positions
    if settings.flip:
        columns = np.where(chances[:, 6:7] < 0.5, columns[:, ::-1], columns)
    if settings.crop == 1:
        return _gathered(images, rows, columns)
    grid = np.empty((len(images), height, width, 2), dtype=np.float32)
    grid[..., 0] = (2 * columns / max(1, width - 1) - 1)[:, None, :]
    grid[..., 1] = (2 * rows / max(1, height - 1) - 1)[:, :, None]
    sampled = functional.grid_sample(
        images.permute(0, 3, 1, 2).float(), torch.from_numpy(grid).to(images.device), padding_mode="border", align_corners=True
    )
    return sampled.permute(0, 2, 3, 1).round_().clamp_(0, 255).to(torch.uint8).contiguous()


def _gathered(images: Tensor, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> Tensor:
    """The pixels at whole rows (B, H) and columns (B, W)."""
    at = [torch.from_numpy(np.rint(index).astype(np.int64)).to(images.device) for index in (rows, columns)]
    which = torch.arange(len(images), device=images.device)[:, None, None]
    return images[which, at[0][:, :, None], at[1][:, None, :]]


def _reflect(index: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """Folds positions back from beyond either end; the edge itself is not repeated."""
    index = np.abs(index)
    return np.where(index > length - 1, 2 * (length - 1) - index, index)


def _rand_augmented(images: Tensor, settings: AugmentSettings, chances: NDArray[np.float64]) -> Tensor:
    """RandAugment (Cubuk et al., arXiv 1909.13719): N operations in turn, each picture's own, all of strength M / 30.

    Pictures that meet the same operation are changed together.
    """
    planes = images.permute(0, 3, 1, 2).contiguous()
    operations = list(_operations(settings.magnitude / MOST, images.shape[1], images.shape[2]))
    for number in range(settings.operations):
        chosen = (chances[:, 2 * number] * len(operations)).astype(int)
        signs = np.where(chances[:, 2 * number + 1] < 0.5, -1.0, 1.0)
        changed = planes.clone()
        for operation, sign in sorted(set(zip(chosen.tolist(), signs.tolist(), strict=True))):
            rows = torch.from_numpy(np.flatnonzero((chosen == operation) & (signs == sign))).to(images.device)
            changed[rows] = operations[operation](planes[rows], sign)
        planes = changed
    return planes.permute(0, 2, 3, 1).contiguous()


def _operations(strength: float, height: int, width: int) -> tuple[Callable[[Tensor, float], Tensor], ...]:
    """The paper's fourteen on uint8 (b, 3, H, W), with a sign for those that have two directions; `strength` is 0 to 1."""
    shear, turn, colour = math.degrees(math.atan(0.3 * strength)), 30 * strength, 0.9 * strength
    down, across = int(150 / 331 * height * strength), int(150 / 331 * width * strength)

    def affine(x: Tensor, *, across: float = 0, down: float = 0, shear: tuple[float, float] = (0, 0)) -> Tensor:
        return transforms.affine(x, 0, [across, down], 1, list(shear), center=[0, 0])

    return (
        lambda x, _: x,
        lambda x, sign: affine(x, shear=(sign * shear, 0)),
        lambda x, sign: affine(x, shear=(0, sign * shear)),
        lambda x, sign: affine(x, across=sign * across),
        lambda x, sign: affine(x, down=sign * down),
        lambda x, sign: transforms.rotate(x, sign * turn),
        lambda x, sign: transforms.adjust_brightness(x, 1 + sign * colour),
        lambda x, sign: transforms.adjust_saturation(x, 1 + sign * colour),
        lambda x, sign: transforms.adjust_contrast(x, 1 + sign * colour),
        lambda x, sign: transforms.adjust_sharpness(x, 1 + sign * colour),
        lambda x, _: transforms.posterize(x, 8 - round(4 * strength)),
        lambda x, _: transforms.solarize(x, 255 * (1 - strength)),
        lambda x, _: transforms.autocontrast(x),
        lambda x, _: transforms.equalize(x),
    )
