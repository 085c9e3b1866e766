from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from banks import prompt, shots, taught
from sp_edge.bank.bank import Bank
from sp_edge.bank.diff import ClassChange, diff
from sp_edge.bundle.bundle import Bundle


def test_a_bank_does_not_differ_from_itself(bundle: Bundle) -> None:
    bank = taught(bundle)
    assert diff(bank, bank) == ()
    assert diff(bank, replace(bank, version=99)) == ()
    assert diff(Bank.empty(bundle), Bank.empty(bundle)) == ()


def test_what_differs_by_hand(bundle: Bundle) -> None:
    old = taught(bundle)
    new = old.remove("polar bear").remove("café", 1).add("café", prompt(2), *shots(2, 50))
    new = new.add("wolf", prompt(9), *shots(2, 60), threshold=0.7, strength=0.4).with_strength("red fox", 0.5)
    assert diff(old, new) == (
        ClassChange("red fox", "changed", (2, 2), 0, 0, False, (0.0, 0.0), (0.8, 0.5)),
        ClassChange("café", "changed", (3, 4), 2, 1, False, (pytest.approx(0.2),) * 2, (0.8, 0.8)),
        ClassChange("wolf", "added", (0, 2), 2, 0, False, (None, pytest.approx(0.7)), (None, 0.4)),
        ClassChange("polar bear", "removed", (1, 0), 0, 1, False, (pytest.approx(0.1), None), (0.8, None)),
    )


def test_thresholds_and_prompts_differ(bundle: Bundle) -> None:
    old = taught(bundle)
    (change,) = diff(old, old.with_threshold("café", 0.9))
    assert (change.name, change.change, change.threshold) == ("café", "changed", (pytest.approx(0.2), pytest.approx(0.9)))
    again = old.remove("polar bear").add("polar bear", prompt(7), *shots(1, 1), threshold=0.1)
    (change,) = diff(old, again)
    assert (change.name, change.prompt, change.shots_added, change.shots_removed) == ("polar bear", True, 0, 0)


def test_neither_order_nor_the_last_digits_of_features_count(bundle: Bundle) -> None:
    old, other = taught(bundle), Bank.empty(bundle)
    for seed, (name, count) in reversed(list(enumerate([("red fox", 2), ("polar bear", 1), ("café", 3)]))):
        support, query, small = (part[::-1] for part in shots(count, seed))
        other = other.add(name, prompt(seed), support, query + np.float32(1e-5), small, threshold=0.1 * seed)
    assert diff(old, other) == ()


def test_a_shot_that_is_there_twice_counts_twice(bundle: Bundle) -> None:
    old = taught(bundle)
    (change,) = diff(old, old.add("polar bear", prompt(1), *shots(1, 1), threshold=0))
    assert (change.shots, change.shots_added, change.shots_removed) == ((1, 2), 1, 0)


def test_the_json_of_a_change(bundle: Bundle) -> None:
    (change,) = diff(taught(bundle), taught(bundle).add("wolf", prompt(9), *shots(1), threshold=0.5))
    assert json.loads(json.dumps(change.to_json())) == {
        "name": "wolf",
        "change": "added",
        "shots": {"old": 0, "new": 1},
        "shots_added": 1,
        "shots_removed": 0,
        "prompt": False,
        "threshold": {"old": None, "new": 0.5},
        "strength": {"old": None, "new": 0.8},
        "by_name": {"old": False, "new": False},
    }
