"""How good a bank is, as far as its own shots can tell: leave-one-out accuracy, classes that will be confused, what to add."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.accuracy import Share
from sp_edge.bank.bank import Bank
from sp_edge.bank.head import Head
from sp_edge.matching.decide import Floats, class_sums, unit

CONFUSED = 0.2  # probability from which a pair of classes is told
SHOWN = 10  # pairs and shots at most
BLOCK = 512  # shots whose cosines to all classes are held at once


@dataclass(frozen=True)
class Confusion:
    """A class whose pictures may be taken for another's.

    Attributes:
        name, other: of the classes.
        probability: of that, between these two alone, 0 to 1.
    """

    name: str
    other: str
    probability: float


@dataclass(frozen=True)
class Stray:
    """A shot that is unlike the others of its class.

    Attributes:
        name: of its class.
        shot: its number there, from 0.
        like: the class that it is recognized as without itself; 'unknown' where that is none.
        similarity: to its own class's other shots, a cosine.
    """

    name: str
    shot: int
    like: str
    similarity: float


@dataclass(frozen=True)
class Report:
    """What a bank's shots say about it.

    Attributes:
        left_out: shots of classes with several: each was judged by a prototype of the others.
        accuracy: share of them that are nearest to their own class, 0 to 1; None if there are none.
        believed: share of them that reach their class's threshold.
        confusions: the likeliest first.
        strays: the least similar first.
        advice: sentences.
    """

    left_out: int
    accuracy: float | None
    believed: float | None
    confusions: tuple[Confusion, ...]
    strays: tuple[Stray, ...]
    advice: tuple[str, ...]

    def lines(self) -> list[str]:
        """For a terminal."""
        found = []
        if self.accuracy is not None and self.believed is not None:
            right, sure = f"{100 * self.accuracy:.0f} %", f"{100 * self.believed:.0f} %"
            found.append(
                f"{self.left_out} shots, each tested without itself: {right} are nearest to their class, {sure} are believed"
            )
        return found + [f"advice: {sentence}" for sentence in self.advice]

    def to_json(self) -> dict[str, Any]:
        """As `--json` writes it."""
        return asdict(self)


def review(bank: Bank, head: Head) -> Report:
    """Judges a bank by its own shots.

    A shot is left out of its class's prototype, and encoded without the prompt, as a picture to recognize is. It stays in the
    metric, which many shots share, so that figures of a small bank are a little too good. Of classes with one shot nothing can
    be left out: they are taken to be as compact as the bank's others or, where all have one, as its threshold says.

    Args:
        bank: the taught classes.
        head: made from it.
    """
    if not bank.names:
        return Report(0, None, None, (), (), ("teach a class: sp-edge enroll --name NAME PICTURES",))
    counts = np.bincount(bank.owners)
    several = counts[bank.owners] > 1
    own = _own(bank, head, counts)
    compact = float(own[several].mean()) if several.any() else (1 + float(head.thresholds[0])) / 2
    own = np.where(several, own, compact)
    temperature = head.calibration.temperature
    rivals = np.zeros((len(counts), len(counts)), np.float32) if len(counts) <= BLOCK else None
    nearest, highest = np.zeros(len(own), np.int64), np.full(len(own), -1.0)
    for start in range(0, len(own), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(own)))
        cosines = head.similarities(bank.query[rows])
        cosines[np.arange(len(rows)), bank.owners[rows]] = -1
        if len(counts) > 1:
            nearest[rows], highest[rows] = cosines.argmax(axis=1), cosines.max(axis=1)
        if rivals is not None:
            np.add.at(rivals, bank.owners[rows], 1 / (1 + np.exp((own[rows, None] - cosines) / temperature)))
    right = own > highest
    reached = own >= head.thresholds[bank.owners]
    confusions = _confusions(bank, counts, rivals, nearest, 1 / (1 + np.exp((own - highest) / temperature)))
    strays = _strays(bank, own, several & ~(right & reached), np.where(right, -1, nearest))
    accuracy = float(right[several].mean()) if several.any() else None
    believed = float(reached[several].mean()) if several.any() else None
    return Report(int(several.sum()), accuracy, believed, confusions, strays, _advice(bank, counts, confusions, strays))


def left_out(bank: Bank) -> Share | None:
    """How many shots are nearest to their own class by cosine, each left out of its prototype; None if every class has one.

    It needs no bundle, so that banks of two bundles can be compared; `review` judges in the metric that recognizes.
    """
    counts = np.bincount(bank.owners, minlength=len(bank.names))
    rows = np.flatnonzero(counts[bank.owners] > 1)
    if not len(rows):
        return None
    sums = class_sums(bank.examples, bank.owners, len(counts))
    right = 0
    for start in range(0, len(rows), BLOCK):
        some = rows[start : start + BLOCK]
        owners = bank.owners[some]
        seen = unit(bank.query[some])
        own = (seen * unit(sums[owners] - bank.examples[some])).sum(axis=1)
        others = seen @ bank.prototypes.T
        others[np.arange(len(some)), owners] = -np.inf
        right += int((own > others.max(axis=1)).sum())
    return Share(right, len(rows))


def _own(bank: Bank, head: Head, counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cosine of each shot, in the metric, to its class's prototype without it: float64 (M,); 0 where it is the only one."""
    sums = class_sums(bank.examples, bank.owners, len(counts))
    others: Floats = head.metric(sums[bank.owners] - bank.examples)
    seen: Floats = head.metric(bank.query)
    return np.asarray((others * seen).sum(axis=1), np.float64)


