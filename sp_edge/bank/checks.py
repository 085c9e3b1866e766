"""What a value must be to stand in a bank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sp_edge.errors import BankError, PromptError
from sp_edge.matching.label import UNKNOWN
from sp_edge.options import number
from sp_edge.prompts.descriptions import clean_sentence
from sp_edge.prompts.spelling import spelling_key
from sp_edge.prompts.table import clean_name, is_stored_name


def threshold_of(value: float | None) -> np.float32:
    """As a bank holds it: NaN where the calibration decides.

    Raises:
        BankError: no cosine.
    """
    if value is None:
        return np.float32(np.nan)
    if not number(value, -1, 1):
        raise BankError("the threshold is out of range", expected="a cosine, -1 to 1", got=repr(value)[:80])
    return np.float32(value)


def strength_of(value: float) -> float:
    """A prompt's strength, of those who set it.

    Raises:
        BankError: not within 0 to 1.
    """
    if not number(value, 0, 1):
        raise BankError("the prompt's strength is out of range", expected="0 to 1", got=repr(value)[:80])
    return float(value)


def check_new_name(name: str) -> None:
    """Refuses a clean name that would be taken for the label of what is no class.

    Raises:
        BankError: 'unknown', in any spelling.
    """
    if spelling_key(name) == UNKNOWN:
        raise BankError(
            f"a class cannot be called '{UNKNOWN}'",
            expected="another name",
            got="what a picture is called that fits no class",
        )


def check_name(name: str) -> None:
    """Refuses what cannot be the name of a class in a bank.

    Raises:
        BankError: not clean, or the label of what is no class.
    """
    try:
        clean = clean_name(name)
    except PromptError as cause:
        raise BankError("the bank holds a name that cannot be one", got=str(cause)) from cause
    if not is_stored_name(name):
        raise BankError("the bank holds a name that is not clean", expected=repr(clean), got=repr(name))
    if name == UNKNOWN:
        check_new_name(name)


def check_sentences(name: str, sentences: Sequence[str]) -> None:
    """Refuses what cannot describe a class.

    Raises:
        BankError: no sentence, or one that is not clean.
    """
    try:
        clean = [clean_sentence(sentence) for sentence in sentences]
    except PromptError as cause:
        raise BankError(f"the bank holds a description of '{name}' that cannot be one", got=str(cause)) from cause
    if not clean or clean != list(sentences):
        raise BankError(f"the bank's description of '{name}' is not clean", expected=repr(clean), got=repr(sentences)[:200])


def check_rejects(names: Sequence[str], rejects: Mapping[str, str]) -> None:
    """Refuses rejects of classes that are not there.

    Raises:
        BankError: a reject is not in the bank, or what it is told from is no class in it.
    """
    if not set(rejects) <= set(names) or not set(rejects.values()) <= set(names) - set(rejects):
        raise BankError(
            "the bank's rejects do not fit", expected="what is not one of its classes", got=repr(dict(rejects))[:200]
        )
