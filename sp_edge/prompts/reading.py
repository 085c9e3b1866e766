"""What of a name a text encoder can read, and which names are one and the same to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAME = 1 - 1e-6  # cosine from which two vectors are one: what the order of sums changes is less


@dataclass(frozen=True)
class Reading:
    """What a tokenizer makes of a text.

    Attributes:
        unread: the parts of the text that it does not know, in order. To the encoder they are all the same.
        unreadable: not more letters and digits of the text are known than are not: its vector says next to nothing of it.
    """

    unread: tuple[str, ...] = ()
    unreadable: bool = False


def read(tokenizer: Any, text: str) -> Reading:
    """Looks for what a tokenizer does not know.

    Args:
        tokenizer: of the library tokenizers.
        text: for instance a class's name.
    """
    encoding = tokenizer.encode(text, add_special_tokens=False)
    token = getattr(tokenizer.model, "unk_token", None)
    unknown = None if token is None else tokenizer.token_to_id(token)
    parts = [(number, text[start:end]) for number, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)]
    unread = tuple(part for number, part in parts if number == unknown)
    known = "".join(part for number, part in parts if number != unknown)
    return Reading(unread, unreadable=bool(unread) and _letters(known) <= _letters("".join(unread)))


def _letters(text: str) -> int:
    return sum(map(str.isalnum, text))


def same_vectors(names: Sequence[str], vectors: NDArray[np.float32]) -> list[tuple[str, ...]]:
    """Groups of two or more names that have one and the same vector, in the order of `names`.

    Args:
        names: n names.
        vectors: float32 (n, T), of one length.
    """
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    # Neighbours along one direction, so that a table of many thousand names is not compared with itself.
    order = np.argsort(unit @ np.random.default_rng(0).normal(size=unit.shape[1]), kind="stable").tolist()
    groups: list[list[int]] = []
    for row in order:
        if not groups or not float(unit[row] @ unit[groups[-1][0]]) >= SAME:
            groups.append([])
        groups[-1].append(row)
    return [tuple(names[row] for row in group) for group in sorted(map(sorted, groups)) if len(group) > 1]
