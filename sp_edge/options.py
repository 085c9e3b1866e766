"""What dataclasses of options share: the check of their values, and the words about each, which stand in their docstrings."""

from __future__ import annotations

import inspect
import math
import re
from numbers import Integral, Real

from sp_edge.errors import SettingsError

_ATTRIBUTE = re.compile(r"^(\w+): (.+)$")


def check(options: object, **rules: tuple[bool, str]) -> None:
    """Refuses an option that is out of range.

    Args:
        options: a dataclass.
        rules: for each option whether its value fits, and in words what would.

    Raises:
        SettingsError: one does not fit.
    """
    for name, (fits, expected) in rules.items():
        if not fits:
            raise SettingsError(f"{name} is out of range", expected=expected, got=repr(getattr(options, name))[:80])


def number(value: object, least: float = -math.inf, most: float = math.inf, *, above: float = -math.inf) -> bool:
    """Whether a value is a finite number from `least` to `most`, and larger than `above`."""
    return isinstance(value, Real) and math.isfinite(value) and least <= float(value) <= most and float(value) > above


def whole(value: object, least: float = -math.inf, most: float = math.inf) -> bool:
    """Whether a value is a whole number from `least` to `most`."""
    return isinstance(value, Integral) and number(value, least, most)


def described(options: type) -> dict[str, str]:
    """What a dataclass's docstring says of each of its options, under 'Attributes:'."""
    _, _, listed = (inspect.getdoc(options) or "").partition("Attributes:\n")
    words: dict[str, str] = {}
    name = ""
    for line in listed.splitlines():
        if line and not line.startswith(" "):
            break  # the next section
        if found := _ATTRIBUTE.match(line[4:]):
            name = found[1]
            words[name] = found[2]
        elif line.strip():
            words[name] += " " + line.strip()
    return words
