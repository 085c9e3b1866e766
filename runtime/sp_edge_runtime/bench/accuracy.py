"""Measures few-shot episodes on labeled pictures as a device decides them: through banks, in the bundle's metric."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sp_edge.bank.bank import Bank
from sp_edge.errors import BackendError, DataError, ImageError
from sp_edge.matching.metric import Metric
from sp_edge_runtime.bench.figures import Figures
from sp_edge_runtime.features import Features
from sp_edge_runtime.naming import Prompt
from sp_edge_runtime.recognizer import Recognizer

_log = logging.getLogger(__name__)
WAYS, QUERIES = 5, 5  # of an episode of one shot; fewer where there are fewer classes or pictures
PER_CLASS = 20  # pictures that are taken of a class at most
LEAST, MOST = 30, 600  # episodes: fewer say nothing, more say no more
SEED = 0


class Labelled(Protocol):
    """Pictures whose classes are known, as `sp_edge.data.folder.labelled` lists them."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the classes."""
        ...

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,), of each picture an index into the names."""
        ...

    @property
    def read(self) -> Callable[[int], NDArray[np.uint8]]:
        """Number of a picture -> uint8 (H, W, 3) RGB; raises ImageError where it cannot."""
        ...


class Episode(Protocol):
    """As `sp_edge.data.episodes.Episode`."""

    @property
    def classes(self) -> NDArray[np.int64]:
        """(n_way,) class of each way."""
        ...

    @property
    def support(self) -> NDArray[np.int64]:
        """(n_way, n_shot) numbers of pictures."""
        ...

    @property
    def query(self) -> NDArray[np.int64]:
        """(n_way, n_query) numbers of pictures."""
        ...


class Draw(Protocol):
    """As `sp_edge.data.episodes.EpisodeSampler`."""

    def episode(self, index: int, /) -> Episode:
        """The episode with this number."""
        ...


@dataclass(eq=False)
class Encoded:
    """What one backend made of the pictures so far: features of each, with its class's prompt, and without.

    Where the engine failed, `error` says why, and nothing more is asked of it.
    """

    support: list[NDArray[np.float32]] = field(default_factory=list)
    plain: list[NDArray[np.float32]] = field(default_factory=list)
    query: list[NDArray[np.float32]] = field(default_factory=list)
    error: BackendError | None = None


class Trial:
    """The pictures of some classes, class by class, and the episodes that are drawn of them.

    Args:
        pictures: whose classes are known; at most 20 of each count. Where there are enough classes with pictures for a whole
            episode, no smaller ones are drawn.
        sampler: makes episodes of labels, as `EpisodeSampler`.

    Raises:
        DataError: fewer than two classes that have two pictures.
    """

    def __init__(self, pictures: Labelled, sampler: Callable[..., Draw]) -> None:
        self._pictures, self._sampler = pictures, sampler
        rng = np.random.default_rng(SEED)
        members = [np.flatnonzero(pictures.labels == label) for label in range(len(pictures.class_names))]
        chosen = [rng.permutation(rows)[:PER_CLASS] for rows in members]
        enough = {label: rows.tolist() for label, rows in enumerate(chosen) if len(rows) > 1}
        full = {label: rows for label, rows in enough.items() if len(rows) > QUERIES}
        self._rows = full if len(full) >= WAYS else enough
        if len(self._rows) < 2:
            raise DataError(
                "episodes need classes to choose among",
                expected="two folders or more with two pictures each",
                got=f"{len(self._rows)} such folders",
            )
        self.order = rng.permutation(list(self._rows)).tolist()
        self._prompts: dict[int, Prompt] = {}
        self._labels: list[int] = []

    def prepare(self, recognizer: Recognizer) -> None:
        """Finds the prompt of each class.

        Raises:
            PromptError: the bundle knows none for a name.
        """
        self._prompts = {label: recognizer.prompt(self._pictures.class_names[label]) for label in self.order}

    @property
    def classes(self) -> int:
        """How many were encoded so far."""
        return len(set(self._labels))

    def encode(self, label: int, recognizers: Sequence[Recognizer], encoded: Sequence[Encoded]) -> None:
        """Puts a class's pictures through each backend. Those that cannot be read are named in the log and left out."""
        preprocess = recognizers[0].bundle.manifest.preprocess
        shown = [preprocess(image) for row in self._rows[label] if (image := self._read(row)) is not None]
        if len(shown) < 2:
            return
        for recognizer, into in zip(recognizers, encoded, strict=True):
            if into.error:
                continue
            features = Features(recognizer.bundle, recognizer.backend)
            try:
                shots = features.shots(np.stack(shown), self._prompts[label].vector)
                into.query.append(features.queries(shown))
            except BackendError as error:
                into.error = error
                continue
            into.support.append(shots.support)
            into.plain.append(shots.query)
        self._labels += [label] * len(shown)

    def _read(self, row: int) -> NDArray[np.uint8] | None:
        try:
            return self._pictures.read(row)
        except ImageError as error:
            _log.warning(f"left out: {error.what}: {error.got}")
            return None

    def episodes(self) -> Draw:
        """Of the classes that were encoded so far."""
        labels = np.array(self._labels)
        fewest = int(np.unique(labels, return_counts=True)[1].min())
        return self._sampler(labels, n_way=min(WAYS, self.classes), n_shot=1, n_query=min(QUERIES, fewest - 1), seed=SEED)

    def judge(self, recognizer: Recognizer, encoded: Encoded) -> Judge:
        """What scores episodes on a backend's features."""
        return Judge(self, recognizer, *(np.concatenate(part) for part in (encoded.support, encoded.plain, encoded.query)))

    def prompt(self, label: int) -> Prompt:
        """Of a class."""
        return self._prompts[label]


