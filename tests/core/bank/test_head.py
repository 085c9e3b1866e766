from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from sp_edge.bank import head as bank_head
from sp_edge.bank.bank import Bank
from sp_edge.bank.head import Head
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import SettingsError
from sp_edge.matching.metric import whitening

D = 6


def picture(count: int) -> list[bytes]:
    return [b"picture"] * count


def bank_of(bundle: Bundle, shots: dict[str, np.ndarray]) -> Bank:
    bank = Bank.empty(bundle)
    for name, features in shots.items():
        bank = bank.add(name, np.zeros(4, np.float32), features, features, picture(len(features)))
    return bank


def head_of(bundle: Bundle, bank: Bank, **options: object) -> Head:
    return Head.of(bank, bundle.background(), bundle.manifest.calibration, **options)  # type: ignore[arg-type]


def some(seed: int, classes: int = 4, most: int = 4) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        f"class {c}": (random.normal(size=D) * 2 + random.normal(size=(random.integers(1, most + 1), D))).astype(np.float32)
        for c in range(classes)
    }


def test_the_nearest_prototype_in_the_metric(bundle: Bundle) -> None:
    shots = some(0)
    head = head_of(bundle, bank_of(bundle, shots))
    means = {name: features.astype(np.float64).mean(axis=0) for name, features in shots.items()}
    units = [row / np.linalg.norm(row) for features in shots.values() for row in features.astype(np.float64)]
    owners = np.repeat(np.arange(4), [len(f) for f in shots.values()])
    scatter, freedom = np.zeros((D, D)), 0
    for c in range(4):
        own = np.array([u for u, o in zip(units, owners, strict=True) if o == c])
        scatter += (own - own.mean(0)).T @ (own - own.mean(0))
        freedom += len(own) - 1
    background = bundle.background()
    metric = whitening(background.within, scatter, freedom).astype(np.float64)

    def seen(feature: np.ndarray) -> np.ndarray:
        row = (feature / np.linalg.norm(feature) - background.mean) @ metric
        return np.asarray(row / np.linalg.norm(row))

    query = np.random.default_rng(9).normal(size=(3, D)).astype(np.float32)
    expected = [[seen(a) @ seen(m) for m in means.values()] for a in query.astype(np.float64)]
    np.testing.assert_allclose(head.similarities(query), expected, atol=1e-5)
    for found, row in zip(head.matches(query), expected, strict=True):
        assert found.name == f"class {int(np.argmax(row))}"
        assert found.unknown == (max(row) < head.thresholds[0])
    assert head.prototypes.flags.f_contiguous
    assert head.prototypes.dtype == np.float32


def test_a_threshold_that_was_set_stays_and_the_others_follow_the_bank(bundle: Bundle) -> None:
    shots = some(1)
    bank = bank_of(bundle, {n: shots[n] for n in ("class 0", "class 1")}).with_threshold("class 0", 0.75)
    before = head_of(bundle, bank).thresholds
    after = head_of(
        bundle, bank.add("class 2", np.zeros(4, np.float32), shots["class 2"], shots["class 2"], picture(len(shots["class 2"])))
    )
    assert (before[0], after.thresholds[0]) == (0.75, 0.75)
    assert after.thresholds[1] == after.thresholds[2] != before[1]
    assert head_of(bundle, bank, threshold=0.1).thresholds.tolist() == pytest.approx([0.1, 0.1])


def test_logistic_regression_is_that_of_scikit_learn(bundle: Bundle) -> None:
    shots = some(2, most=6)
    bank = bank_of(bundle, shots)
    head = head_of(bundle, bank, classifier="lr")
    query = np.random.default_rng(3).normal(size=(8, D)).astype(np.float32)
    seen = [head.metric(features) for features in (bank.query, query)]
    model = LogisticRegression(C=1.0, class_weight="balanced", tol=1e-10, max_iter=20_000).fit(seen[0], bank.owners)
    chances = model.predict_proba(seen[1])
    for found, row in zip(head.matches(query, topk=4), chances, strict=True):
        assert found.name == f"class {row.argmax()}"
        shares = dict(found.top)
        total = sum(shares.values())
        np.testing.assert_allclose([shares[n] / total for n in bank.names], row, atol=5e-4)


@pytest.mark.parametrize("classifier", ["prototype", "lr"])
def test_one_class_and_none(bundle: Bundle, classifier: str) -> None:
    query = np.ones((2, D), np.float32)
    empty = head_of(bundle, Bank.empty(bundle), classifier=classifier)
    assert [found.label for found in empty.matches(query)] == ["unknown", "unknown"]
    one = head_of(bundle, bank_of(bundle, {"only": np.ones((1, D), np.float32)}), classifier=classifier)
    near, far = one.matches(np.stack([query[0], -query[0]]))
    assert (near.label, far.label, far.name) == ("only", "unknown", "only")
    assert near.confidence > 0.9
    assert far.confidence < 0.5


def test_what_cannot_be_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="unknown classifier"):
        head_of(bundle, Bank.empty(bundle), classifier="svm")
    monkeypatch.setattr(bank_head, "MOST_FITTED", 1)
    with pytest.raises(SettingsError, match="too many classes"):
        head_of(bundle, bank_of(bundle, some(0, classes=2)), classifier="lr")


@given(seed=st.integers(0, 999), classifier=st.sampled_from(["prototype", "lr"]))
@settings(deadline=None, max_examples=20)
def test_the_order_of_enrolment_does_not_matter(bundle: Bundle, seed: int, classifier: str) -> None:
    shots = some(seed)
    query = np.random.default_rng(seed + 1).normal(size=(3, D)).astype(np.float32)
    one = head_of(bundle, bank_of(bundle, shots), classifier=classifier)
    other = head_of(bundle, bank_of(bundle, dict(reversed(shots.items()))), classifier=classifier)
    assert one.thresholds.tolist() == pytest.approx(other.thresholds[::-1].tolist(), abs=1e-5)
    for left, right in zip(one.matches(query), other.matches(query), strict=True):
        assert left.confidence == pytest.approx(right.confidence, abs=1e-4)
        assert dict(left.top) == pytest.approx(dict(right.top), abs=1e-4)


@pytest.mark.parametrize("classifier", ["prototype", "lr"])
@pytest.mark.parametrize("case", ["zeros", "twice the same", "huge"])
def test_degenerate_shots_give_numbers(bundle: Bundle, case: str, classifier: str) -> None:
    features = {"zeros": np.zeros((2, D)), "twice the same": np.ones((2, D)), "huge": np.full((2, D), 3e38)}[case]
    bank = bank_of(bundle, {"a": features.astype(np.float32), "b": np.eye(2, D, dtype=np.float32)})
    head = head_of(bundle, bank, classifier=classifier)
    assert np.isfinite(head.thresholds).all()
    for found in head.matches(np.stack([np.zeros(D), np.ones(D), np.eye(D)[0]]).astype(np.float32)):
        assert np.isfinite([found.confidence, found.similarity, found.margin]).all()
        assert 0 <= found.confidence <= 1


def test_nan_never_passes(bundle: Bundle) -> None:
    for classifier in ("prototype", "lr"):
        head = head_of(bundle, bank_of(bundle, some(0)), classifier=classifier)
        found = head.matches(np.full((1, D), np.nan, np.float32))[0]
        assert (found.label, found.confidence) == ("unknown", 0.0)
