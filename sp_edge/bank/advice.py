"""How good a bank is, as far as its own shots can tell: leave-one-out accuracy, classes that will be confused, what to add."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.accuracy import Share
from sp_edge.bank.again import Missed, missed
from sp_edge.bank.bank import Bank
from sp_edge.bank.head import Head
from sp_edge.columns import shortened
from sp_edge.matching.decide import Floats, class_sums, share, unit
from sp_edge.prompts.reading import same_vectors
from sp_edge.prompts.spelling import spelled_alike

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
        missed: shots that are not recognized when they are shown again; the least similar first.
        names: how many of the shots left out are nearest to their own class with the classes' names, and how many without
            them; None where no name counts, or no shot can be left out.
    """

    left_out: int
    accuracy: float | None
    believed: float | None
    confusions: tuple[Confusion, ...]
    strays: tuple[Stray, ...]
    advice: tuple[str, ...]
    missed: tuple[Missed, ...] = ()
    names: tuple[Share, Share] | None = None

    @property
    def right(self) -> Share | None:
        """Of the shots left out, those that are nearest to their own class; None if there are none."""
        return None if self.accuracy is None else Share(round(self.accuracy * self.left_out), self.left_out)

    def lines(self) -> list[str]:
        """For a terminal."""
        found = []
        if self.accuracy is not None and self.believed is not None:
            right, sure = f"{100 * self.accuracy:.0f} %", f"{100 * self.believed:.0f} %"
            found.append(
                f"{self.left_out} shots, each tested without itself: {right} are nearest to their class, {sure} are believed"
            )
        if self.names is not None:
            with_them, without = self.names
            found.append(
                f"names: {with_them.count} of {with_them.total} left-out shots right with them, {without.count} without"
            )
        found += [f"advice: {one}" for one in self.missed]
        return found + [f"advice: {sentence}" for sentence in self.advice]

    def to_json(self) -> dict[str, Any]:
        """As `--json` writes it."""
        names = None
        if self.names is not None:
            names = {key: share.to_json() for key, share in zip(("with", "without"), self.names, strict=True)}
        return {**asdict(self), "names": names}


def review(bank: Bank, head: Head) -> Report:
    """Judges a bank by its own shots.

    A shot is left out of its class's prototype, and encoded without the prompt, as a picture to recognize is. It stays in the
    metric, which many shots share, so that figures of a small bank are a little too good. Of classes with one shot nothing can
    be left out: they are taken to be as compact as the bank's others or, where all have one, as its threshold says. What is
    judged are classes that were taught from pictures; names alone and rejects are what these may be taken for.

    Args:
        bank: the taught classes.
        head: made from it.
    """
    if not bank.names:
        return Report(0, None, None, (), (), ("teach a class: sp-edge enroll --name NAME PICTURES",))
    counts = np.bincount(bank.owners)
    judged = bank.pictured[bank.owners]
    several = judged & (counts[bank.owners] > 1)
    own = _own(bank, head)
    compact = float(own[several].mean()) if several.any() else (1 + float(head.thresholds[0])) / 2
    own = np.where(several, own, compact)
    temperature = head.calibration.temperature
    rivals = np.zeros((len(counts), len(counts)), np.float32) if len(counts) <= BLOCK else None
    nearest, highest = np.zeros(len(own), np.int64), np.zeros(len(own))
    shown_again = np.ones(len(own), bool)
    to_own = np.ones(len(own))
    for rows, cosines in _blocks(bank, head, np.flatnonzero(judged)):
        owners = bank.owners[rows]
        to_own[rows] = cosines[np.arange(len(rows)), owners]
        best = cosines.argmax(axis=1) if head.weights is None else head.scores(bank.query[rows]).argmax(axis=1)
        shown_again[rows] = (best == owners) & (to_own[rows] >= head.thresholds[owners])
        cosines[np.arange(len(rows)), owners] = -np.inf
        nearest[rows], highest[rows] = cosines.argmax(axis=1), cosines.max(axis=1)
        if rivals is not None:
            np.add.at(rivals, owners, 1 / (1 + np.exp((own[rows, None] - cosines) / temperature)))
    right = own > highest
    reached = own >= head.thresholds[bank.owners]
    confusions = _confusions(bank, counts, rivals, nearest, 1 / (1 + np.exp((own - highest) / temperature)), judged)
    strays = _strays(bank, own, several & ~(right & reached), np.where(right, -1, nearest))
    accuracy = float(right[several].mean()) if several.any() else None
    believed = float(reached[several].mean()) if several.any() else None
    again = np.flatnonzero(~shown_again)
    lost = missed(bank, head, again[np.argsort(to_own[again], kind="stable")][:SHOWN])
    told = _advice(bank, counts, confusions, strays)
    names = _names(bank, head, np.flatnonzero(several), int(right[several].sum()))
    return Report(int(several.sum()), accuracy, believed, confusions, strays, told, lost, names)


def left_out(bank: Bank) -> Share | None:
    """How many shots are nearest to their own class by cosine, each left out of its prototype; None if every class has one.

    It needs no bundle, so that banks of two bundles can be compared; `review` judges in the metric that recognizes.
    """
    counts = np.bincount(bank.owners, minlength=len(bank.names))
    rows = np.flatnonzero(bank.pictured[bank.owners] & (counts[bank.owners] > 1))
    if not len(rows):
        return None
    others = _without(bank)
    right = 0
    for start in range(0, len(rows), BLOCK):
        some = rows[start : start + BLOCK]
        seen = unit(bank.query[some])
        own = (seen * unit(others[some])).sum(axis=1)
        cosines = seen @ bank.prototypes.T
        cosines[np.arange(len(some)), bank.owners[some]] = -np.inf
        right += int((own > cosines.max(axis=1)).sum())
    return Share(right, len(rows))


