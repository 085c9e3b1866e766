"""Nearest-prototype classification: features and prototypes in, a label or 'unknown' out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNKNOWN = "unknown"

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Match:
    """What one query was recognised as.

    Attributes:
        label: the best class's name, or 'unknown' where its similarity stays under its threshold.
        name: the best class's name, also where the label is 'unknown'; empty when no class was taught.
        confidence: the best class's softmax probability among the taught classes, 0 to 1.
        similarity: cosine to the best prototype, -1 to 1.
        margin: how far the best cosine is ahead of the second, 0 to 2; with one class alone, ahead of its threshold.
        top: the best classes' names and probabilities, best first.
    """

    label: str
    name: str
    confidence: float
    similarity: float
    margin: float
    top: tuple[tuple[str, float], ...]

    @property
    def unknown(self) -> bool:
        """Whether no taught class was similar enough."""
        return self.label == UNKNOWN


def prototype(features: Floats) -> Floats:
    """The class's prototype p = mean_k f(x_k | g(y)): float32 (..., K, D) raw support features -> (..., D)."""
    return np.asarray(features.mean(axis=-2, dtype=np.float64), dtype=np.float32)


def share(strength: float, shots: int) -> float:
    """The prompted features' share in the prototype of a class taught with K pictures: s_K = s / (s + (1 - s) K).

    The prototype is s_K mean_k f(x_k | g(y)) + (1 - s_K) mean_k f(x_k): beside one picture the prompt has the share s, and
    each picture weighs 1 - s, so that K of them outweigh it K times as much. s = 1 is the paper's prototype at any K.

    Args:
        strength: s, 0 to 1; 0 is the plain prototype.
        shots: K, at least 1.
    """
    return strength / (strength + (1 - strength) * shots)


def unit(vectors: NDArray[np.floating[Any]]) -> Floats:
    """Scales each row to length one; a row of zeros stays so. Floats (..., D) -> float32, same shape."""
    length = np.linalg.norm(vectors.astype(np.float64), axis=-1, keepdims=True)  # in float32 the squares would overflow
    return np.asarray(vectors / np.maximum(length, 1e-12), dtype=np.float32)


def cosine(queries: Floats, prototypes: Floats) -> Floats:
    """Cosine of every query (N, D) with every prototype (C, D): float32 (N, C)."""
    return unit(queries) @ unit(prototypes).T


def probabilities(similarities: Floats, temperature: float) -> Floats:
    """softmax(cos / tau) over the last axis, as in the training loss: float32 (..., C), rows sum to 1."""
    scaled = similarities / temperature
    exponent = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(exponent / exponent.sum(axis=-1, keepdims=True), dtype=np.float32)


def match(similarities: Floats, names: Sequence[str], thresholds: Floats, *, temperature: float, topk: int = 5) -> Match:
    """Decides on one query.

    Args:
        similarities: float32 (C,) cosines to the prototypes.
        names: C class names.
        thresholds: float32 (C,) least cosine at which each class is believed.
        temperature: tau of the softmax.
        topk: how many classes to list.
    """
    if len(names) == 0:
        return Match(UNKNOWN, "", 0.0, -1.0, 0.0, ())
    chances = probabilities(similarities, temperature)
    order = np.argsort(-similarities, kind="stable")[: max(topk, 2)]
    best = int(order[0])
    second = similarities[order[1]] if len(order) > 1 else thresholds[best]
    known = similarities[best] >= thresholds[best]
    return Match(
        label=names[best] if known else UNKNOWN,
        name=names[best],
        confidence=float(chances[best]),
        similarity=float(similarities[best]),
        margin=float(similarities[best] - second),
        top=tuple((names[i], float(chances[i])) for i in order[:topk]),
    )
