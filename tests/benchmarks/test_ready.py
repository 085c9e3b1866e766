from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from sp_edge.bank.head import Head
from sp_edge.data.episodes import Features
from sp_edge.matching.decide import unit
from sp_edge.matching.metric import Background, Metric
from sp_edge.matching.unknown import Calibration
from sp_edge_export.background import simulated_bank

RNG = np.random.default_rng(0)
CLASSES, EACH, D = 8, 6, 10
LABELS = np.arange(CLASSES).repeat(EACH)


@pytest.fixture(scope="module")
def ready(open_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return open_benchmark("ready")


def pool(ready: ModuleType, strength: float) -> Any:
    plain = (RNG.random((CLASSES, 1, D)) * 2 + 0.3 * RNG.random((CLASSES, EACH, D))).reshape(-1, D).astype(np.float32)
    named = (plain + 0.2 * RNG.random(plain.shape)).astype(np.float32)
    background = Background(unit(plain).mean(axis=0), np.eye(D, dtype=np.float32) * 0.01)
    strengths = np.full(CLASSES, strength)
    return ready.Pool(plain, named, named[::-1].copy(), LABELS, plain[::EACH], strengths, background)


@pytest.mark.parametrize("shots", [1, 3])
def test_episodes_ask_pictures_of_the_classes_that_they_teach_and_none_that_was_a_shot(ready: ModuleType, shots: int) -> None:
    shown = pool(ready, 1.0)
    for drawn, taught, questions, truth in ready.episodes(shown, shown, 5, shots, 20):
        assert (LABELS[taught] == drawn[:, None]).all()
        assert (LABELS[questions] == drawn[truth]).all()
        assert not set(taught.ravel().tolist()) & set(questions.tolist())


@pytest.mark.parametrize("shots", [1, 3])
@pytest.mark.parametrize("strength", [0.0, 0.6, 1.0])
def test_names_are_what_the_runtime_decides(ready: ModuleType, shots: int, strength: float) -> None:
    shown = pool(ready, strength)
    drawn, taught, questions, _ = next(ready.episodes(shown, shown, 4, shots, 1))
    metric = Metric.of(shown.background, shown.query[taught.ravel()], np.repeat(np.arange(4), shots))
    seen = {"plain": unit(shown.query[questions]), "metric": metric(shown.query[questions])}
    near = ready.answers(shown, drawn, taught, seen, metric)
    mixed = strength * shown.named + (1 - strength) * shown.query  # as the support graph gives them
    bank = simulated_bank(Features(shown.query, mixed), list(taught), strength)
    head = Head.of(bank, shown.background, Calibration(0, 1, 0, 0, 0, 0, 0, 1))
    np.testing.assert_allclose(near[ready.NAMES], head.similarities(shown.query[questions]), atol=1e-5)


def test_a_column_is_compared_on_the_same_episodes(ready: ModuleType) -> None:
    shown = pool(ready, 0.0)
    found = ready.scores([(shown, shown)], 5, 1, 12, "test")
    np.testing.assert_array_equal(found[ready.NAMES], found[ready.PLAIN])
    assert {len(values) for values in found.values()} == {12}
    shown = ready.column(found)
    assert shown["names - no names"] == "+0.0 ± 0.0"


def test_what_is_nearest_to_a_picture_of_a_stranger_is_not_accepted(ready: ModuleType) -> None:
    plain = np.eye(12, D, dtype=np.float32)[np.arange(10).repeat(4)] + 0.01 * RNG.random((40, D)).astype(np.float32)
    background = Background(np.zeros(D, np.float32), np.eye(D, dtype=np.float32) * 0.01)
    shown = ready.Pool(plain, plain, plain, np.arange(10).repeat(4), plain[::4], np.ones(10), background)
    found = ready.strangers([(shown, shown)], 1, 6)
    assert found[ready.REJECTS]["accepted"].max() == 0
    assert found[ready.REJECTS]["AUROC"].min() == 1
