"""How much in a picture looks like its class's name, from the scores that a support graph may give of each place."""

from __future__ import annotations

import numpy as np

from sp_edge.matching.decide import Floats

HIGHEST = 5  # places whose mean score is a picture's evidence
LEAST = 0.5  # evidence below which nothing in the picture looks like the name; few pictures of the named thing have less


def evidence(scores: Floats) -> Floats:
    """The mean of the five highest scores: float32 (..., h, w) -> (...).

    A score says how much more a place looks like the name than places of unrelated photographs do, in standard deviations.
    """
    flat = scores.reshape(*scores.shape[:-2], -1)
    highest = np.partition(flat, -min(HIGHEST, flat.shape[-1]), axis=-1)[..., -HIGHEST:]
    return np.asarray(highest.mean(axis=-1, dtype=np.float64), dtype=np.float32)