def _confusions(
    bank: Bank,
    counts: NDArray[np.int64],
    rivals: Floats | None,
    nearest: NDArray[np.int64],
    chance: NDArray[np.float64],
) -> tuple[Confusion, ...]:
    """The likeliest pairs; of a large bank only each shot's nearest other class is looked at."""
    if len(counts) < 2:
        return ()
    if rivals is None:
        pairs = [(int(a), int(b), float(p)) for a, b, p in zip(bank.owners, nearest, chance, strict=True)]
    else:
        means = rivals / counts[:, None]
        pairs = [(int(a), int(b), float(means[a, b])) for a, b in np.argwhere(means >= CONFUSED) if a != b]
    best: dict[tuple[int, int], float] = {}
    for a, b, probability in pairs:
        best[a, b] = max(probability, best.get((a, b), 0.0))
    ranked = sorted(best.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]
    return tuple(Confusion(bank.names[a], bank.names[b], p) for (a, b), p in ranked if p >= CONFUSED)


def _strays(bank: Bank, own: NDArray[np.float64], which: NDArray[np.bool_], like: NDArray[np.int64]) -> tuple[Stray, ...]:
    rows = np.flatnonzero(which)
    rows = rows[np.argsort(own[rows], kind="stable")][:SHOWN]
    found = []
    for row in rows.tolist():
        owner = int(bank.owners[row])
        number = int((bank.owners[:row] == owner).sum())
        found.append(Stray(bank.names[owner], number, "unknown" if like[row] < 0 else bank.names[like[row]], float(own[row])))
    return tuple(found)


def _advice(
    bank: Bank, counts: NDArray[np.int64], confusions: tuple[Confusion, ...], strays: tuple[Stray, ...]
) -> tuple[str, ...]:
    lines = [
        f"add a picture of '{pair.name}' without '{pair.other}' in it: the class may be taken for '{pair.other}' "
        f"({100 * pair.probability:.0f} %)"
        for pair in confusions[:3]
    ]
    lines += [
        f"look at shot {stray.shot} of '{stray.name}': it is not like the others of its class"
        + ("" if stray.like == "unknown" else f", but like '{stray.like}'")
        for stray in strays[:3]
    ]
    told = {pair.name for pair in confusions[:3]}
    single = [name for name, count in zip(bank.names, counts.tolist(), strict=True) if count == 1 and name not in told]
    if single:
        named = ", ".join(f"'{name}'" for name in single[:3]) + (f" and {len(single) - 3} more" if len(single) > 3 else "")
        lines.append(f"add a second picture of {named}: one picture does not show how much a class varies")
    return tuple(lines)
