"""Says in what two banks differ, class by class."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sp_edge.bank.bank import Bank
from sp_edge.bank.crops import NO_PICTURE

SAME_PROMPT = 1e-4  # the largest difference between two prompts that count as one


@dataclass(frozen=True)
class ClassChange:
    """What differs in a class; where it is in one bank alone, the other's numbers are None.

    Attributes:
        name: of the class.
        change: 'added', 'removed' or 'changed'.
        shots: how many the old and the new bank have; 0 of a class that is known by its name alone.
        shots_added: how many only the new bank has.
        shots_removed: how many only the old bank has.
        prompt: whether the class was taught with another prompt.
        threshold: of the old and of the new bank; None where a class has none of its own.
        strength: of the old and of the new bank.
        by_name: whether the old and the new bank know it by its name alone.
    """

    name: str
    change: Literal["added", "removed", "changed"]
    shots: tuple[int, int]
    shots_added: int
    shots_removed: int
    prompt: bool
    threshold: tuple[float | None, float | None]
    strength: tuple[float | None, float | None]
    by_name: tuple[bool, bool] = (False, False)

    def to_json(self) -> dict[str, Any]:
        """All fields; what two banks have is an object with 'old' and 'new'."""
        pairs = {
            key: dict(zip(("old", "new"), value, strict=True)) for key, value in vars(self).items() if type(value) is tuple
        }
        return {**vars(self), **pairs}


def diff(old: Bank, new: Bank) -> tuple[ClassChange, ...]:
    """What is different in `new`, in the order of its classes, then what it lacks; nothing where both banks hold the same.

    The order of classes and shots does not count, nor the version. Shots are told apart by their pictures: the features of one
    differ in their last digits from one device to the next.
    """
    before, after = shots_of(old), shots_of(new)
    changes = []
    for name in dict.fromkeys((*new.names, *old.names)):
        had, has = before.get(name, Counter()), after.get(name, Counter())
        change = ClassChange(
            name=name,
            change="added" if name not in before else "removed" if name not in after else "changed",
            shots=(had.total(), has.total()),
            shots_added=(has - had).total(),
            shots_removed=(had - has).total(),
            prompt=name in before and name in after and not same_prompt(name, old, new),
            threshold=(_of(name, old, old.thresholds), _of(name, new, new.thresholds)),
            strength=(_of(name, old, old.strengths), _of(name, new, new.strengths)),
            by_name=tuple(name in bank.rows and bool(bank.by_name[bank.rows[name]]) for bank in (old, new)),  # type: ignore[arg-type]
        )
        pairs = (change.threshold, change.strength)
        if change.change != "changed" or had != has or change.prompt or any(one != other for one, other in pairs):
            changes.append(change)
    return tuple(changes)


def shots_of(bank: Bank) -> dict[str, Counter[bytes]]:
    """How often each class has each shot, which is known by its picture; a class of the name alone has none."""
    found: dict[str, Counter[bytes]] = {name: Counter() for name in bank.names}
    for owner, crop in zip(bank.owners.tolist(), bank.crops, strict=True):
        if crop != NO_PICTURE:
            found[bank.names[owner]][crop] += 1
    return found


def same_prompt(name: str, one: Bank, other: Bank) -> bool:
    """Whether a class that both banks have was taught with one prompt."""
    prompt, another = one.prompts[one.rows[name]], other.prompts[other.rows[name]]
    return prompt.shape == another.shape and bool(np.allclose(prompt, another, atol=SAME_PROMPT))


def _of(name: str, bank: Bank, values: NDArray[Any]) -> float | None:
    value = float(values[bank.rows[name]]) if name in bank.rows else math.nan
    return None if math.isnan(value) else value  # a class without a threshold of its own has NaN
