"""How well a bank recognizes pictures whose classes are known, and what it takes for what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from sp_edge.accuracy import Share
from sp_edge.columns import shortened
from sp_edge.errors import DataError
from sp_edge.matching.decide import Match
from sp_edge.matching.label import UNKNOWN


@dataclass(frozen=True)
class Taught:
    """What became of the pictures of a class that the bank knows.

    Attributes:
        name: of the class.
        pictures: how many there were.
        right: those labelled so.
        taken: those taken for another class.
        unknown: those called 'unknown'.
        nearest: those of the unknown whose best class was the right one, which failed by the threshold alone.
    """

    name: str
    pictures: int
    right: int
    taken: int
    unknown: int
    nearest: int


@dataclass(frozen=True)
class Foreign:
    """How many pictures of a class that the bank does not know were accepted, which is taken for one that it does."""

    name: str
    pictures: int
    accepted: int


@dataclass(frozen=True)
class Mistaken:
    """How many pictures of a class were taken for another."""

    name: str
    other: str
    pictures: int


@dataclass(frozen=True)
class Trial:
    """What was found.

    Attributes:
        taught: a row for each class of the bank that had pictures.
        foreign: a row for each other class.
        mistaken: what was taken for what, the most frequent first, pictures of foreign classes among them.
        untried: classes of the bank without a picture.
    """

    taught: tuple[Taught, ...]
    foreign: tuple[Foreign, ...]
    mistaken: tuple[Mistaken, ...]
    untried: tuple[str, ...]

    @property
    def accuracy(self) -> Share:
        """Pictures of taught classes that were labelled rightly; 'unknown' is wrong."""
        return Share(sum(row.right for row in self.taught), sum(row.pictures for row in self.taught))

    @property
    def unknown(self) -> Share:
        """Pictures of taught classes that were called 'unknown'."""
        return Share(sum(row.unknown for row in self.taught), self.accuracy.total)

    @property
    def accepted(self) -> Share | None:
        """Pictures of foreign classes that were taken for a taught one; None if there were no such pictures."""
        pictures = sum(row.pictures for row in self.foreign)
        return Share(sum(row.accepted for row in self.foreign), pictures) if pictures else None

    def to_json(self) -> dict[str, Any]:
        """As `--json` writes it."""
        return {
            "accuracy": self.accuracy.to_json(),
            "unknown": self.unknown.to_json(),
            "accepted": None if self.accepted is None else self.accepted.to_json(),
            **asdict(self),
        }


def trial(seen: Iterable[tuple[str, Match]], classes: Collection[str]) -> Trial:
    """Counts what pictures were recognized as.

    Args:
        seen: of each picture its class and what it was recognized as.
        classes: those of the bank.

    Raises:
        DataError: no picture is of a taught class.
    """
    pictures: Counter[str] = Counter()
    labels: Counter[tuple[str, str]] = Counter()  # of a class's pictures
    nearest: Counter[str] = Counter()
    for name, found in seen:
        pictures[name] += 1
        labels[name, found.label] += 1
        nearest[name] += found.unknown and found.name == name
    check_taught(pictures, classes)
    taught, foreign = [], []
    for name, count in pictures.items():
        right, unknown = labels[name, name], labels[name, UNKNOWN]
        if name in classes:
            taught.append(Taught(name, count, right, count - right - unknown, unknown, nearest[name]))
        else:
            foreign.append(Foreign(name, count, count - unknown))
    pairs = [Mistaken(name, label, count) for (name, label), count in labels.items() if label not in (name, UNKNOWN)]
    return Trial(
        tuple(taught),
        tuple(foreign),
        tuple(sorted(pairs, key=lambda pair: (-pair.pictures, pair.name, pair.other))),
        tuple(name for name in classes if name not in pictures),
    )


def check_taught(names: Iterable[str], classes: Collection[str]) -> None:
    """Refuses pictures none of which is of a taught class: there would be no accuracy.

    Raises:
        DataError: so it is.
    """
    names = list(names)
    if not any(name in classes for name in names):
        raise DataError(
            "no picture is of a taught class",
            expected=f"folders called as the classes are: {shortened(classes) or 'but none was taught'}",
            got=shortened(names) or "none",
            next_step="rename the folders, or teach their classes: sp-edge enroll --name NAME PICTURES",
        )
