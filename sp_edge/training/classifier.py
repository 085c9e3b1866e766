"""Classifies the queries of episodes from features of their support."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from tqdm import trange

from sp_edge.accuracy import Scores
from sp_edge.data.episodes import Episode, Features
from sp_edge.matching.decide import Floats, prototype, unit

# float32 (E, n_way, S, D) support and (E, M, D) query features of E episodes -> int64 (E, M), the way of each query.
Classifier = Callable[[Floats, Floats], NDArray[np.int64]]
_CHUNK = 64  # episodes whose features are gathered at once


def nearest_prototype(support: Floats, query: Floats, compared: Callable[[Floats], Floats] = unit) -> NDArray[np.int64]:
    """The way whose mean support feature has the largest cosine with the query (see `Classifier`).

    Args:
        compared: what prototypes are compared as, of length one: in a metric, queries come as this metric has them.
    """
    prototypes = compared(prototype(support))
    nearest: NDArray[np.int64] = (query @ prototypes.transpose(0, 2, 1)).argmax(axis=2)  # the query's length decides nothing
    return nearest


def logistic_regression(support: Floats, query: Floats) -> NDArray[np.int64]:
    """Fits each episode's support by multinomial logistic regression with C = 1, the paper's choice for five shots.

    Features are scaled to length one first: C would otherwise mean another regularisation for every network.
    """
    from sklearn.linear_model import LogisticRegression

    n_way, shots = support.shape[1:3]
    labels = np.arange(n_way).repeat(shots)
    found = np.empty(query.shape[:2], np.int64)
    for episode, (shown, asked) in enumerate(zip(unit(support), unit(query), strict=True)):
        model = LogisticRegression(C=1.0, max_iter=1000).fit(shown.reshape(n_way * shots, -1), labels)
        found[episode] = model.predict(asked)
    return found


CLASSIFIERS: Mapping[str, Classifier] = {"cosine": nearest_prototype, "lr": logistic_regression}


def episode_scores(
    features: Features, episodes: Episode, classify: Classifier = nearest_prototype, *, progress: bool = False
) -> Scores:
    """The accuracy of every episode: float64 (E,), 0 to 1.

    Since a picture's prompt is that of its own class, features are computed once and shared by all episodes.

    Args:
        features: of every picture; where the support stands in several views, each of them is a shot.
        episodes: a stack of E, from `EpisodeSampler.episodes`.
    """
    count, n_way, _ = episodes.support.shape
    dim = features.query.shape[-1]
    scores = np.empty(count)
    for start in trange(
        0, count, _CHUNK, desc="episodes", unit_scale=_CHUNK, disable=not progress or None, leave=False, mininterval=1.0
    ):
        part = slice(start, start + _CHUNK)
        shown, asked = episodes.support[part], episodes.query[part]
        support = features.support[shown].reshape(len(shown), n_way, -1, dim)
        found = classify(support, features.query[asked.reshape(len(asked), -1)])
        scores[part] = (found.reshape(asked.shape) == np.arange(n_way)[:, None]).mean(axis=(1, 2))
    return scores
