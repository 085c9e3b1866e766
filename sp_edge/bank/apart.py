"""Sees that no picture teaches two things: whatever looks like it would be both."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from sp_edge.bank.contents import Contents
from sp_edge.errors import BankError


def check_apart(bank: Contents, name: str, crops: Sequence[bytes], *, rejected: bool = False) -> None:
    """Refuses to teach that a picture is of two classes, or that it is and is not of one.

    Args:
        bank: what is taught already.
        name: of the class, as the bank spells it.
        crops: its new pictures, as `bank.crops.encode_crop` gives them.
        rejected: they are to be what is not of the class.

    Raises:
        BankError: one is another class's shot, or what is not of this class; if rejected, one is the class's own.
    """
    for number, crop in enumerate(crops, 1):
        for other, shot in bank.taught_from(crop).items():
            told = bank.rejects.get(other)
            if (other == name) if rejected else (told == name if told else other != name):
                taught = f"what is not '{name}'" if rejected else f"'{name}'"
                title = f"--not {shlex.quote(told)}" if told else f"--name {shlex.quote(other)}"
                raise BankError(
                    f"picture {number} of {taught} is shot {shot} of {other if told else repr(other)} already",
                    expected="a picture that teaches one thing",
                    got="the very same picture",
                    next_step=f"leave it out; or, if it was wrong there: sp-edge bank remove {title} --shot {shot}",
                )
