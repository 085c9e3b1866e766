"""Fits the spatial interaction at the last feature map on base pictures, in closed form."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sp_edge.data.pictures import PictureSet
from sp_edge.matching.decide import unit
from sp_edge.matching.metric import Background
from sp_edge.model import PromptedPlaces
from sp_edge.prompts.table import PromptTable
from sp_edge.training.directions import towards_means
from sp_edge.training.lower_layers import Kept
from sp_edge.training.text_prototype import BaseClasses, TextFit, fit_ridge

_BATCH = 16


def fit_places(
    network: PromptedPlaces,
    pictures: PictureSet,
    prompts: PromptTable,
    kept: Kept | None = None,
    directions: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> TextFit | None:
    """Sets the directions of names and the statistics of patches in `network.prompt`.

    Directions are those of a classifier, which the text prototype starts from, too; or else a ridge regression from the
    classes' text vectors to their mean features of length one, less the mean of these. Patches are all places of the pictures.

    Args:
        network: is left in the mode, and on the device, that it is in.
        pictures: the base classes'; of each class, at most the first 64 are looked at.
        prompts: hold every base class's name.
        kept: what the layers before the prompt gave of the pictures, where that is known.
        directions: A and b of a classifier (`fit_directions`), where the network has one whose classes have names.

    Returns:
        How well the regression does, where there is one.

    Raises:
        DataError: fewer than three classes, or a feature is not finite.
    """
    base, fit = BaseClasses.of(network, pictures, prompts, kept), None
    if directions is None:
        means = unit(base.means)
        weight, bias, fit = fit_ridge(base.text.astype(np.float64), means - means.mean(axis=0))
    else:
        weight, bias = directions
        if network.text_prototype is not None:
            background = Background.of(base.features, pictures.labels[base.rows])
            network.text_prototype.set(*towards_means(weight, bias, background.within), background.mean)
    network.prompt.set_direction(weight, bias)
    network.prompt.set_patches(*_patches(network, pictures.images, base.rows, kept))
    return fit


class PlaceMoments:
    """Mean and covariance of places, which are added batch by batch."""

    def __init__(self) -> None:
        self._count, self._total, self._squares = 0, np.zeros(()), np.zeros(())

    def add(self, places: Tensor) -> None:
        """Takes the places of some pictures, float (B, D, h, w)."""
        rows = places.flatten(2).transpose(1, 2).flatten(0, 1).cpu().numpy().astype(np.float64)
        self._count += len(rows)
        self._total = self._total + rows.sum(axis=0)
        self._squares = self._squares + rows.T @ rows

    def result(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean (D,) and covariance (D, D)."""
        mean = self._total / self._count
        return mean, self._squares / self._count - np.outer(mean, mean)


@torch.no_grad()
def _patches(
    network: PromptedPlaces, images: NDArray[np.uint8], rows: NDArray[np.int64], kept: Kept | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (D,) and covariance (D, D) of all places of some of the pictures, uint8 (n, H, W, 3) RGB."""
    was_training, device = network.training, next(network.parameters()).device
    network.eval()
    moments = PlaceMoments()
    for start in range(0, len(rows), _BATCH):
        some = rows[start : start + _BATCH]
        if kept is None:
            tokens = network.begin(network.normalise(torch.from_numpy(images[some]).to(device)))
        else:
            tokens = torch.from_numpy(np.asarray(kept.tokens[some, 0])).to(device).float()
        moments.add(network.places(tokens))
    network.train(was_training)
    return moments.result()
