"""Times what is to be compared in turn, so that what else the machine does falls on all alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """What several runs took, in whatever unit they were measured.

    Attributes:
        median: of all runs.
        low, high: the quartiles; half of the runs lie between them.
        p95: 95th percentile.
        runs: how many there were, 1 or more.
    """

    median: float
    low: float
    high: float
    p95: float
    runs: int

    @classmethod
    def of(cls, taken: Sequence[float]) -> Spread | None:
        """Of runs; None where there were none."""
        if not taken:
            return None
        low, median, high, p95 = np.percentile(taken, [25, 50, 75, 95]).tolist()
        return cls(median, low, high, p95, len(taken))


def taken_ms(action: Callable[[], object], runs: int, *, warm: int = 0, longest_s: float = math.inf) -> list[float]:
    """Milliseconds of each of so many runs, one after the other, after `warm` runs that do not count.

    Args:
        longest_s: no run begins after this many seconds, but for the first.
    """
    for _ in range(warm):
        action()
    taken: list[float] = []
    while len(taken) < runs and sum(taken) < 1000 * longest_s:
        started = time.perf_counter()
        action()
        taken.append((time.perf_counter() - started) * 1000)
    return taken


def medians_ms(actions: Mapping[str, Callable[[], object]], runs: int, *, warm: int = 1) -> dict[str, float]:
    """Median of each, all in turn, a run at a time, after `warm` turns that do not count."""
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(warm + runs):
        for name, action in actions.items():
            if turn < warm:
                action()
            else:
                taken[name] += taken_ms(action, 1)
    return {name: float(np.median(values)) for name, values in taken.items()}
