"""Small banks for tests of what is done with banks."""

from __future__ import annotations

import numpy as np

from sp_edge.bank.bank import Bank
from sp_edge.bank.crops import encode_crop
from sp_edge.bank.stored import PARTS
from sp_edge.bundle.bundle import Bundle

T, D, SIDE = 4, 6, 32


def shots(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[bytes]]:
    """Support features, query features and crops of `count` shots."""
    rng = np.random.default_rng(seed)
    support, query = (rng.normal(size=(2, count, D)) * 3).astype(np.float32)
    return support, query, [encode_crop(picture) for picture in rng.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)]


def prompt(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=T).astype(np.float32)


def taught(bundle: Bundle) -> Bank:
    """Three classes with 2, 1 and 3 shots."""
    bank = Bank.empty(bundle)
    for seed, (name, count) in enumerate([("red fox", 2), ("polar bear", 1), ("café", 3)]):
        bank = bank.add(name, prompt(seed), *shots(count, seed), threshold=0.1 * seed)
    return bank


def same(one: Bank, other: Bank) -> None:
    for field in ("fingerprint", "names", "version", "bundle_strength", "text", "descriptions"):
        assert getattr(one, field) == getattr(other, field)
    for part in PARTS:
        assert getattr(one, part).dtype == getattr(other, part).dtype
        np.testing.assert_array_equal(getattr(one, part), getattr(other, part))
