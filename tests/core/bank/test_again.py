"""What was taught is recognized when it is shown again, or else it is said which shot is not, and what to change."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banks import prompt
from sp_edge.bank.advice import SHOWN, review
from sp_edge.bank.bank import Bank
from sp_edge.bank.head import Head
from sp_edge.bundle.bundle import Bundle

D = 6


def head_of(bank: Bank, bundle: Bundle, **options: object) -> Head:
    return Head.of(bank, bundle.background(), bundle.manifest.calibration, **options)  # type: ignore[arg-type]


def axis(*weights: float) -> np.ndarray:
    return np.array([[*weights, *[0.0] * (D - len(weights))]], np.float32)


@given(
    seed=st.integers(0, 9999),
    strength=st.floats(0, 1),
    away=st.floats(0, 8),
    classifier=st.sampled_from(["prototype", "lr"]),
    rejects=st.booleans(),
)
@settings(deadline=None, max_examples=80)
def test_every_shot_is_recognized_or_told(
    bundle: Bundle, seed: int, strength: float, away: float, classifier: str, rejects: bool
) -> None:
    rng, bank = np.random.default_rng(seed), Bank.empty(bundle)
    for number in range(3):
        query = (2 * rng.normal(size=D) + rng.normal(size=(rng.integers(1, 4), D))).astype(np.float32)
        support = (query + away * rng.normal(size=D)).astype(np.float32)
        bank = bank.add(f"class {number}", prompt(number), support, query, [b"picture"] * len(query), strength=strength)
    if rejects:
        bank = bank.add_reject("class 0", rng.normal(size=(2, D)).astype(np.float32), [b"picture"] * 2)
    head = head_of(bank, bundle, classifier=classifier)
    taught = np.flatnonzero(bank.pictured[bank.owners])
    assert len(taught) <= SHOWN
    labels = [match.label for match in head.matches(bank.query[taught])]
    lost = [(bank.names[bank.owners[row]], label) for row, label in zip(taught, labels, strict=True)]
    expected = sorted((name, label) for name, label in lost if name != label)
    told = review(bank, head).missed
    assert sorted((one.name, one.label) for one in told) == expected
    for one in told:
        row = np.flatnonzero(bank.owners == bank.rows[one.name])[one.shot]
        assert one.label == head.matches(bank.query[row][None])[0].label
        command = re.search(r"--(strength|threshold) ([-\d.]+)", one.remedy)
        if command is None:
            continue
        change = bank.with_strength if command[1] == "strength" else bank.with_threshold
        changed = head_of(change(one.name, float(command[2])), bundle, classifier=classifier)
        assert changed.matches(bank.query[row][None])[0].label == one.name, one.remedy


def test_a_strong_name_takes_no_picture_away_from_its_class(bundle: Bundle) -> None:
    """The picture lies at a right angle to what the name makes of it, and its class believes it all the same."""
    for strength in (0.0, 0.3, 0.5, 0.7):
        bank = Bank.empty(bundle).add("mug", prompt(0), axis(0, 3), axis(3), [b"picture"], strength=strength)
        bank = bank.add("fork", prompt(1), axis(0, 0, 3), axis(0, 0, 3), [b"picture"])
        head = head_of(bank, bundle)
        assert [match.label for match in head.matches(bank.query)] == ["mug", "fork"]
        assert review(bank, head).missed == ()
        calibrated = head_of(bank.with_strength("mug", 0), bundle).thresholds
        assert head.thresholds[1] == pytest.approx(calibrated[1], abs=0.02), "which follows the bank, not the name"
        assert head.thresholds[0] <= calibrated[0] + 0.02


def test_the_remedy_by_hand(bundle: Bundle) -> None:
    bank = Bank.empty(bundle).add("red mug", prompt(0), axis(-3, 0.5), axis(3), [b"picture"], strength=0.8)
    bank = bank.add("fork", prompt(1), axis(0, 0, 3), axis(0, 0, 3), [b"picture"])
    (told,) = review(bank, head_of(bank, bundle)).missed
    assert (told.name, told.shot, told.label) == ("red mug", 0, told.label)
    assert re.search(r"let its name count less, sp-edge bank set --name 'red mug' --strength 0\.\d", str(told))
    assert any(line.startswith("advice: shot 0 of 'red mug' is") for line in review(bank, head_of(bank, bundle)).lines())
    strict = (
        Bank.empty(bundle).add("a", prompt(0), axis(3), axis(3), [b"1"]).add("a", prompt(0), axis(0, 3), axis(0, 3), [b"2"])
    )
    (first, second) = review(strict.with_threshold("a", 0.99), head_of(strict.with_threshold("a", 0.99), bundle)).missed
    assert {first.label, second.label} == {"unknown"}
    assert "accept the class from there on, sp-edge bank set --name a --threshold 0." in first.remedy
    twin = bank.with_strength("red mug", 0).add("tool", prompt(2), axis(3, 0.1), axis(3, 0.1), [b"picture"])
    twin = twin.add("tool", prompt(2), axis(0, 5), axis(0, 5), [b"picture"])
    lost = review(twin, head_of(twin, bundle)).missed
    assert any("or remove this one: it is like 'red mug'" in one.remedy for one in lost)


def test_what_names_gain_by_hand(bundle: Bundle) -> None:
    """Each class's two pictures share nothing but what the name makes of them; without it they are like the other's."""
    bank = Bank.empty(bundle)
    bank = bank.add(
        "a", prompt(0), np.tile(axis(3, 1, 3), (2, 1)), np.concatenate([axis(3, 0, 1), axis(0, 3, 1)]), [b"1", b"2"]
    )
    bank = bank.add(
        "b", prompt(1), np.tile(axis(3, 3, 0, 1), (2, 1)), np.concatenate([axis(3, 0, 0), axis(0, 3, 0)]), [b"3", b"4"]
    )
    found = review(bank.with_strength("a", 0.8).with_strength("b", 0.8), head_of(bank, bundle))
    assert found.names is not None
    with_them, without = found.names
    assert with_them.total == without.total == found.left_out == 4
    assert with_them.count == round(found.accuracy * 4)  # type: ignore[operator]
    line = f"names: {with_them.count} of 4 left-out shots right with them, {without.count} without"
    assert line in found.lines()
    assert found.to_json()["names"]["with"]["count"] == with_them.count
    blind = bank.with_strength("a", 0).with_strength("b", 0)
    alone = review(blind, head_of(blind, bundle))
    assert alone.names is None
    assert without.count == round(alone.accuracy * 4), "as if no name had counted"  # type: ignore[operator]


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_leaving_out_is_as_if_the_shot_had_not_been_taught(bundle: Bundle, strength: float) -> None:
    rng, bank = np.random.default_rng(3), Bank.empty(bundle)
    for number in range(4):
        centre = rng.normal(size=D)
        query, support = (centre + rng.normal(size=(2, 3, D))).astype(np.float32)
        bank = bank.add(f"class {number}", prompt(number), support, query, [b"picture"] * 3, strength=strength * 0.8)
    head = head_of(bank, bundle)
    right = 0
    for row, owner in enumerate(bank.owners.tolist()):
        kept = np.arange(len(bank.owners)) != row
        prototypes = head.metric(bank.keep(kept).prototypes)
        right += int((prototypes @ head.metric(bank.query[row])).argmax() == owner)
    assert review(bank, head).accuracy == pytest.approx(right / 12)
