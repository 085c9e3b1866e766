"""JSON that nobody should have written, and the places in a good one where it can stand."""

from __future__ import annotations

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


def paths(value: object, at: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """The way to every field at any depth."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way for key, inner in items for way in [(*at, key), *paths(inner, (*at, key))]]
