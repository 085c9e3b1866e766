"""Chooses the most different of many pictures."""

from __future__ import annotations

import numpy as np

from sp_edge.matching.decide import Floats, unit


def different(features: Floats, count: int, known: Floats | None = None) -> list[int]:
    """Which pictures are the most different: greedy k-centre (Gonzalez, Theoretical Computer Science 38, 1985).

    Args:
        features: float32 (N, D) of the pictures.
        count: how many to choose at most.
        known: float32 (M, D) of pictures that are there already, from which the chosen differ, too.

    Returns:
        Places in `features`, the first chosen first: without known pictures the one nearest to the mean of all; then each
        time the one farthest, by cosine, from those that there are.
    """
    if not len(features):
        return []
    seen = unit(features)
    if known is not None and len(known):
        near = (seen @ unit(known).T).max(axis=1)
        chosen: list[int] = []
    else:
        first = int((seen @ unit(seen.mean(axis=0))).argmax())
        near, chosen = seen @ seen[first], [first]
    near = near.astype(np.float64)
    near[chosen] = np.inf
    while len(chosen) < min(count, len(seen)):
        farthest = int(near.argmin())
        chosen.append(farthest)
        near = np.maximum(near, seen @ seen[farthest])
        near[chosen] = np.inf
    return chosen
