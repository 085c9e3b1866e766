"""The metric in which features are compared: what all have in common does not count, what varies within classes counts less."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.matching.decide import Floats, class_sums, unit

PRIOR_SHOTS = 100  # degrees of freedom that the base classes' covariance weighs beside a bank's shots
SHRINKAGE = 0.5  # of that covariance towards a multiple of the identity
SMALL = 32  # rows of a triangle that is inverted as it is
FEW = 4  # of a feature's length, the part up to which the bank's shots turn the background's metric instead of making their own

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Background:
    """What features of base classes are like, scaled to length one.

    Attributes:
        mean: float32 (D,) m, of all of them.
        within: float32 (D, D) S, their covariance around the means of their classes.
    """

    mean: Floats
    within: Floats

    @classmethod
    def of(cls, features: Floats, labels: NDArray[np.int64]) -> Background:
        """That of these features, float32 (n, D) of any length, whose classes are int64 (n,): two of one class at least."""
        scatter, freedom = deviations(features, labels)
        mean = unit(features).mean(axis=0, dtype=np.float64)
        return cls(mean.astype(np.float32), np.asarray((scatter + scatter.T) / (2 * freedom), dtype=np.float32))

    @cached_property
    def whitening(self) -> Floats:
        """W of S alone, which any bank's starts from: float32 (D, D)."""
        return whitening(self.within, np.zeros_like(self.within, np.float64), 0)

    @property
    def whitens(self) -> bool:
        """Whether S has such a W: no variance below 0 by more than their mean."""
        try:
            return bool(np.isfinite(self.whitening).all())
        except np.linalg.LinAlgError:
            return False


@dataclass(frozen=True, eq=False)
class Metric:
    """Features as they are compared: unit((unit(x) - m) W), of which cosines are taken.

    Without m, features that a ReLU leaves above zero all point to one side, and a class near that side wins too often.

    Attributes:
        mean: float32 (D,) m, the background's.
        matrix: float32 (D, D) W, a triangle or not; see `whitening`.
    """

    mean: Floats
    matrix: Floats

    @classmethod
    def of(cls, background: Background, shots: Floats, owners: NDArray[np.int64]) -> Metric:
        """That of a bank: float32 (M, D) features of its shots, without prompts, and int64 (M,) the class of each."""
        rest, freedom = _rest(shots, owners)
        if len(rest) > len(background.within) // FEW:
            return cls(background.mean, whitening(background.within, rest.T @ rest, freedom))
        return cls(background.mean, _turned(background, rest, freedom))

    def centred(self, features: NDArray[np.floating[Any]]) -> Floats:
        """unit(x) - m: floats (..., D) -> float32, same shape."""
        return unit(features) - self.mean

    def __call__(self, features: NDArray[np.floating[Any]]) -> Floats:
        """Floats (..., D), of any length -> float32, same shape, of length one."""
        return unit(self.centred(features) @ self.matrix)


def deviations(features: Floats, labels: NDArray[np.int64]) -> tuple[Matrix, int]:
    """How features of length one scatter around the mean of their class.

    Args:
        features: float32 (M, D), of any length.
        labels: int64 (M,), 0 or above.

    Returns:
        Scatter sum_i (u_i - mean of its class)(u_i - mean of its class)^T, float64 (D, D), and its degrees of freedom, the
        sum over classes of K - 1.
    """
    rest, freedom = _rest(features, labels)
    return rest.T @ rest, freedom


def _rest(features: Floats, labels: NDArray[np.int64]) -> tuple[Matrix, int]:
    """What `deviations` sums up: u_i - mean of its class, float64 (k, D), of the k shots that are not alone in their class."""
    vectors = unit(features).astype(np.float64)
    groups, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    means = class_sums(vectors, inverse, len(groups)) / counts[:, None]
    rest = vectors - means[inverse]
    several = counts[inverse] > 1  # a class's only shot says nothing, and must not leave rounding behind
    return rest[several], int((counts - 1).sum())


