"""Which of a bank's own pictures it would not recognize if they were shown again, and what to change."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sp_edge.bank.bank import Bank
from sp_edge.bank.head import Head

MOST = 1000  # classes for which other strengths are tried while a user waits
WEAKER = (0.8, 0.6, 0.4, 0.2, 0.0)  # of a class's strength, tried in turn


@dataclass(frozen=True)
class Missed:
    """A picture that is not recognized as what it was taught as.

    Attributes:
        name: of its class.
        shot: its number there, from 0.
        label: what it is recognized as instead: another class, or 'unknown'.
        similarity: to its class, a cosine.
        remedy: what to change, in words.
    """

    name: str
    shot: int
    label: str
    similarity: float
    remedy: str

    def __str__(self) -> str:
        seen = "is not believed" if self.label == "unknown" else f"is taken for '{self.label}'"
        return f"shot {self.shot} of '{self.name}' {seen} when it is shown again: {self.remedy}"


def missed(bank: Bank, head: Head, rows: NDArray[np.int64]) -> tuple[Missed, ...]:
    """Looks at some shots of classes that were taught from pictures.

    Args:
        bank: the taught classes.
        head: made from it.
        rows: int64 (n,), which of its shots.

    Returns:
        Those that are not recognized, in their order.
    """
    found = []
    for row, match in zip(rows.tolist(), head.matches(bank.query[rows], topk=1), strict=True):
        owner = int(bank.owners[row])
        name = bank.names[owner]
        if match.label == name:
            continue
        cosines = head.similarities(bank.query[row][None])[0]
        number = int((bank.owners[:row] == owner).sum())
        remedy = _remedy(bank, head, row, match.name, cosines)
        found.append(Missed(name, number, match.label, float(cosines[owner]), remedy))
    return tuple(found)


def _remedy(bank: Bank, head: Head, row: int, taken: str, cosines: NDArray[np.float32]) -> str:
    """What makes a class recognize its shot, in words."""
    owner = int(bank.owners[row])
    name = bank.names[owner]
    command = f"sp-edge bank set --name {shlex.quote(name)}"
    strength = _weaker(bank, head, row)
    if strength is not None:
        return f"let its name count less, {command} --strength {strength:g}"
    if taken == name:
        threshold = max(math.floor(100 * float(cosines[owner])) / 100, -1.0)
        return f"accept the class from there on, {command} --threshold {threshold:g}; or look at the picture"
    if taken in bank.rejects:
        return f"it is like what was taught as {taken}: add pictures of '{name}', or remove some of {taken}"
    return f"add pictures of '{name}', or remove this one: it is like '{taken}'"


def _weaker(bank: Bank, head: Head, row: int) -> float | None:
    """The greatest strength, of some below the class's, with which the class recognizes its shot; None where none does."""
    name = bank.names[bank.owners[row]]
    strength = float(bank.strengths[bank.rows[name]])
    if strength == 0 or head.weights is not None or len(bank.names) > MOST:
        return None
    for weaker in WEAKER:
        tried = math.floor(100 * weaker * strength) / 100
        (found,) = head.again(bank.with_strength(name, tried)).matches(bank.query[row][None], topk=1)
        if found.label == name:
            return tried
    return None
