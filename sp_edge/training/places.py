"""Fits the spatial interaction at the last feature map on base pictures, in closed form."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from sp_edge.data.pictures import PictureSet
from sp_edge.matching.decide import unit
from sp_edge.model import PromptedPlaces
from sp_edge.prompts.table import PromptTable
from sp_edge.training.text_prototype import BaseClasses, TextFit, fit_ridge

_BATCH = 64


def fit_places(network: PromptedPlaces, pictures: PictureSet, prompts: PromptTable) -> TextFit:
    """Sets the directions of names and the statistics of patches in `network.prompt`.

    Directions are a ridge regression from the classes' text vectors to their mean features of length one, less the mean of
    these. Patches are all places of the pictures.

    Args:
        network: is left in the mode, and on the device, that it is in.
        pictures: the base classes'; of each class, at most the first 64 are looked at.
        prompts: hold every base class's name.

    Raises:
        DataError: fewer than three classes, or a feature is not finite.
    """
    base = BaseClasses.of(network, pictures, prompts)
    directions = unit(base.means)
    weight, bias, fit = fit_ridge(base.text.astype(np.float64), directions - directions.mean(axis=0))
    with torch.no_grad():
        network.prompt.direction.weight.copy_(torch.from_numpy(weight))
        network.prompt.direction.bias.copy_(torch.from_numpy(bias))
    network.prompt.set_patches(*_patches(network, pictures.images[base.rows]))
    return fit


@torch.no_grad()
def _patches(network: PromptedPlaces, images: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (D,) and covariance (D, D) of all places of the pictures, uint8 (n, H, W, 3) RGB."""
    was_training, device = network.training, next(network.parameters()).device
    network.eval()
    dim, count = network.feature_dim, 0
    total, squares = np.zeros(dim), np.zeros((dim, dim))
    for start in range(0, len(images), _BATCH):
        tokens = network.begin(network.normalise(torch.from_numpy(images[start : start + _BATCH]).to(device)))
        places = network.places(tokens).flatten(2).transpose(1, 2).flatten(0, 1).cpu().numpy().astype(np.float64)
        count += len(places)
        total += places.sum(axis=0)
        squares += places.T @ places
    network.train(was_training)
    mean = total / count
    return mean, squares / count - np.outer(mean, mean)