def shrunk(within: Floats) -> Matrix:
    """(1 - l) S + l s I: a covariance S, float32 (D, D), shrunk by l = `SHRINKAGE` towards its mean variance s; float64."""
    spread = float(np.trace(within)) / len(within)
    return np.asarray((1 - SHRINKAGE) * within.astype(np.float64) + SHRINKAGE * spread * np.eye(len(within)))


def whitening(within: Floats, scatter: Matrix, freedom: int) -> Floats:
    """W, so that cos(a W, b W) compares features a, b (D,) as a bank's classes need it: float32 (D, D), upper triangular.

    W W^T is the inverse of C = (n ((1 - l) S + l s I) + T) / (n + m): within-class covariance normalisation (Hatch et al.,
    Interspeech 2006) with the covariance S of the base classes, shrunk by l = `SHRINKAGE` towards its mean variance s, as
    the prior of the bank's own T with m degrees of freedom; n = `PRIOR_SHOTS`. It is scaled so that S alone keeps lengths.
    Cosines are the same for every such W; the inverse of C's Cholesky factor costs a tenth of its symmetric square root.

    Args:
        within: S, float32 (D, D), from the bundle; where it is zero, W is the identity.
        scatter: T, float64 (D, D), as `deviations` gives it.
        freedom: m.
    """
    dim = len(within)
    spread = float(np.trace(within)) / dim
    if not spread > 0:
        return np.eye(dim, dtype=np.float32)
    prior = shrunk(within)
    lower = np.linalg.cholesky((PRIOR_SHOTS * prior + scatter) / ((PRIOR_SHOTS + freedom) * spread))
    return np.ascontiguousarray(_inverse(np.asarray(lower, np.float64)).T, dtype=np.float32)


def _turned(background: Background, rest: Matrix, freedom: int) -> Floats:
    """W of a bank with few shots, from the background's W_0: D^2 k steps in place of D^3, so that teaching takes no time.

    With Y = R W_0 / sqrt(s) of the rests R (k, D), C is W_0^-T (n I + Y^T Y) W_0^-1 / (n + m), and Y^T Y = V diag(v) V^T has
    at most k variances above 0: W = sqrt((n + m) / n) (W_0 - W_0 V diag(1 - sqrt(n / (n + v))) V^T).
    """
    first, within = background.whitening, background.within
    spread = float(np.trace(within)) / len(within)
    if not len(rest) or not spread > 0:
        return first
    seen = (rest.astype(np.float32) @ first).astype(np.float64) / spread**0.5
    variances, vectors = np.linalg.eigh(seen @ seen.T)  # of k by k; the others of D by D are 0
    kept = variances > 1e-9 * max(variances[-1], 1e-9)
    variances, axes = variances[kept], (seen.T @ vectors[:, kept]) / np.sqrt(variances[kept])
    less = 1 - np.sqrt(PRIOR_SHOTS / (PRIOR_SHOTS + variances))
    narrow = axes.astype(np.float32)
    turned = first - (first @ narrow * less.astype(np.float32)) @ narrow.T
    return np.asarray(turned * ((PRIOR_SHOTS + freedom) / PRIOR_SHOTS) ** 0.5, np.float32)


def _inverse(lower: Matrix) -> Matrix:
    """Of a lower triangular matrix, by halves: [[A, 0], [B, C]]^-1 = [[A^-1, 0], [-C^-1 B A^-1, C^-1]]."""
    dim = len(lower)
    if dim <= SMALL:
        return np.asarray(np.linalg.inv(lower))
    half = dim // 2
    first, second = _inverse(lower[:half, :half]), _inverse(lower[half:, half:])
    inverse = np.zeros_like(lower)
    inverse[:half, :half], inverse[half:, half:] = first, second
    inverse[half:, :half] = -second @ (lower[half:, :half] @ first)
    return inverse
