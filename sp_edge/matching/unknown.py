"""The probability that a picture shows a taught class at all, from its distance to the class and those within the bank."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.matching.decide import Floats, class_sums, unit
from sp_edge.matching.metric import Metric

PRIOR_PAIRS = 3  # pairs of classes that the similarity of unrelated pictures weighs beside a bank's pairs
PRIOR_LEFT_OUT = 10  # shots left out at which a bank's own scatter counts half
FLOOR = 0.01  # of mean distances, whose logarithms are taken


@dataclass(frozen=True)
class Level:
    """What a bank's shots say about distances in its world; a distance is 1 - cosine, in the bank's metric.

    Attributes:
        classes: C.
        pairs: of classes, C (C - 1) / 2.
        between: mean similarity of shots to other classes' prototypes; 0 where there is one class.
        left_out: shots of classes with several.
        within: mean similarity of a left-out shot to its class's other shots; 0 where there is none.
    """

    classes: int
    pairs: int
    between: float
    left_out: int
    within: float

    @classmethod
    def of(cls, shots: Floats, owners: NDArray[np.int64], prototypes: Floats, metric: Metric) -> Level:
        """Measures a bank.

        Args:
            shots: float32 (M, D) features of the shots, without prompts.
            owners: int64 (M,) class of each.
            prototypes: float32 (C, D) in the metric, of length one.
            metric: the bank's.
        """
        classes = len(prototypes)
        if classes == 0:
            return cls(0, 0, 0.0, 0, 0.0)
        counts = np.bincount(owners, minlength=classes)
        centred = metric.centred(shots).astype(np.float64)
        seen = metric(shots).astype(np.float64)
        means = class_sums(seen, owners, classes) / counts[:, None]
        # The mean over all pairs of two classes, from two sums: a bank of 100,000 classes has 10 billion pairs.
        own = float((means * prototypes).sum())
        between = (float(means.sum(0) @ prototypes.astype(np.float64).sum(0)) - own) / (classes * (classes - 1) or 1)
        several = counts[owners] > 1
        within = 0.0
        if several.any():
            others = unit((class_sums(centred, owners, classes)[owners] - centred)[several] @ metric.matrix)
            within = float((others * seen[several]).sum(axis=1).mean())
        return cls(classes, classes * (classes - 1) // 2, between if classes > 1 else 0.0, int(several.sum()), within)

    def similarity(self, unrelated: float) -> float:
        """Of pictures of different classes, with that of unrelated ones as much as `PRIOR_PAIRS` pairs: a cosine."""
        return (self.pairs * self.between + PRIOR_PAIRS * unrelated) / (self.pairs + PRIOR_PAIRS)

    def evidence(self, unrelated: float) -> tuple[float, float, float, float]:
        """What a `Calibration` weighs by `between`, `classes`, `evidence` and `left_out`: ln B, -ln C, n and n ln(G / B).

        Args:
            unrelated: mean similarity of pictures of different classes.
        """
        between = math.log(max(1 - self.similarity(unrelated), FLOOR))
        within = math.log(max(1 - self.within, FLOOR))
        share = self.left_out / (self.left_out + PRIOR_LEFT_OUT)
        return between, -math.log(max(self.classes, 1)), share, share * (within - between)


@dataclass(frozen=True)
class ByName:
    """How cosines to classes of the name alone compare with those to classes that were taught from pictures.

    A photograph is less like what its name says than like another photograph. The cosine s to such a class is brought to
    the others' scale, offset + scale s, at which both kinds tell with the same odds that a picture is of the class.

    Attributes:
        offset, scale: of that map; scale is above 0.
        threshold: on the others' scale, from which a class of the name alone is believed: -1 to 1.
    """

    offset: float
    scale: float
    threshold: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.offset) and 0 < self.scale < math.inf and -1 <= self.threshold <= 1):
            raise ValueError("the scale of classes by name is not above 0, or their threshold is no cosine")

    def __call__(self, similarities: Floats) -> Floats:
        """Cosines, float32 (...), on the others' scale: -1 to 1."""
        return np.clip(np.float32(self.offset) + np.float32(self.scale) * similarities, -1, 1)


@dataclass(frozen=True)
class Calibration:
    """The probability that a picture shows a taught class, as export fitted it to simulated banks of validation classes.

    With d = 1 - s the distance to the nearest prototype, B that between the bank's classes, G that of left-out shots to
    their classes, C the number of classes and n = m / (m + 10) for m left-out shots, its log-odds are

        bias - distance ln d + between ln B - classes ln C + n (evidence + left_out ln(G / B)).

    They are 0 at one cosine t, the bank's threshold; so the probability is 1 / (1 + (d / (1 - t))^distance).

    Attributes:
        bias, distance, between, classes, evidence, left_out: the weights; distance is above 0.
        unrelated: mean similarity of pictures of different classes, which B falls back on.
        temperature: tau of the softmax over cosines that divides this probability among the classes.
        by_name: of classes that are known by their name alone; None where export fitted none, and they count as others do.
    """

    bias: float
    distance: float
    between: float
    classes: float
    evidence: float
    left_out: float
    unrelated: float
    temperature: float
    by_name: ByName | None = None

    def __post_init__(self) -> None:
        values = [getattr(self, name) for name in _NUMBERS]
        if not all(math.isfinite(value) for value in values):
            raise ValueError("the calibration's numbers are not finite")
        if not (self.distance > 0 and self.temperature > 0 and -1 <= self.unrelated < 1):
            raise ValueError("the calibration's distance or temperature is not above 0, or unrelated is no cosine")

    def threshold(self, level: Level) -> float:
        """t, the cosine at which a picture of a taught class is as likely as another: -1 to 1."""
        weights = (self.between, self.classes, self.evidence, self.left_out)
        odds = self.bias + sum(w * x for w, x in zip(weights, level.evidence(self.unrelated), strict=True))
        return 1 - min(math.exp(min(odds / self.distance, 1.0)), 2.0)

    def to_json(self) -> dict[str, Any]:
        """As the manifest records it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Calibration:
        """Reads `to_json`.

        Raises:
            KeyError, TypeError, ValueError: a number is missing or impossible.
        """
        found = value.get("by_name")  # which earlier versions did not write
        by_name = None if found is None else ByName(**{key: float(found[key]) for key in ("offset", "scale", "threshold")})
        return cls(**{name: float(value[name]) for name in _NUMBERS}, by_name=by_name)


_NUMBERS = tuple(field.name for field in fields(Calibration) if field.name != "by_name")
