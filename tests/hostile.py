"""Damaged files; JSON that nobody should have written, and the places in a good one where it can stand."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import strategies as st


def json_values(*texts: str) -> st.SearchStrategy[Any]:
    """Any JSON, and what Python's parser takes beyond it; `texts` are those that come near to being right."""
    return st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.integers(-(10**400), 10**400)
        | st.floats()
        | st.text(max_size=6)
        | st.sampled_from(texts),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
        max_leaves=5,
    )


def damaged(content: bytes, seed: int, most: int | None = None) -> bytes:
    """A file's bytes with one to three faults: a byte changed, two put in, or the rest cut off.

    Args:
        most: how many bytes from the start are worth damaging; all by default.
    """
    chance, data = random.Random(seed), bytearray(content)  # noqa: S311
    for _ in range(chance.choice([1, 1, 3])):
        at = chance.randrange(min(most or len(data), len(data)))
        if chance.random() < 0.8:
            data[at] = chance.choice([data[at] ^ 1 << chance.randrange(8), 0, 34, 44, 57, 91, 125, 255])
        elif chance.random() < 0.5 and at:
            del data[at:]
        else:
            data[at:at] = chance.randbytes(2)
    return bytes(data)


def paths(value: object, at: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """The way to every field at any depth."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way for key, inner in items for way in [(*at, key), *paths(inner, (*at, key))]]
