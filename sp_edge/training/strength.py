"""Chooses how strongly prompts act: as much as the validation classes bear without losing a point anywhere."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from sp_edge.data.episodes import Features
from sp_edge.data.pictures import PictureSet
from sp_edge.model import PromptedVisformer
from sp_edge.prompts import PromptTable
from sp_edge.training.evaluate import SHOTS, accuracies, class_prompts, encode

STRENGTHS = tuple(tenths / 10 for tenths in range(11))
TOLERANCE = 0.01
EPISODES = 400


def choose_strength(network: PromptedVisformer, pictures: PictureSet, prompts: PromptTable) -> dict[str, Any] | None:
    """Tries strengths on episodes of the validation classes.

    Of those that, for every number of shots and every group of pictures, lose at most one point against no prompts on
    the same episodes, the one with the highest mean accuracy is chosen.

    Returns:
        'strength': the choice; 'tried': strength -> setting ('1-shot clutter') -> accuracy. None where there are too few
        pictures to tell.
    """
    counts = [np.bincount(pictures.labels[rows], minlength=len(pictures.class_names)) for rows in pictures.groups.values()]
    n_query = int(min(10, min(c.min() for c in counts) - max(SHOTS)))
    n_way = min(5, len(pictures.class_names))
    if n_query < 1 or n_way < 2:
        return None
    network.strength = 1.0
    features = encode(network, pictures.images, class_prompts(network, pictures, prompts))
    tried: dict[float, dict[str, Any]] = {}
    for strength in STRENGTHS:
        mixed = Features(features.query, strength * features.support + (1 - strength) * features.query)
        found = accuracies(mixed, pictures, n_way=n_way, shots=SHOTS, n_query=n_query, episodes=EPISODES, seed=0)
        tried[strength] = {f"{shot} {group}": asdict(a) for shot, groups in found.items() for group, a in groups.items()}
    plain = tried[0.0]
    never_behind = [s for s in STRENGTHS if all(tried[s][k]["mean"] >= plain[k]["mean"] - TOLERANCE for k in plain)]
    best = max(never_behind, key=lambda s: float(np.mean([a["mean"] for a in tried[s].values()])))
    return {"strength": best, "tried": {str(s): figures for s, figures in tried.items()}}
