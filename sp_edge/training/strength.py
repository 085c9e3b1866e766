"""Chooses how strongly prompts act: what serves the validation classes best without leaving any setting behind."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from sp_edge.data.episodes import Accuracy, Difference
from sp_edge.data.pictures import PictureSet
from sp_edge.model import PromptedNetwork
from sp_edge.prompts import PromptTable
from sp_edge.settings import EvalSettings
from sp_edge.training.evaluate import class_prompts, encode, sample, score

STRENGTHS = tuple(tenths / 10 for tenths in range(11))
TOLERANCE = 0.005
EPISODES = 1000


def choose_strength(
    network: PromptedNetwork, pictures: PictureSet, prompts: PromptTable, protocol: EvalSettings
) -> dict[str, Any] | None:
    """Tries strengths on episodes of the validation classes, with the nearest prototype.

    A strength is safe if, in every setting (number of shots and group of pictures), the 95 % interval of the paired
    difference to no prompts reaches zero, so that prompts are not significantly behind, and stays above minus
    `TOLERANCE`, so that what they might cost is small. Of the safe ones, the one with the highest mean accuracy over all
    settings is chosen. Strength 0 is always safe.

    Args:
        protocol: ways, shots and queries of the episodes; fewer ways and queries where the pictures do not suffice.

    Returns:
        'strength': the choice; 'difference': its mean difference over the settings, with its interval; 'protocol'; and
        'tried': strength -> setting ('1-shot, clutter') -> accuracy and difference. None where there are too few pictures
        to tell.
    """
    counts = [np.unique(pictures.labels[rows], return_counts=True)[1] for rows in pictures.groups.values()]
    n_query = int(min(protocol.n_query, min(each.min() for each in counts) - max(protocol.n_shot)))
    n_way = min(protocol.n_way, *map(len, counts))
    if n_query < 1 or n_way < 2:
        return None
    protocol = dataclasses.replace(protocol, n_way=n_way, n_query=n_query, episodes=EPISODES, classifier="cosine")
    episodes = sample(pictures, protocol, seed=0)
    features = encode(network, pictures.images, class_prompts(network, pictures, prompts), strength=1.0)
    tried = {s: score(features.mixed(s), pictures, episodes, protocol) for s in STRENGTHS}
    plain = tried[0.0]
    gains = {s: {setting: Difference.between(row[setting], plain[setting]) for setting in plain} for s, row in tried.items()}
    safe = [s for s in STRENGTHS if all(not g.behind and g.mean - g.interval > -TOLERANCE for g in gains[s].values())]
    best = max(safe, key=lambda s: np.mean([gain.mean for gain in gains[s].values()]))
    overall = Difference.between(np.mean(list(tried[best].values()), axis=0), np.mean(list(plain.values()), axis=0))
    return {
        "strength": best,
        "difference": dataclasses.asdict(overall),
        "protocol": dataclasses.asdict(protocol),
        "tried": {
            str(s): {
                f"{n_shot}-shot, {group}": {
                    "accuracy": dataclasses.asdict(Accuracy.of(scores)),
                    "difference": dataclasses.asdict(gains[s][n_shot, group]),
                }
                for (n_shot, group), scores in row.items()
            }
            for s, row in tried.items()
        },
    }
