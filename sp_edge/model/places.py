"""Spatial interaction at the last feature map, in closed form: the places that look like the name weigh more."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sp_edge.matching.evidence import HIGHEST

RANK = 64  # of the covariance of patches; what is beyond it counts as the same in all directions
_TINY = 1e-12


class NamedPlaces(nn.Module):
    """Weighs the places of a feature map by how much more they look like a name than places usually do.

    r(g) = A g + b is a name's direction. A place F_i has the score z_i = (F_i . r - m) / s, with m and s the mean and
    deviation of F . r over patches of unrelated photographs, so that scores of all names and pictures compare. A place weighs
    w_i = sigmoid((z_i - a) / b) + c. All places weigh nearly the same where nothing looks like the name, or everything does.

    The patches' statistics are buffers: their mean, and their covariance as V'V + rest I. A new module has those of white
    noise, and `fitted` is False.

    Args:
        text_dim: T, length of the text embedding.
        dim: D, of a place and of a feature.
        threshold, softness, floor: a, b and c.
    """

    def __init__(self, text_dim: int, dim: int, *, threshold: float = 2.0, softness: float = 0.5, floor: float = 0.02) -> None:
        super().__init__()
        self.threshold, self.softness, self.floor = threshold, softness, floor
        self.direction = nn.Linear(text_dim, dim)
        self.patch_mean: Tensor
        self.patch_factor: Tensor
        self.patch_rest: Tensor
        self.register_buffer("patch_mean", torch.zeros(dim))
        self.register_buffer("patch_factor", torch.zeros(min(RANK, dim), dim))
        self.register_buffer("patch_rest", torch.ones(()))

    @property
    def fitted(self) -> bool:
        """Whether patches of photographs have been looked at."""
        return bool(self.patch_factor.any())

    @torch.no_grad()
    def set_direction(self, weight: NDArray[np.floating], bias: NDArray[np.floating]) -> None:
        """Takes the directions of names: A (D, T) and b (D,)."""
        self.direction.weight.copy_(torch.from_numpy(weight))
        self.direction.bias.copy_(torch.from_numpy(bias))

    @torch.no_grad()
    def set_patches(self, mean: NDArray[np.floating], covariance: NDArray[np.floating]) -> None:
        """Takes the statistics of patches of unrelated photographs: their mean (D,) and covariance (D, D)."""
        factor, rest = low_rank(covariance, RANK)
        self.patch_mean.copy_(torch.from_numpy(np.asarray(mean, np.float64)))
        self.patch_factor.copy_(torch.from_numpy(factor))
        self.patch_rest.fill_(rest)

    def scores(self, places: Tensor, prompt: Tensor) -> Tensor:
        """The absolute score of each place: float (B, D, h, w) and text (B, T) -> z, float (B, h, w)."""
        direction = unit_rows(self.direction(prompt))  # z does not depend on its length
        spread = (direction @ self.patch_factor.T).square().sum(dim=1) + self.patch_rest
        usual = direction @ self.patch_mean
        found = (direction.unsqueeze(1) @ places.flatten(2)).squeeze(1)
        scores = (found - usual.unsqueeze(1)) / (spread + _TINY).sqrt().unsqueeze(1)
        return scores.reshape(-1, *places.shape[2:])

    def forward(self, places: Tensor, scores: Tensor) -> Tensor:
        """The mean of the weighed places less their even mean: float (B, D, h, w) and z (B, h, w) -> float (B, D)."""
        weights = torch.sigmoid((scores.flatten(1) - self.threshold) / self.softness) + self.floor
        uneven = weights / weights.sum(dim=1, keepdim=True) - 1 / weights.shape[1]
        return (places.flatten(2) @ uneven.unsqueeze(2)).squeeze(2)


def evidence(scores: Tensor) -> Tensor:
    """How much in a picture looks like the name: z (B, h, w) -> (B, 1), the mean of the five highest."""
    flat = scores.flatten(1)
    return flat.topk(min(HIGHEST, flat.shape[1]), dim=1).values.mean(dim=1, keepdim=True)


def unit_rows(vectors: Tensor) -> Tensor:
    """(B, D) of length one; zeros stay zeros. PyTorch's `normalize` would have the exported graph read off the batch's size."""
    return vectors / (vectors.norm(dim=1, keepdim=True) + _TINY)


def low_rank(covariance: NDArray[np.floating], rank: int) -> tuple[NDArray[np.float64], float]:
    """V and r with V'V + r I near a covariance, its largest variances exact (probabilistic PCA, Tipping and Bishop 1999).

    Args:
        covariance: (D, D).
        rank: how many variances are exact.

    Returns:
        V float64 (rank, D), or (D, D) of smaller covariances, and r, the mean of the other variances.
    """
    variances, vectors = np.linalg.eigh(covariance.astype(np.float64))
    kept, left = variances[::-1][:rank], variances[::-1][rank:]
    rest = max(float(left.mean()), 0.0) if len(left) else 0.0
    return np.sqrt(np.maximum(kept - rest, 0))[:, None] * vectors[:, ::-1][:, :rank].T, rest
