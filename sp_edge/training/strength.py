"""Chooses how strongly prompts act: what serves the validation classes best without leaving any setting behind."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sp_edge.accuracy import Accuracy, Difference
from sp_edge.data.episodes import Features
from sp_edge.data.pictures import PictureSet
from sp_edge.matching.decide import unit
from sp_edge.matching.metric import Background, Metric
from sp_edge.model import PromptedNetwork, PromptedPlaces
from sp_edge.prompts.table import PromptTable
from sp_edge.settings.settings import EvalSettings
from sp_edge.training.classifier import nearest_prototype
from sp_edge.training.evaluate import class_prompts, encode, sample, score, title

STRENGTHS = tuple(tenths / 10 for tenths in range(11))
SHARES = (0.0, 0.2, 0.5, 1.0)
TOLERANCE = 0.005
EPISODES = 1000

Pair = tuple[float, float]  # strength, and share of the text prototype


def choose_strength(
    network: PromptedNetwork,
    pictures: PictureSet,
    prompts: PromptTable,
    protocol: EvalSettings,
    background: Background | None = None,
) -> dict[str, Any] | None:
    """Tries strengths, and shares of the text prototype, on episodes of the validation classes with the nearest prototype.

    A pair of them is safe if, in every setting (number of shots and group of pictures), the 95 % interval of the paired
    difference to no prompts reaches zero, so that prompts are not significantly behind, and stays above minus
    `TOLERANCE`, so that what they might cost is small. Of the safe ones, the one with the highest mean accuracy over all
    settings is chosen. Strength 0 is always safe. Text alone, which no picture could change, is not tried. What is chosen is
    the strength of a familiar prompt, and others get less of it, here as on a device (`sp_edge.prompts.familiarity`).

    Args:
        protocol: ways, shots and queries of the episodes; fewer ways and queries where the pictures do not suffice.
        background: of the base classes. Cosines are taken in its metric, as a device takes them: what names gain under plain
            cosines, it may gain without them. None: plain cosines, as in the paper.

    Returns:
        'strength' and 'text_share': the choice; 'difference': its mean difference over the settings, with its interval;
        'protocol'; and 'tried': for each pair its settings ('1-shot, clutter') with accuracy and difference. None where
        there are too few pictures to tell.
    """
    counts = [np.unique(pictures.labels[rows], return_counts=True)[1] for rows in pictures.groups.values()]
    n_query = int(min(protocol.n_query, min(each.min() for each in counts) - max(protocol.n_shot)))
    n_way = min(protocol.n_way, *map(len, counts))
    if n_query < 1 or n_way < 2:
        return None
    protocol = dataclasses.replace(protocol, n_way=n_way, n_query=n_query, episodes=EPISODES, classifier="cosine")
    episodes = sample(pictures, protocol, seed=0)
    vectors = class_prompts(network, pictures, prompts)
    shown = shown_by_share(network, pictures, vectors)
    familiar = np.ones(len(pictures)) if vectors is None else network.familiarity_of(vectors)
    pairs = [(s, w) for w in shown for s in STRENGTHS if (s or not w) and s * w < 1]
    compared = unit if background is None else Metric(background.mean, background.whitening)
    query, classify = compared(shown[0.0].query), partial(nearest_prototype, compared=compared)
    tried = {(s, w): score(query, shown[w], s * familiar, pictures, episodes, classify) for s, w in pairs}
    plain = tried[0.0, 0.0]
    gains = {
        pair: {setting: Difference.between(row[setting], plain[setting]) for setting in plain} for pair, row in tried.items()
    }
    best = best_of(gains)
    overall = Difference.between(np.mean(list(tried[best].values()), axis=0), np.mean(list(plain.values()), axis=0))
    return {
        "strength": best[0],
        "text_share": best[1],
        "difference": dataclasses.asdict(overall),
        "protocol": dataclasses.asdict(protocol),
        "tried": [
            {
                "strength": pair[0],
                "text_share": pair[1],
                "settings": {
                    title(setting): {
                        "accuracy": dataclasses.asdict(Accuracy.of(scores)),
                        "difference": dataclasses.asdict(gains[pair][setting]),
                    }
                    for setting, scores in row.items()
                },
            }
            for pair, row in tried.items()
        ],
    }


def best_of(gains: Mapping[Pair, Mapping[Any, Difference]]) -> Pair:
    """The pair that `choose_strength` chooses.

    Args:
        gains: strength and share of the text prototype -> setting -> difference to no prompts; one at least is safe.
    """
    safe = [
        pair
        for pair, row in gains.items()
        if all(not gain.behind and gain.mean - gain.interval > -TOLERANCE for gain in row.values())
    ]
    return max(safe, key=lambda pair: np.mean([gain.mean for gain in gains[pair].values()]))


@torch.no_grad()
def shown_by_share(
    network: PromptedNetwork, pictures: PictureSet, prompts: NDArray[np.float32] | None
) -> dict[float, Features]:
    """Features at full strength, for each of `SHARES` of the text prototype, or without one for 0 alone.

    Args:
        prompts: float32 (n, T), each picture's class prompt.
    """
    own = network.text_share
    try:
        network.text_share = 0.0
        features = encode(network, pictures.images, prompts, strength=1.0)
        if network.text_prototype is None or prompts is None:
            return {0.0: features}
        if isinstance(network, PromptedPlaces):  # whose share depends on the picture, too
            network.text_share = 1.0
            text = encode(network, pictures.images, prompts, strength=1.0).support
        else:
            device = next(network.parameters()).device
            text = network.text_prototype(torch.from_numpy(prompts).to(device)).cpu().numpy()
    finally:
        network.text_share = own
    return {w: Features(features.query, np.float32(1 - w) * features.support + np.float32(w) * text) for w in SHARES}
