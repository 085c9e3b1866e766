"""Multinomial logistic regression in NumPy, for the few examples that a bank holds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
_MEMORY = 10  # pairs that L-BFGS remembers


def fit(
    features: NDArray[np.float64], labels: NDArray[np.int64], *, c: float = 1.0, balanced: bool = False
) -> tuple[Vector, Vector]:
    """Minimises c * sum_i log-loss_i + |weights|^2 / 2; the intercepts are free, as in scikit-learn's `LogisticRegression`.

    Two classes share one weight vector, which stands for the second class; the first one's is zero.

    Args:
        features: float64 (M, D).
        labels: int64 (M,), 0 to C - 1, each at least once.
        c: weight of the examples against the penalty.
        balanced: weigh every class alike, whatever its number of examples, as scikit-learn's `class_weight="balanced"`.

    Returns:
        Weights, float64 (C, D), and intercepts, float64 (C,), of the classes' log-odds. One class has zeros.
    """
    classes, dim = int(labels.max()) + 1, features.shape[1]
    if classes == 1:
        return np.zeros((1, dim)), np.zeros(1)
    rows = 1 if classes == 2 else classes
    extended = np.hstack([features, np.ones((len(features), 1))])
    penalised = np.ones(dim + 1)
    penalised[-1] = 0
    targets = np.eye(classes)[labels]
    counts = np.bincount(labels)
    weight = c * (len(labels) / (classes * counts))[labels] if balanced else np.full(len(labels), c)

    def loss(flat: Vector) -> tuple[float, Vector]:
        weights = flat.reshape(rows, dim + 1)
        logits = extended @ weights.T
        if rows == 1:
            logits = np.hstack([np.zeros_like(logits), logits])
        shifted = logits - logits.max(axis=1, keepdims=True)
        total = np.log(np.exp(shifted).sum(axis=1))
        error = np.exp(shifted - total[:, None]) - targets
        value = (weight * (total - (shifted * targets).sum(axis=1))).sum() + 0.5 * (weights**2 * penalised).sum()
        gradient = (weight[:, None] * error[:, -rows:]).T @ extended + weights * penalised
        return float(value), gradient.ravel()

    found = _minimise(loss, np.zeros(rows * (dim + 1))).reshape(rows, dim + 1)
    if rows == 1:
        found = np.vstack([np.zeros_like(found), found])
    return found[:, :-1], found[:, -1]


def _minimise(
    loss: Callable[[Vector], tuple[float, Vector]], start: Vector, *, tolerance: float = 1e-6, iterations: int = 1000
) -> Vector:
    """L-BFGS with backtracking (Nocedal and Wright, algorithm 7.4), for smooth convex functions.

    Args:
        loss: gives the value and the gradient.
        start: where to begin.
        tolerance: of the gradient's largest component.
        iterations: at most.
    """
    point, steps, changes = start, [], []  # type: ignore[var-annotated]
    value, gradient = loss(point)
    for _ in range(iterations):
        if np.abs(gradient).max() <= tolerance:
            break
        direction = -_inverse_hessian(gradient, steps, changes)
        slope = float(direction @ gradient)
        length = 1.0 if steps else 1 / max(1.0, float(np.abs(gradient).sum()))
        while True:
            moved = point + length * direction
            new_value, new_gradient = loss(moved)
            if new_value <= value + 1e-4 * length * slope or length < 1e-12:
                break
            length /= 2
        step, change = moved - point, new_gradient - gradient
        if not step @ change > 1e-12 * float(np.sqrt((step @ step) * (change @ change))):
            break  # rounding is all that is left
        steps, changes = [*steps, step][-_MEMORY:], [*changes, change][-_MEMORY:]
        point, value, gradient = moved, new_value, new_gradient
    return point


def _inverse_hessian(gradient: Vector, steps: list[Vector], changes: list[Vector]) -> Vector:
    """The two-loop recursion: the remembered curvature's inverse Hessian times the gradient."""
    direction, kept = gradient.copy(), []
    for step, change in zip(reversed(steps), reversed(changes), strict=True):
        rho = 1 / float(step @ change)
        alpha = rho * float(step @ direction)
        direction -= alpha * change
        kept.append((rho, alpha))
    if steps:
        direction *= float(steps[-1] @ changes[-1]) / float(changes[-1] @ changes[-1])
    for (rho, alpha), step, change in zip(reversed(kept), steps, changes, strict=True):
        direction += step * (alpha - rho * float(change @ direction))
    return direction
