"""Few-shot episodes: N classes, K support and Q query pictures each, and the accuracy on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sp_edge.errors import DataError
from sp_edge.matching import cosine, prototype


@dataclass(frozen=True)
class Episode:
    """One N-way K-shot task, as indices into a picture set.

    Attributes:
        classes: (n_way,) class of each way.
        support: (n_way, n_shot) picture indices.
        query: (n_way, n_query) picture indices, none of them among the support.
    """

    classes: NDArray[np.int64]
    support: NDArray[np.int64]
    query: NDArray[np.int64]


class EpisodeSampler:
    """Episodes by number: episode i is a pure function of (seed, i), so a resumed or divided run sees the same ones.

    Args:
        labels: (n,) class of every picture.
        n_way, n_shot, n_query: classes an episode; support and query pictures a class.

    Raises:
        DataError: fewer classes than ways, or a class with fewer pictures than n_shot + n_query.
    """

    def __init__(self, labels: NDArray[np.int64], *, n_way: int, n_shot: int, n_query: int, seed: int) -> None:
        self.classes = np.unique(labels)
        if len(self.classes) < n_way:
            raise DataError(
                "fewer classes than ways", expected=f"at least {n_way} classes", got=str(len(self.classes)),
                next_step="add classes or lower n_way",
            )  # fmt: skip
        self._members = [np.flatnonzero(labels == c) for c in self.classes]
        fewest = min(len(m) for m in self._members)
        if fewest < n_shot + n_query:
            raise DataError(
                "a class has too few pictures for an episode",
                expected=f"n_shot + n_query = {n_shot + n_query}",
                got=f"{fewest} pictures",
                next_step="add pictures or lower n_query",
            )
        self.n_way, self.n_shot, self.n_query, self.seed = n_way, n_shot, n_query, seed

    def episode(self, index: int) -> Episode:
        """The episode with this number."""
        rng = np.random.default_rng([self.seed, index])
        ways = rng.choice(len(self.classes), self.n_way, replace=False)
        pictures = np.stack([rng.choice(self._members[w], self.n_shot + self.n_query, replace=False) for w in ways])
        return Episode(self.classes[ways], pictures[:, : self.n_shot], pictures[:, self.n_shot :])


@dataclass(frozen=True)
class Features:
    """Every picture of a set, encoded both ways.

    Attributes:
        query: float32 (n, D), without prompt.
        support: float32 (n, D), with the prompt of the picture's class.
    """

    query: NDArray[np.float32]
    support: NDArray[np.float32]

    def only(self, rows: NDArray[np.int64]) -> Features:
        """The features of some pictures."""
        return Features(self.query[rows], self.support[rows])


@dataclass(frozen=True)
class Accuracy:
    """Mean accuracy over episodes, 0 to 1, and the half-width of its 95 % confidence interval."""

    mean: float
    interval: float
    episodes: int

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f} ± {100 * self.interval:.1f}"


def episode_accuracy(
    features: Features, labels: NDArray[np.int64], *, n_way: int, n_shot: int, n_query: int, episodes: int, seed: int
) -> Accuracy:
    """Classifies the queries of many episodes by the nearest prototype in cosine.

    Since a picture's prompt is that of its own class, features are computed once and shared by all episodes.

    Args:
        labels: (n,) class of every picture.

    Raises:
        DataError: as `EpisodeSampler`.
    """
    sampler = EpisodeSampler(labels, n_way=n_way, n_shot=n_shot, n_query=n_query, seed=seed)
    ways = np.arange(n_way)[:, None]
    hits = np.empty(episodes)
    for index in range(episodes):
        episode = sampler.episode(index)
        prototypes = np.stack([prototype(features.support[shots]) for shots in episode.support])
        similarities = cosine(features.query[episode.query.ravel()], prototypes)
        hits[index] = (similarities.argmax(axis=1).reshape(n_way, n_query) == ways).mean()
    spread = hits.std(ddof=1) if episodes > 1 else 0.0
    return Accuracy(float(hits.mean()), float(1.96 * spread / np.sqrt(episodes)), episodes)