def _names(bank: Bank, head: Head, rows: NDArray[np.int64], right: int) -> tuple[Share, Share] | None:
    """How many of the shots `rows`, each left out, are right with the names, which is known, and how many without them."""
    if not len(rows) or not bank.strengths[bank.owners[rows]].any():
        return None
    plain = replace(bank, strengths=np.zeros(len(bank.names)))
    blind = replace(head, prototypes=np.asfortranarray(head.metric(plain.prototypes)))
    own, without = _own(plain, blind), 0
    for some, cosines in _blocks(plain, blind, rows):
        cosines[np.arange(len(some)), bank.owners[some]] = -np.inf
        without += int((own[some] > cosines.max(axis=1)).sum())
    return Share(right, len(rows)), Share(without, len(rows))


def _blocks(bank: Bank, head: Head, rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Floats]]:
    """Some shots at a time, and their cosines to every class, float32 (n, C)."""
    for start in range(0, len(rows), BLOCK):
        some = rows[start : start + BLOCK]
        yield some, head.similarities(bank.query[some])


def _without(bank: Bank) -> NDArray[np.float64]:
    """The prototype of each shot's class as it would be without that shot, of any length: float64 (M, D); 0 without others."""
    counts = np.bincount(bank.owners, minlength=len(bank.names))
    shares = share(bank.strengths, np.maximum(counts - 1.0, 1)) / (bank.bundle_strength or 1.0)
    part = shares[bank.owners, None]
    support, query = (
        class_sums(features, bank.owners, len(counts))[bank.owners] - features for features in (bank.support, bank.query)
    )
    return np.where(counts[bank.owners, None] > 1, part * support + (1 - part) * query, 0.0)


def _own(bank: Bank, head: Head) -> NDArray[np.float64]:
    """Cosine of each shot, in the metric, to its class's prototype without it: float64 (M,); 0 of a single one."""
    others: Floats = head.metric(_without(bank))
    seen: Floats = head.metric(bank.query)
    return np.asarray((others * seen).sum(axis=1), np.float64)


def _confusions(
    bank: Bank,
    counts: NDArray[np.int64],
    rivals: Floats | None,
    nearest: NDArray[np.int64],
    chance: NDArray[np.float64],
    judged: NDArray[np.bool_],
) -> tuple[Confusion, ...]:
    """The likeliest pairs; of a large bank only each judged shot's nearest other class is looked at."""
    if rivals is None:
        pairs = [
            (int(a), int(b), float(p)) for a, b, p in zip(*(v[judged] for v in (bank.owners, nearest, chance)), strict=True)
        ]
    else:
        means = rivals / counts[:, None]
        pairs = [(int(a), int(b), float(means[a, b])) for a, b in np.argwhere(means >= CONFUSED) if a != b]
    best: dict[tuple[int, int], float] = {}
    for a, b, probability in pairs:
        best[a, b] = max(probability, best.get((a, b), 0.0))
    ranked = sorted(best.items(), key=lambda item: -item[1])[:SHOWN]
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
        f"add a picture of '{pair.name}': the class may be called unknown, as what is {pair.other} "
        f"({100 * pair.probability:.0f} %)"
        if pair.other in bank.rejects
        else f"add a picture of '{pair.name}' without '{pair.other}' in it: the class may be taken for '{pair.other}' "
        f"({100 * pair.probability:.0f} %)"
        for pair in confusions[:3]
    ]
    lines += [
        f"look at shot {stray.shot} of '{stray.name}': it is not like the others of its class"
        + ("" if stray.like == "unknown" else f", but like '{stray.like}'")
        for stray in strays[:3]
    ]
    lines += _names_alike(bank)
    told = {pair.name for pair in confusions[:3]}
    single = [bank.names[row] for row in np.flatnonzero((counts == 1) & bank.pictured)]
    if single := [name for name in single if name not in told]:
        lines.append(f"add a second picture of {_some(single)}: one picture does not show how much a class varies")
    if uneven := _uneven(bank):
        lines.append(
            f"add gray pictures of {_some(uneven)}: other classes have some, as of the night, and color would tell them apart"
        )
    if bank.by_name.any():
        nameless = _some([bank.names[row] for row in np.flatnonzero(bank.by_name)])
        lines.append(f"add a picture of {nameless}: a name alone does not show how the thing looks here")
    return tuple(lines)


def _names_alike(bank: Bank) -> list[str]:
    """What is to be said of names that cannot be told apart, by a person or by the text encoder."""
    groups = spelled_alike(bank.classes)
    lines = [
        f"are {_and(group)} one class? Their names differ in capitals, spaces or the form of characters alone: remove one, and "
        "teach its pictures under the other's name"
        for group in groups[:3]
    ]
    rows = [bank.rows[name] for name in bank.classes if bank.strengths[bank.rows[name]] > 0 or bank.by_name[bank.rows[name]]]
    same = [group for group in same_vectors([bank.names[row] for row in rows], bank.prompts[rows]) if group not in groups]
    lines += [
        f"{_and(group)} have one and the same prompt: only their pictures tell them apart. Teach them anew with --description"
        for group in same[:3]
    ]
    return lines


def _and(names: Sequence[str]) -> str:
    return " and ".join(f"'{name}'" for name in names)


def _uneven(bank: Bank) -> list[str]:
    """Classes without a gray picture, where others have one."""
    if len(bank.crops) > BLOCK:
        return []  # looking at all of them would take seconds
    gray = np.bincount(bank.owners, bank.gray, len(bank.names)) > 0
    rows = np.flatnonzero(bank.pictured & ~gray) if gray[bank.pictured].any() else ()
    return [bank.names[row] for row in rows]


def _some(names: list[str]) -> str:
    return shortened([f"'{name}'" for name in names], 3)
