"""Fits how classes of the name alone compare with classes that were taught from pictures."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from sp_edge.matching import logistic
from sp_edge.matching.metric import Background, Metric
from sp_edge.matching.unknown import ByName

_log = logging.getLogger(__name__)
PAIRS = 20_000  # of pictures, or of pictures and names, of each kind
BANKS = 300
WAYS = (2, 3, 5, 8, 12, 20)  # classes of a simulated bank, or half of those that there are
ASKED = 50  # pictures of other classes, of each bank
ACCEPTED = 0.1  # share of them that may be taken for a name
LEAST = 0.1  # weight of a cosine in the log-odds, below which it tells nothing

Rows = NDArray[np.int64]
Cosines = NDArray[np.float64]


def fit_by_name(
    features: NDArray[np.float32], labels: Rows, looks: NDArray[np.float32], background: Background
) -> ByName | None:
    """Fits the scale of cosines to what names say, and the threshold of classes of the name alone.

    Two logistic regressions tell, of a cosine, whether two pictures are of one class, and whether a picture is of a name's
    class. The scale makes their log-odds the same. The threshold is the cosine on it that, in simulated banks of names
    alone, nine of ten pictures of other classes stay below: names tell less than pictures, and where they tell little, what is
    not meant must not be taken for them.

    Args:
        features: float32 (n, D) raw query features of pictures of classes that nothing was fitted on.
        labels: int64 (n,), the row of each picture's class in `looks`.
        looks: float32 (C, D), what the text prototype says of each class.
        background: of the bundle.

    Returns:
        None where names or pictures do not tell classes apart, or there are fewer than four classes.
    """
    metric = Metric.of(background, features[:0], labels[:0])
    seen, said = (metric(each).astype(np.float64) for each in (features, looks))
    present = np.unique(labels)
    if len(present) < 4:
        return None
    rng = np.random.default_rng(0)
    to_pictures, same_class = _pairs(seen, labels, seen, labels, rng)
    to_names, of_name = _pairs(seen, labels, said[present], present, rng)
    weight, intercept = _odds(to_pictures, same_class)
    of_names, intercept_of_names = _odds(to_names, of_name)
    if weight < LEAST or of_names < LEAST:
        _log.warning("names do not tell classes apart: classes of the name alone count as others do")
        return None
    scale, offset = of_names / weight, (intercept_of_names - intercept) / weight
    cosines = np.clip(offset + scale * (seen @ said.T), -1, 1)
    foreign = []
    for _ in range(BANKS):
        order = rng.permutation(present)
        known = order[: min(int(rng.choice(WAYS)), len(order) // 2)]
        strangers = rng.permutation(np.flatnonzero(~np.isin(labels, known)))[:ASKED]
        foreign.append(cosines[strangers][:, known].max(axis=1))
    threshold = float(np.quantile(np.concatenate(foreign), 1 - ACCEPTED))
    return ByName(float(offset), float(scale), threshold)


def _pairs(
    ones: Cosines, classes: Rows, others: Cosines, of: Rows, rng: np.random.Generator
) -> tuple[Cosines, NDArray[np.bool_]]:
    """Cosines of some pairs of one class and of two classes, and which is which; nothing is paired with itself."""
    first, second = (rng.integers(len(each), size=50 * PAIRS) for each in (ones, others))
    apart = (first != second) | (ones is not others)
    same = classes[first] == of[second]
    rows = np.concatenate([np.flatnonzero(apart & same)[:PAIRS], np.flatnonzero(apart & ~same)[:PAIRS]])
    return np.asarray((ones[first[rows]] * others[second[rows]]).sum(axis=1)), same[rows]


def _odds(cosines: Cosines, targets: NDArray[np.bool_]) -> tuple[float, float]:
    """Weight and intercept of the log-odds that a cosine gives; both kinds weigh alike."""
    if targets.all() or not targets.any():
        return 0.0, 0.0
    weights, intercepts = logistic.fit(cosines[:, None], targets.astype(np.int64), balanced=True)
    return float(weights[1, 0]), float(intercepts[1])
