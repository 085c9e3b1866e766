from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sp_edge.matching.decide import unit
from sp_edge.matching.metric import PRIOR_SHOTS, SHRINKAGE, SMALL, Background, Metric, deviations, whitening


def test_deviations_by_hand() -> None:
    # Class 0 at (1, 0) and (0, 1), of any length: each half of (1, -1) from their mean. Class 5 has one shot.
    scatter, freedom = deviations(np.array([[2, 0], [0, 7], [3, 4]], np.float32), np.array([0, 0, 5]))
    np.testing.assert_allclose(scatter, [[0.5, -0.5], [-0.5, 0.5]], atol=1e-7)
    assert freedom == 1


def test_whitening_by_hand() -> None:
    # Variances 3 and 1, mean 2: shrunk by half to 2.5 and 1.5, over the mean 1.25 and 0.75.
    metric = whitening(np.diag([3, 1]).astype(np.float32), np.zeros((2, 2)), 0)
    np.testing.assert_allclose(metric, np.diag([1.25**-0.5, 0.75**-0.5]), atol=1e-6)
    assert (PRIOR_SHOTS, SHRINKAGE) == (100, 0.5)
    # 100 shots' worth of the prior, and 50 more that vary along the first axis alone, by 4 in all.
    metric = whitening(np.diag([3, 1]).astype(np.float32), np.diag([4.0, 0.0]), 50)
    np.testing.assert_allclose(metric, np.diag([(254 / 300) ** -0.5, (150 / 300) ** -0.5]), atol=1e-6)


@pytest.mark.parametrize("dim", [1, SMALL, SMALL + 1, 5 * SMALL - 3])
def test_cosines_are_those_of_the_symmetric_square_root(dim: int) -> None:
    random = np.random.default_rng(dim)
    root, own = random.normal(size=(dim, dim)), random.normal(size=(dim, 3))
    within, scatter = (root @ root.T).astype(np.float32), own @ own.T
    spread = np.trace(within) / dim
    prior = (1 - SHRINKAGE) * within + SHRINKAGE * spread * np.eye(dim)
    values, vectors = np.linalg.eigh((PRIOR_SHOTS * prior + scatter) / ((PRIOR_SHOTS + 4) * spread))
    symmetric = vectors / np.sqrt(values) @ vectors.T
    features = random.normal(size=(9, dim))
    found, expected = (unit(features @ metric) for metric in (whitening(within, scatter, 4), symmetric))
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-5)


@pytest.mark.parametrize(("classes", "shots"), [(1, 1), (3, 1), (4, 2), (3, 5), (7, 9)])
def test_a_bank_of_few_shots_turns_the_metric_as_far_as_a_new_one_would_be(classes: int, shots: int) -> None:
    dim, random = 64, np.random.default_rng(classes)
    root = random.normal(size=(dim, dim)) * np.linspace(0.1, 2, dim)
    background = Background(np.zeros(dim, np.float32), (root @ root.T).astype(np.float32) / 1e3)
    means, owners = random.normal(size=(classes, dim)), np.repeat(np.arange(classes), shots)
    features = (means[owners] + random.normal(size=(len(owners), dim)) * np.linspace(1, 0.2, dim)).astype(np.float32)
    found = Metric.of(background, features, owners)
    expected = Metric(background.mean, whitening(background.within, *deviations(features, owners)))
    seen = random.normal(size=(20, dim)).astype(np.float32)
    np.testing.assert_allclose(found(seen) @ found(seen).T, expected(seen) @ expected(seen).T, atol=2e-5)
    lengths = [np.linalg.norm(seen @ metric.matrix, axis=1) for metric in (found, expected)]
    np.testing.assert_allclose(*lengths, rtol=2e-5)
    again = Metric.of(background, np.concatenate([features] * 2), np.concatenate([owners] * 2))
    assert again.matrix.shape == (dim, dim), "copies, whose rests are not independent, are no matter"
    assert np.isfinite(again.matrix).all()


def test_without_a_background_the_metric_is_plain() -> None:
    assert whitening(np.zeros((3, 3), np.float32), np.eye(3), 7).tolist() == np.eye(3).tolist()


@given(seed=st.integers(0, 999), dim=st.integers(1, 8), count=st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_what_holds_of_every_metric(seed: int, dim: int, count: int) -> None:
    random = np.random.default_rng(seed)
    root = random.normal(size=(dim, 2))
    features, labels = random.normal(size=(count, dim)).astype(np.float32), random.integers(0, 3, count)
    scatter, freedom = deviations(features, labels)
    assert np.linalg.eigvalsh(scatter).min(initial=0) > -1e-9
    assert (np.trace(scatter) > 1e-9) <= (freedom > 0)
    order = random.permutation(count)
    np.testing.assert_allclose(deviations(features[order] * 3, labels[order])[0], scatter, atol=1e-6)
    within = (root @ root.T).astype(np.float32)
    metric = whitening(within, scatter, freedom)
    np.testing.assert_allclose(metric, np.triu(metric), atol=0)
    np.testing.assert_allclose(whitening(within * 7, scatter * 7, freedom), metric, rtol=1e-3, atol=1e-4)
    whole = (PRIOR_SHOTS * ((1 - SHRINKAGE) * within + SHRINKAGE * np.trace(within) / dim * np.eye(dim)) + scatter) / (
        (PRIOR_SHOTS + freedom) * np.trace(within) / dim
    )
    np.testing.assert_allclose(metric.T @ whole @ metric, np.eye(dim), atol=1e-3)


@pytest.mark.parametrize("labels", [[0, 1, 2], []])
def test_single_shots_say_nothing(labels: list[int]) -> None:
    scatter, freedom = deviations(np.full((len(labels), 2), 0.3, np.float32), np.array(labels, np.int64))
    assert (scatter.tolist(), freedom) == ([[0, 0], [0, 0]], 0)


def test_features_are_compared_from_the_mean_of_the_background() -> None:
    # 3 : 4 is 0.6, 0.8, less the mean 0.6, 0: 0, 0.8. 4 : 3 is 0.8, 0.6, less it: 0.2, 0.6, twice as wide 0.4, 0.6.
    background = Background(np.array([0.6, 0], np.float32), np.zeros((2, 2), np.float32))
    plain = Metric.of(background, np.array([[1, 0], [0, 1]], np.float32), np.array([0, 0]))
    assert plain.matrix.tolist() == [[1, 0], [0, 1]]
    np.testing.assert_allclose(plain(np.array([[3, 4], [8, 6]], np.float32)), [[0, 1], np.array([1, 3]) / 10**0.5], atol=1e-6)
    wide = Metric(background.mean, np.diag([2, 1]).astype(np.float32))
    np.testing.assert_allclose(wide(np.array([4, 3], np.float32)), np.array([0.4, 0.6]) / 0.52**0.5, atol=1e-6)
