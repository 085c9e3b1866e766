"""Nearest-prototype classification: features and prototypes in, a label or 'unknown' out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sp_edge.matching.label import UNKNOWN

LEAST_DISTANCE = 1e-6  # 1 - cosine, of which logarithms are taken
GROUP = 64  # values whose maximum is looked at first

Floats = NDArray[np.float32]
Strength = TypeVar("Strength", float, NDArray[np.float64])


@dataclass(frozen=True)
class Match:
    """What one query was recognized as.

    Attributes:
        label: the best class's name, or 'unknown' where its similarity stays under its threshold, or where it is a reject.
        name: the best class's name, also where the label is 'unknown'; empty when no class was taught.
        confidence: the probability that the picture shows this class, 0 to 1: that it shows a taught class at all, times the
            best class's share among them.
        similarity: cosine to the best prototype, -1 to 1.
        margin: how far the best class's cosine is ahead of every other's, -2 to 2, below 0 only where another classifier than
            the nearest prototype chose it; with one class alone, ahead of its threshold.
        top: the best classes' names and probabilities, best first; of all classes they sum to the probability that the
            picture shows a taught class.
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


def class_sums(features: NDArray[np.floating[Any]], labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Sum of each class's features: floats (M, D) of the classes int64 (M,), 0 to C - 1 -> float64 (C, D)."""
    sums = np.zeros((classes, features.shape[1]))
    np.add.at(sums, labels, features)
    return sums


def share(strength: Strength, shots: Strength | int) -> Strength:
    """The prompted features' share in the prototype of a class taught with K pictures: s_K = s / (s + (1 - s) K).

    The prototype is s_K mean_k f(x_k | g(y)) + (1 - s_K) mean_k f(x_k): beside one picture the prompt has the share s, and
    each picture weighs 1 - s, so that K of them outweigh it K times as much. s = 1 is the paper's prototype at any K.

    Args:
        strength: s, 0 to 1, of one class or float64 (...) of several; 0 is the plain prototype.
        shots: K, at least 1, of all of them or each.
    """
    return strength / (strength + (1 - strength) * shots)


def unit(vectors: NDArray[np.floating[Any]]) -> Floats:
    """Scales each row to length one; a row of zeros stays so. Floats (..., D) -> float32, same shape."""
    length = np.linalg.norm(vectors.astype(np.float64), axis=-1, keepdims=True)  # in float32 the squares would overflow
    return np.asarray(vectors / np.maximum(length, 1e-12), dtype=np.float32)


def cosine(queries: Floats, prototypes: Floats) -> Floats:
    """Cosine of every query (N, D) with every prototype (C, D): float32 (N, C)."""
    return unit(queries) @ unit(prototypes).T


def row_cosines(ours: Floats, theirs: Floats) -> Floats:
    """Cosine of every row with the same row of the other: float32 (..., D) twice -> float32 (...)."""
    return np.asarray((unit(ours) * unit(theirs)).sum(axis=-1), dtype=np.float32)


def known_probability(similarity: float, threshold: float, sharpness: float) -> float:
    """1 / (1 + ((1 - s) / (1 - t))^sharpness), 0 to 1: 0.5 at the threshold t, nearly 1 at the prototype.

    Args:
        similarity: s, a cosine.
        threshold: t, a cosine.
        sharpness: above 0; see `sp_edge.matching.unknown.Calibration`.
    """
    ratio = math.log(max(1 - similarity, LEAST_DISTANCE)) - math.log(max(1 - threshold, LEAST_DISTANCE))
    return 1 / (1 + math.exp(min(max(sharpness * ratio, -50.0), 50.0)))


def match(
    similarities: Floats,
    names: Sequence[str],
    thresholds: Floats,
    *,
    temperature: float,
    sharpness: float,
    topk: int = 5,
    logits: Floats | None = None,
    rejects: NDArray[np.bool_] | None = None,
) -> Match:
    """Decides on one query.

    Args:
        similarities: float32 (C,) cosines to the prototypes.
        names: C class names.
        thresholds: float32 (C,) least cosine at which each class is believed.
        temperature: tau of the softmax over cosines, softmax(cos / tau), as in the training loss.
        sharpness: how fast the probability that the picture shows a taught class rises around the threshold.
        topk: how many classes to list.
        logits: float32 (C,) of a classifier that is better than the cosines, whose softmax is taken instead.
        rejects: bool (C,), which of the classes stand for what is no class: a query that is best there is 'unknown'.
    """
    if len(names) == 0:
        return Match(UNKNOWN, "", 0.0, -1.0, 0.0, ())
    nearest = _largest(similarities, max(topk, 2))
    if logits is None:
        exponent = np.exp((similarities - similarities[nearest[0]]) / temperature)
        listed = nearest[:topk]
    else:
        exponent = np.exp(logits - logits.max())
        listed = _largest(exponent, topk)[:topk]  # what differs by rounding alone is equal in chances
    best = int(listed[0])
    chances = exponent[listed] / exponent.sum()
    similarity, threshold = float(similarities[best]), float(thresholds[best])
    rival = next((i for i in nearest if i != best), None)
    second = threshold if rival is None else float(similarities[rival])
    known = known_probability(similarity, threshold, sharpness) if math.isfinite(similarity) else 0.0
    believed = similarity >= threshold and (rejects is None or not rejects[best])  # NaN is not
    return Match(
        label=names[best] if believed else UNKNOWN,
        name=names[best],
        confidence=known * float(chances[0]) if known else 0.0,
        similarity=similarity,
        margin=similarity - second,
        top=tuple((names[i], known * float(chance) if known else 0.0) for i, chance in zip(listed, chances, strict=True)),
    )


def _largest(values: Floats, count: int) -> NDArray[np.intp]:
    """Indices of the largest values, `count` or more, the largest first, equal ones in their order.

    Of many values only a few are sorted: those that reach the `count` largest of the maxima of groups. A group's values lie
    apart, so that all groups' maxima are taken side by side.
    """
    groups = len(values) // GROUP
    if count < groups:
        maxima = values[: GROUP * groups].reshape(GROUP, groups).max(axis=0)
        few = np.flatnonzero(~(values < np.partition(maxima, -count)[-count]))
    else:
        few = np.arange(len(values))
    return few[np.argsort(-values[few], kind="stable")]
