"""Corrects what was taught: renames a class, moves one of its shots, takes one out. Each is one step that `undo` takes back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sp_edge.bank.bank import Bank
from sp_edge.bank.crops import NO_PICTURE, crops_of, decode_crop
from sp_edge.errors import BankError
from sp_edge.prompts.table import clean_name
from sp_edge_runtime.learner import Learner


def shot_id(crop: bytes) -> str:
    """What a shot's picture is called by: the same picture has the same, in any bank."""
    return hashlib.sha256(crop).hexdigest()[:20]


def shot_of(bank: Bank, name: str, shot: str) -> int:
    """The number of a class's shot, from 0.

    Raises:
        BankError: there is no such class or shot.
    """
    for number, crop in enumerate(bank.pictures(name)):
        if shot_id(crop) == shot:
            return number
    raise BankError(f"'{name}' has no such picture any more", expected="one of its pictures")


def forget_shot(learner: Learner, name: str, shot: str) -> None:
    """Takes a shot out of a class; with its last shot a class goes, too.

    Raises:
        BankError: there is no such class or shot.
    """
    learner.change(lambda bank: bank.remove(name, shot_of(bank, name, shot)))


def move_shot(learner: Learner, name: str, shot: str, to: str) -> None:
    """Moves a shot to another class, new or known; it is encoded with that one's name.

    Raises:
        BankError: there is no such class or shot, or it is that class already.
        PromptError: no prompt is known for the name.
    """

    def moved(bank: Bank) -> Bank:
        if bank.spelling(name) == bank.spelling(to):
            raise BankError(f"the picture is in '{bank.spelling(to)}' already", expected="another class")
        number = shot_of(bank, name, shot)
        return _with(learner, bank.remove(name, number), to, [bank.pictures(name)[number]])

    learner.change(moved)


def rename(learner: Learner, name: str, to: str) -> None:
    """Gives a class another name. Its shots are encoded with the new name; its threshold and what it is not stay.

    Raises:
        BankError: there is no such class, it is known by its name alone, or another has that name.
        PromptError: no prompt is known for the new name.
    """
    new = clean_name(to)

    def renamed(bank: Bank) -> Bank:
        old = bank.spelling(name)
        if old == new:
            return bank
        if old not in bank.classes or bank.spelling(to) not in (old, new) or new in bank.rows:
            expected = "a taught class" if old not in bank.classes else "a name that no class has"
            raise BankError(f"'{old}' cannot be renamed", expected=expected, got=f"'{new if old in bank.classes else old}'")
        row = bank.rows[old]
        crops = [crop for crop in bank.pictures(old) if crop != NO_PICTURE]
        if not crops:
            raise BankError(f"'{old}' is known by its name alone", expected="a class with pictures")
        told = [reject for reject, of in bank.rejects.items() if of == old]
        changed = _with(learner, bank.remove(old), new, crops)
        threshold = float(bank.thresholds[row])
        if not np.isnan(threshold):
            changed = changed.with_threshold(new, threshold)
        for reject in told:
            own = bank.owners == bank.rows[reject]
            changed = changed.add_reject(new, bank.query[own], bank.crops[own].tolist())
        return changed

    learner.change(renamed)


def _with(learner: Learner, bank: Bank, name: str, crops: Sequence[bytes]) -> Bank:
    """The bank with crops of another class in this one, byte for byte: another JPEG of them would lose a little."""
    taught = learner.lesson(name, [decode_crop(crop) for crop in crops])(bank)
    own = np.flatnonzero(taught.owners == taught.rows[taught.spelling(name)])[-len(crops) :]
    kept = taught.crops.copy()
    kept[own] = crops_of(crops)
    return replace(taught, crops=kept)
