"""Small banks for tests of what is done with banks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sp_edge.bank.bank import Bank
from sp_edge.bank.crops import encode_crop
from sp_edge.bank.stored import PARTS
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import BankError
from sp_edge.prompts.table import clean_name
from sp_edge.tensors import load_tensors

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


def stored(bundle: Bundle, path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors and the metadata of such a bank's file."""
    taught(bundle).save(path)
    return load_tensors(path, BankError)


def check(bank: Bank) -> None:
    """What holds of every bank."""
    assert len(set(bank.names)) == len(bank.names) == len(bank.prompts) == len(bank.thresholds) == len(bank.strengths)
    assert len(bank.support) == len(bank.query) == len(bank.owners) == len(bank.crops)
    assert all(clean_name(name) == name for name in bank.names)
    assert sum(bank.shots(name) for name in bank.names) == len(bank.owners)
    assert all(bank.shots(name) >= 1 for name in bank.names)
    assert bank.prototypes.shape == (len(bank.names), bank.support.shape[1])
    assert bank.prototypes.dtype == bank.support.dtype == bank.query.dtype == np.float32
    for index, strength in enumerate(bank.strengths.tolist()):
        own = bank.owners == index
        mean = bank.query[own].astype(np.float64).mean(axis=0)
        if strength:  # f(x | g(y)) is what the support graph would give at strength 1
            prompted = mean + (bank.support[own].astype(np.float64).mean(axis=0) - mean) / bank.bundle_strength
            mean = (strength * prompted + (1 - strength) * own.sum() * mean) / (strength + (1 - strength) * own.sum())
        expected = mean / max(float(np.linalg.norm(mean)), 1e-12)
        np.testing.assert_allclose(bank.prototypes[index], expected, atol=2e-5)
