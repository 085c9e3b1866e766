"""Few-shot episodes: N classes, K support and Q query pictures each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sp_edge.errors import DataError


@dataclass(frozen=True, eq=False)
class Episode:
    """One N-way K-shot task, or a stack of E of them with E as the first axis, as indices into a picture set.

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

    def episodes(self, count: int) -> Episode:
        """The first `count` episodes, stacked."""
        parts = [self.episode(index) for index in range(count)]
        classes, support, query = (np.stack([getattr(e, part) for e in parts]) for part in ("classes", "support", "query"))
        return Episode(classes, support, query)


@dataclass(frozen=True, eq=False)
class Features:
    """Every picture of a set, encoded both ways.

    Attributes:
        query: float32 (n, D), without prompt.
        support: float32 (n, D), with the prompt of the picture's class; (n, V, D) where it stands in V views.
    """

    query: NDArray[np.float32]
    support: NDArray[np.float32]

    def only(self, rows: NDArray[np.int64]) -> Features:
        """The features of some pictures: rows int64 (m,)."""
        return Features(self.query[rows], self.support[rows])

    def mixed(self, strength: float | NDArray[np.float64]) -> Features:
        """Weaker prompts: support features s f(x | g(y)) + (1 - s) f(x) from prompted ones, f(x | g(y)).

        Args:
            strength: s, 0 to 1, of all pictures, or float64 (n,) of each.
        """
        if np.all(strength == np.float64(1)):
            return self
        s = np.asarray(strength, np.float32).reshape(-1, *[1] * (self.support.ndim - 1))
        return Features(self.query, s * self.support + (1 - s) * self.query)
