"""Tells spellings of one name: they differ in case, in spaces, or in the form of their characters alone."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from sp_edge.prompts.table import clean_name

_VARIATION = {chr(code) for code in range(0xFE00, 0xFE10)}  # how a character is to look


@lru_cache(maxsize=16384)
def spelling_key(name: str) -> str:
    """What all spellings of a name have in common. It is for comparing, not for showing.

    That is Unicode's form NFKC in lower case (case folding), without characters that cannot be seen.

    Raises:
        PromptError: not a name.
    """
    folded = unicodedata.normalize("NFKC", clean_name(name)).casefold()
    seen = "".join(c for c in folded if unicodedata.category(c) != "Cf" and c not in _VARIATION)
    return " ".join(unicodedata.normalize("NFKC", seen).replace("_", " ").split())


def spelled_alike(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of two or more different names that are spellings of one, each in the order of `names`."""
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        groups.setdefault(spelling_key(name), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]
