"""Times what is to be compared in turn, so that what else the machine does falls on all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def medians_ms(actions: Mapping[str, Callable[[], object]], runs: int, *, warm: int = 1) -> dict[str, float]:
    """Median of each, all in turn, after `warm` runs that do not count."""
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(warm + runs):
        for name, action in actions.items():
            started = time.perf_counter()
            action()
            if turn >= warm:
                taken[name].append((time.perf_counter() - started) * 1000)
    return {name: statistics.median(values) for name, values in taken.items()}
