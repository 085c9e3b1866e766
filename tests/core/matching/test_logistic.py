from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from sp_edge.matching.logistic import fit


def examples(classes: int, shots: int, dim: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    features = random.normal(size=(classes * shots, dim)) + np.repeat(random.normal(size=(classes, dim)), shots, axis=0)
    return features / np.linalg.norm(features, axis=1, keepdims=True), np.repeat(np.arange(classes), shots)


@given(
    classes=st.integers(2, 6), shots=st.integers(1, 5), dim=st.integers(1, 12), c=st.sampled_from([0.1, 1.0, 30.0]),
    seed=st.integers(0, 999), balanced=st.booleans(),
)  # fmt: skip
@settings(deadline=None, max_examples=40)
def test_agrees_with_scikit_learn(classes: int, shots: int, dim: int, c: float, seed: int, balanced: bool) -> None:
    features, labels = examples(classes, shots, dim, seed)
    kept = np.flatnonzero((labels > 0) | (np.arange(len(labels)) == 0))  # one example of the first class
    features, labels = features[kept], labels[kept]
    weights, intercepts = fit(features, labels, c=c, balanced=balanced)
    model = LogisticRegression(C=c, class_weight="balanced" if balanced else None, tol=1e-10, max_iter=20_000).fit(
        features, labels
    )
    ours = features @ weights.T + intercepts
    ours = np.exp(ours - ours.max(axis=1, keepdims=True))
    np.testing.assert_allclose(ours / ours.sum(axis=1, keepdims=True), model.predict_proba(features), atol=1e-5)
    theirs = model.coef_ if classes > 2 else np.vstack([0 * model.coef_, model.coef_])
    np.testing.assert_allclose(weights, theirs, atol=1e-4)


def test_one_number_by_hand() -> None:
    # Two classes at -1 and 1: the slope w minimises 2 ln(1 + e^-w) + w^2 / 2, so w = 2 / (1 + e^w).
    weights, intercepts = fit(np.array([[-1.0], [1.0]]), np.array([0, 1]))
    slope = weights[1, 0]
    assert slope == pytest.approx(2 / (1 + np.exp(slope)), abs=1e-6)
    assert weights[0, 0] == 0
    assert intercepts == pytest.approx([0, 0])


def test_one_class_and_equal_examples_say_nothing() -> None:
    weights, intercepts = fit(np.ones((3, 2)), np.zeros(3, np.int64))
    assert (weights.tolist(), intercepts.tolist()) == ([[0, 0]], [0])
    weights, intercepts = fit(np.zeros((4, 2)), np.array([0, 0, 1, 1]))
    assert np.abs(weights).max() == 0
    assert intercepts == pytest.approx([0, 0])


def test_more_examples_of_a_class_make_it_likelier() -> None:
    _, intercepts = fit(np.zeros((4, 2)), np.array([0, 1, 1, 1]))
    assert intercepts[1] - intercepts[0] == pytest.approx(np.log(3), abs=1e-5)
