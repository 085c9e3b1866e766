"""What measures recognition: accuracies, their differences and shares of pictures, each with its 95 % interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Z = 1.96  # standard deviations of a 95 % interval
Scores = NDArray[np.float64]  # (episodes,) share of each episode's queries that were classified rightly, 0 to 1


@dataclass(frozen=True)
class Accuracy:
    """Mean accuracy over episodes, 0 to 1, and the half-width of its 95 % confidence interval."""

    mean: float
    interval: float
    episodes: int

    @classmethod
    def of(cls, scores: Scores) -> Accuracy:
        """Of episodes' scores (n,)."""
        return cls(*_mean_and_interval(scores), len(scores))

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f} ± {100 * self.interval:.1f}"


@dataclass(frozen=True)
class Difference:
    """How far one accuracy is ahead of another on the same episodes, -1 to 1, and the half-width of its 95 % interval.

    Episodes differ in difficulty far more than two ways of solving the same one: the interval of the paired differences
    is narrower than the two accuracies' own.
    """

    mean: float
    interval: float
    episodes: int

    @classmethod
    def between(cls, ours: Scores, theirs: Scores) -> Difference:
        """Of scores (n,) on the same n episodes; positive where ours are higher."""
        return cls(*_mean_and_interval(ours - theirs), len(ours))

    @property
    def behind(self) -> bool:
        """Whether the whole interval is below zero."""
        return self.mean + self.interval < 0

    def __str__(self) -> str:
        return f"{100 * self.mean:+.1f} ± {100 * self.interval:.1f}"


def _mean_and_interval(values: Scores) -> tuple[float, float]:
    spread = values.std(ddof=1) if len(values) > 1 else 0.0
    return float(values.mean()), float(Z * spread / np.sqrt(len(values)))


@dataclass(frozen=True)
class Share:
    """How many of some pictures were, for instance, recognized rightly.

    An episode's score is a mean, and nearly normal over many episodes. A picture is right or wrong, often all of a few are
    right, and mean and spread would then claim certainty: the interval is the one of Wilson (JASA 22, 1927).

    Attributes:
        count: of the pictures that were.
        total: of all the pictures, at least 1.
    """

    count: int
    total: int

    @property
    def value(self) -> float:
        """0 to 1."""
        return self.count / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Both ends of the 95 % interval, 0 to 1."""
        n, p = self.total, self.value
        centre = p + Z**2 / (2 * n)
        spread = Z * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
        low, high = ((centre + side) / (1 + Z**2 / n) for side in (-spread, spread))
        return max(min(low, p), 0.0), min(max(high, p), 1.0)  # as it is but for rounding

    def to_json(self) -> dict[str, Any]:
        """Counts, share and interval."""
        low, high = self.interval
        return {"count": self.count, "total": self.total, "share": self.value, "interval": [low, high]}

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
