"""The map from text vectors to directions in feature space, in closed form from vectors of things that have names."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.matching.decide import Floats
from sp_edge.matching.metric import shrunk

RIDGE = 1.0  # of the mean eigenvalue of the text vectors' scatter; 0.3 to 3 do as well


def fit_directions(
    text: NDArray[np.floating[Any]], rows: NDArray[np.floating[Any]], ridge: float = RIDGE
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ridge regression from text vectors to what each name looks like, both centered on their means.

    A = Y' X (X' X + lambda I)^-1 and b = -A mean(x), so that A g + b says how a name differs from the usual one.

    Args:
        text: (n, T), the vectors of n names.
        rows: (n, D), a classifier's rows, or the means of features of each name's pictures.
        ridge: lambda, in mean eigenvalues of X' X.

    Returns:
        A float64 (D, T) and b float64 (D,).
    """
    mean = text.mean(axis=0, dtype=np.float64)
    x, y = text - mean, rows - rows.mean(axis=0, dtype=np.float64)
    scatter = x.T @ x
    penalty = ridge * max(float(np.trace(scatter)) / len(scatter), 1e-12)
    weight = np.linalg.solve(scatter + penalty * np.eye(len(scatter)), x.T @ y).T
    return weight, -weight @ mean


def towards_means(
    weight: NDArray[np.float64], bias: NDArray[np.float64], within: Floats
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What directions that were fitted to a classifier's rows say of where features lie: S A and S b.

    By linear discriminant analysis a classifier's row is S^-1 (mean of its class - mean of all), S being the covariance within
    classes, shrunk as in the metric.

    Args:
        weight, bias: A float64 (D, T) and b float64 (D,).
        within: the covariance, float32 (D, D), of features of length one.
    """
    spread = shrunk(within)
    return spread @ weight, spread @ bias