class Judge:
    """One backend's features of the pictures: float32 (n, D) with prompts, and without by both graphs."""

    def __init__(
        self,
        trial: Trial,
        recognizer: Recognizer,
        support: NDArray[np.float32],
        plain: NDArray[np.float32],
        query: NDArray[np.float32],
    ) -> None:
        self._trial, self._recognizer, self._support, self._plain = trial, recognizer, support, plain
        self._empty = Bank.empty(recognizer.bundle)
        # One shot a class says nothing of how pictures of a class vary: every such bank has this metric.
        ways = np.arange(2)
        self._metric = Metric.of(recognizer.bundle.background(), plain[ways], ways)
        self._query = self._metric(query)

    def score(self, episode: Episode) -> float:
        """Share of the episode's queries, 0 to 1, whose own class is the nearest; none is called unknown."""
        bank = self._empty
        for way, (label, rows) in enumerate(zip(episode.classes.tolist(), episode.support, strict=True)):
            prompt = self._trial.prompt(label)
            familiarity = 0.0 if prompt.reading.unreadable else self._recognizer.familiarity(prompt.vector)
            shots = (self._support[rows], self._plain[rows], [b""] * len(rows))
            bank = bank.add(f"way {way}", prompt.vector, *shots, familiarity=familiarity)
        nearest = (self._query[episode.query] @ self._metric(bank.prototypes).T).argmax(axis=2)
        return float((nearest == np.arange(len(nearest))[:, None]).mean())


def judged(
    trial: Trial,
    recognizers: Sequence[Recognizer],
    figures: Sequence[Figures],
    in_time: Callable[[], bool],
    tell: Callable[[], None],
) -> None:
    """Encodes and scores until the time is up: every backend the same pictures and the same episodes, in turn.

    Args:
        trial: prepared.
        recognizers, figures: of each backend.
        in_time: whether there is time for more; asked after what is needed at least, the classes of one episode and 30
            episodes.
        tell: is called at each step.
    """
    encoded = [Encoded() for _ in recognizers]
    for label in trial.order:
        if trial.classes >= WAYS and not in_time():
            break
        tell()
        trial.encode(label, recognizers, encoded)
    if trial.classes < 2:
        for into in figures:
            into.failed.append("no accuracy: the pictures cannot be read")
        return
    draw = trial.episodes()
    judges: list[tuple[Judge, Figures]] = []
    for recognizer, made, into in zip(recognizers, encoded, figures, strict=True):
        if made.error:
            into.fail(made.error)
        else:
            judges.append((trial.judge(recognizer, made), into))
    for number in range(MOST):
        if number >= LEAST and not in_time():
            break
        tell()
        episode = draw.episode(number)
        for judge, into in judges:
            into.scores.append(judge.score(episode))
