from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sp_edge.matching.decide import known_probability, unit
from sp_edge.matching.metric import Metric
from sp_edge.matching.unknown import Calibration, Level

PLAIN = Metric(np.zeros(2, np.float32), np.eye(2, dtype=np.float32))
CALIBRATION = Calibration(
    bias=-1, distance=2, between=1.5, classes=0.25, evidence=0.5, left_out=0.75, unrelated=0.1, temperature=0.1
)


def vectors(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_a_level_by_hand() -> None:
    # Class 0 at 0 and 60 degrees, prototype at 30; class 1 at 90. 90 to 30: 0.5. 0 and 60 to 90: 0 and 0.866, mean 0.433.
    level = Level.of(vectors(0, 90, 60) * 3, np.array([0, 1, 0]), vectors(30, 90), PLAIN)
    assert (level.classes, level.pairs, level.left_out) == (2, 1, 2)
    assert level.between == pytest.approx((0.5 + 0.4330127) / 2, abs=1e-6)
    assert level.within == pytest.approx(0.5, abs=1e-6), "0 and 60 degrees, each left out of the other"


def test_evidence_by_hand() -> None:
    level = Level(classes=4, pairs=6, between=0.4, left_out=10, within=0.7)
    similarity = (6 * 0.4 + 3 * 0.1) / 9
    expected = (math.log(1 - similarity), -math.log(4), 0.5, 0.5 * (math.log(0.3) - math.log(1 - similarity)))
    assert level.evidence(0.1) == pytest.approx(expected)
    assert Level(1, 0, 0.0, 0, 0.0).evidence(0.1) == pytest.approx((math.log(0.9), 0, 0, 0))


def test_a_threshold_by_hand() -> None:
    # log-odds -1 - 2 ln d + 1.5 ln 0.9 = 0 at d = exp((1.5 ln 0.9 - 1) / 2)
    threshold = CALIBRATION.threshold(Level(1, 0, 0.0, 0, 0.0))
    assert threshold == pytest.approx(1 - math.exp((1.5 * math.log(0.9) - 1) / 2))
    odds = -1 - 2 * math.log(0.3) + 1.5 * math.log(0.9)
    assert known_probability(0.7, threshold, 2) == pytest.approx(1 / (1 + math.exp(-odds)), abs=1e-6)


def test_an_empty_bank_and_one_class_have_a_threshold() -> None:
    none = Level.of(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), np.zeros((0, 2), np.float32), PLAIN)
    assert none == Level(0, 0, 0.0, 0, 0.0)
    one = Level.of(vectors(0, 60), np.array([0, 0]), vectors(30), PLAIN)
    assert (one.between, one.left_out) == (0.0, 2)
    for level in (none, one):
        assert -1 <= CALIBRATION.threshold(level) <= 1


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=9), st.integers(0, 999),
    st.lists(st.floats(-50, 50), min_size=5, max_size=5),
)  # fmt: skip
@settings(deadline=None, max_examples=80)
def test_the_order_of_enrolment_does_not_matter_and_every_threshold_is_a_cosine(
    owners: list[int], seed: int, weights: list[float]
) -> None:
    random = np.random.default_rng(seed)
    classes = np.unique(owners, return_inverse=True)[1]
    shots = random.normal(size=(len(owners), 2)).astype(np.float32)
    prototypes = unit(np.stack([shots[classes == c].mean(axis=0) for c in range(classes.max() + 1)]))
    level = Level.of(shots, classes, prototypes, PLAIN)
    order = random.permutation(len(shots))
    again = Level.of(shots[order], classes[order], prototypes, PLAIN)
    assert again.between == pytest.approx(level.between, abs=1e-6)
    assert again.within == pytest.approx(level.within, abs=1e-6)
    names = ("bias", "between", "classes", "evidence", "left_out")
    threshold = replace(CALIBRATION, **dict(zip(names, weights, strict=True))).threshold(level)
    assert -1 <= threshold <= 1
    assert np.allclose([level.between, level.within], np.clip([level.between, level.within], -1, 1), atol=1e-5)


def test_pairs_are_all_counted_once() -> None:
    random = np.random.default_rng(0)
    shots, owners = random.normal(size=(20, 6)).astype(np.float32), np.repeat(np.arange(5), 4)
    prototypes = unit(random.normal(size=(5, 6)).astype(np.float32))
    seen = unit(shots)
    pairs = [
        np.mean([seen[i] @ prototypes[c] for i in range(20) if owners[i] == j]) for j in range(5) for c in range(5) if c != j
    ]
    assert Level.of(
        shots, owners, prototypes, Metric(np.zeros(6, np.float32), np.eye(6, dtype=np.float32))
    ).between == pytest.approx(np.mean(pairs), abs=1e-6)


@pytest.mark.parametrize(
    "change", [{"distance": 0}, {"temperature": 0}, {"bias": math.nan}, {"left_out": math.inf}, {"unrelated": 1}]
)
def test_numbers_that_cannot_be(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="calibration"):
        replace(CALIBRATION, **change)


def test_it_comes_back_from_json() -> None:
    assert Calibration.from_json(CALIBRATION.to_json()) == CALIBRATION
