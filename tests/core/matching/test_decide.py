from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sp_edge.matching.decide import Match, cosine, known_probability, match, prototype, row_cosines, share, unit
from sp_edge.matching.label import UNKNOWN

COSINES = hnp.arrays(np.float32, st.integers(1, 12), elements=st.floats(-1, 1, width=32))
DISTINCT = st.lists(st.integers(-100, 100), min_size=2, max_size=12, unique=True).map(lambda v: np.array(v, np.float32) / 100)


def vectors(rows: int | None = None) -> st.SearchStrategy[np.ndarray]:
    shape = st.tuples(st.integers(1, 6) if rows is None else st.just(rows), st.just(5))
    return hnp.arrays(np.float32, shape, elements=st.floats(-100, 100, width=16))


def names(count: int) -> list[str]:
    return [f"class {i}" for i in range(count)]


# --- by hand ---


def test_a_prototype_is_the_mean_of_raw_features() -> None:
    features = np.array([[10, 0], [0, 1], [2, 2]], np.float32)
    assert prototype(features).tolist() == [4.0, 1.0]
    assert prototype(features).dtype == np.float32


@pytest.mark.parametrize(
    ("strength", "shots", "expected"),
    [(0.8, 1, 0.8), (0.8, 5, 4 / 9), (0.5, 1, 0.5), (0.5, 3, 0.25), (0.2, 4, 1 / 17), (0.0, 5, 0.0), (1.0, 7, 1.0)],
)
def test_the_prompts_share_by_hand(strength: float, shots: int, expected: float) -> None:
    # 0.8 / (0.8 + 0.2 * 5) = 0.8 / 1.8 = 4 / 9
    assert share(strength, shots) == pytest.approx(expected, abs=1e-12)


def test_unit_vectors_by_hand() -> None:
    result = unit(np.array([[3, 4], [0, -2], [0, 0]], np.float32))
    np.testing.assert_allclose(result, [[0.6, 0.8], [0, -1], [0, 0]], atol=1e-7)
    assert result.dtype == np.float32
    np.testing.assert_allclose(unit(np.array([3, 4], np.float32)), [0.6, 0.8], atol=1e-7)


def test_large_numbers_do_not_overflow() -> None:
    large = np.array([[3e30, -4e30], [3e38, 3e38]], np.float32)
    np.testing.assert_allclose(unit(large), [[0.6, -0.8], [0.70710678, 0.70710678]], atol=1e-6)
    assert prototype(np.full((4, 1), 3e38, np.float32)).tolist() == [np.float32(3e38)]


def test_cosines_by_hand() -> None:
    queries = np.array([[1, 0], [0, 0]], np.float32)
    prototypes = np.array([[1, 1], [0, 2], [-3, 0]], np.float32)
    np.testing.assert_allclose(cosine(queries, prototypes), [[0.70710678, 0, -1], [0, 0, 0]], atol=1e-6)


def test_a_match_by_hand() -> None:
    found = match(
        np.array([0.2, 0.6, 0.4], np.float32),
        ["a", "b", "c"],
        np.array([0.9, 0.5, 0.9], np.float32),
        temperature=0.2,
        sharpness=4,
        topk=2,
    )
    assert (found.label, found.name, found.unknown) == ("b", "b", False)
    assert found.similarity == pytest.approx(0.6)
    assert found.margin == pytest.approx(0.2)
    # distance 0.4 at a threshold of 0.5: 1 / (1 + (0.4 / 0.5)^4) = 0.709421
    chances = 0.7094211 * np.exp([1, 3, 2]) / np.exp([1, 3, 2]).sum()
    assert found.confidence == pytest.approx(chances[1], abs=1e-6)
    assert [name for name, _ in found.top] == ["b", "c"]
    assert [chance for _, chance in found.top] == pytest.approx([chances[1], chances[2]], abs=1e-6)


@pytest.mark.parametrize(("threshold", "label"), [(0.4999, "a"), (0.5, "a"), (0.5001, UNKNOWN), (2.0, UNKNOWN), (-1.0, "a")])
def test_the_threshold_of_the_best_class_decides(threshold: float, label: str) -> None:
    thresholds = np.array([threshold, 0.0 if label == UNKNOWN else 0.99], np.float32)
    found = match(np.array([0.5, 0.3], np.float32), ["a", "b"], thresholds, temperature=0.2, sharpness=4)
    assert (found.label, found.name, found.unknown) == (label, "a", label == UNKNOWN)
    assert found.top[0][0] == "a"
    softmax = 1 / (1 + np.exp(-1))
    assert found.confidence == pytest.approx(softmax * known_probability(0.5, threshold, 4), abs=1e-6)


@pytest.mark.parametrize(("threshold", "margin", "unknown"), [(0.3, 0.2, False), (0.9, -0.4, True)])
def test_one_class_is_measured_against_its_threshold(threshold: float, margin: float, unknown: bool) -> None:
    found = match(np.array([0.5], np.float32), ["only"], np.array([threshold], np.float32), temperature=0.2, sharpness=4)
    known = 1 / (1 + (0.5 / (1 - threshold)) ** 4)
    assert found.confidence == pytest.approx(known, abs=1e-6)
    assert found.margin == pytest.approx(margin, abs=1e-6)
    assert found.unknown is unknown
    assert found.top == (("only", found.confidence),)


@pytest.mark.parametrize(
    ("similarity", "threshold", "sharpness", "expected"),
    [
        (0.5, 0.5, 3, 0.5),
        (0.8, 0.6, 1, 2 / 3),
        (0.8, 0.6, 2, 0.8),
        (0.6, 0.8, 2, 0.2),
        (1.0, 0.5, 4, 1.0),
        (-1.0, -1.0, 4, 0.5),
    ],
)
def test_the_probability_of_known_by_hand(similarity: float, threshold: float, sharpness: float, expected: float) -> None:
    # 1 / (1 + (0.2 / 0.4)^2) = 1 / 1.25 = 0.8
    assert known_probability(similarity, threshold, sharpness) == pytest.approx(expected, abs=1e-6)


def test_nan_never_passes() -> None:
    for threshold in (-1.0, 0.5, float("nan")):
        found = match(np.array([np.nan], np.float32), ["a"], np.array([threshold], np.float32), temperature=0.2, sharpness=4)
        assert (found.label, found.confidence, found.top) == (UNKNOWN, 0.0, (("a", 0.0),))
    found = match(np.array([0.9], np.float32), ["a"], np.array([np.nan], np.float32), temperature=0.2, sharpness=4)
    assert found.unknown


def test_cosines_row_by_row_are_the_diagonal_of_all_with_all() -> None:
    ours, theirs = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32)
    expected = np.stack([np.diag(cosine(a, b)) for a, b in zip(ours, theirs, strict=True)])
    np.testing.assert_allclose(row_cosines(ours, theirs), expected, atol=1e-6)


def test_another_classifier_chooses_and_the_cosine_decides() -> None:
    similarities, logits = np.array([0.6, 0.5], np.float32), np.log(np.array([3, 7], np.float32))
    found = match(similarities, ["a", "b"], np.array([0.4, 0.55], np.float32), temperature=0.2, sharpness=4, logits=logits)
    assert (found.label, found.name) == (UNKNOWN, "b")
    assert found.similarity == pytest.approx(0.5)
    assert found.margin == pytest.approx(-0.1)
    known = known_probability(0.5, 0.55, 4)
    assert found.confidence == pytest.approx(0.7 * known, abs=1e-6)
    assert [name for name, _ in found.top] == ["b", "a"]
    assert [chance for _, chance in found.top] == pytest.approx([0.7 * known, 0.3 * known], abs=1e-6)


def test_without_a_class_everything_is_unknown() -> None:
    none = np.zeros(0, np.float32)
    assert match(none, [], none, temperature=0.2, sharpness=4) == Match(UNKNOWN, "", 0.0, -1.0, 0.0, ())
    assert cosine(np.ones((2, 4), np.float32), np.zeros((0, 4), np.float32)).shape == (2, 0)


def test_of_equals_the_class_taught_first_counts() -> None:
    found = match(np.array([0.1, 0.7, 0.7, 0.7], np.float32), names(4), np.zeros(4, np.float32), temperature=0.2, sharpness=4)
    assert found.label == "class 1"
    assert found.margin == 0.0
    assert [name for name, _ in found.top] == ["class 1", "class 2", "class 3", "class 0"]


def test_of_many_equals_the_class_taught_first_counts() -> None:
    similarities = np.full(300, 0.5, np.float32)
    similarities[:7] = 0.1
    found = match(similarities, names(300), np.zeros(300, np.float32), temperature=0.2, sharpness=4, topk=3)
    assert [name for name, _ in found.top] == ["class 7", "class 8", "class 9"]


@given(seed=st.integers(0, 999), count=st.integers(1, 900), topk=st.integers(1, 12), nan=st.booleans())
@settings(deadline=None, max_examples=100)
def test_of_many_the_nearest_come_first(seed: int, count: int, topk: int, nan: bool) -> None:
    random = np.random.default_rng(seed)
    similarities = random.integers(-40, 41, count).astype(np.float32) / 40  # many are equal
    if nan:
        similarities[:] = np.nan  # of a broken feature, all are
    found = match(similarities, names(count), np.zeros(count, np.float32), temperature=0.2, sharpness=4, topk=topk)
    order = list(range(count)) if nan else sorted(range(count), key=lambda i: (-similarities[i], i))
    assert [name for name, _ in found.top] == [names(count)[i] for i in order[:topk]]


def test_a_picture_without_features_is_not_believed() -> None:
    similarities = cosine(np.zeros((1, 3), np.float32), np.eye(3, dtype=np.float32))[0]
    found = match(similarities, names(3), np.full(3, 0.2, np.float32), temperature=0.2, sharpness=4)
    assert found.unknown
    assert found.confidence == pytest.approx(1 / 3 / (1 + (1 / 0.8) ** 4), abs=1e-6)


def test_a_match_is_a_value() -> None:
    found = match(np.array([0.5], np.float32), ["only"], np.zeros(1, np.float32), temperature=0.2, sharpness=4)
    assert [type(v) for v in dataclasses.astuple(found)] == [str, str, float, float, float, tuple]
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.label = "other"  # type: ignore[misc]


# --- properties ---


@given(similarities=COSINES, temperature=st.floats(0.001, 100))
@settings(deadline=None, max_examples=60)
def test_the_classes_together_have_the_probability_that_any_was_taught(similarities: np.ndarray, temperature: float) -> None:
    count = len(similarities)
    found = match(
        similarities, names(count), np.zeros(count, np.float32), temperature=temperature, sharpness=4, topk=count
    )  # fmt: skip
    known = known_probability(found.similarity, 0.0, 4)
    assert sum(chance for _, chance in found.top) == pytest.approx(known, rel=1e-5)
    assert all(0 <= chance <= known for _, chance in found.top)


@given(strength=st.floats(0, 1), shots=st.integers(1, 100))
@settings(deadline=None, max_examples=100)
def test_the_prompts_share_falls_with_every_picture(strength: float, shots: int) -> None:
    assert share(strength, 1) == pytest.approx(strength, abs=1e-12)
    assert 0 <= share(strength, shots + 1) <= share(strength, shots) <= 1
    if 1e-6 < strength < 1 - 1e-6:
        assert share(strength, shots + 1) < share(strength, shots)
        odds, one = (value / (1 - value) for value in (share(strength, shots), strength))
        assert odds * shots == pytest.approx(one, rel=1e-6), "K pictures outweigh the prompt K times as much"
        assert share(strength, 10**12) == pytest.approx(0, abs=1e-5)


@given(a=vectors(), b=vectors(), scale=st.floats(0.01, 100))
@settings(deadline=None, max_examples=60)
def test_a_cosine_knows_no_length(a: np.ndarray, b: np.ndarray, scale: float) -> None:
    a, b = np.where(np.abs(a) < 0.01, 0, a), np.where(np.abs(b) < 0.01, 0, b)
    result = cosine(a, b)
    assert result.shape == (len(a), len(b))
    assert (np.abs(result) <= 1 + 1e-6).all()
    np.testing.assert_allclose(cosine(a * np.float32(scale), b), result, atol=1e-5)
    np.testing.assert_allclose(cosine(b, a).T, result, atol=1e-5)
    np.testing.assert_allclose(cosine(-a, b), -result, atol=1e-6)
    expected = [[x @ y / max(np.linalg.norm(x) * np.linalg.norm(y), 1e-12) for y in b.astype(float)] for x in a.astype(float)]
    np.testing.assert_allclose(result, expected, atol=1e-5)


@given(features=vectors())
@settings(deadline=None, max_examples=30)
def test_every_length_is_one_or_zero(features: np.ndarray) -> None:
    features = np.where(np.abs(features) < 0.01, 0, features)
    lengths = np.linalg.norm(unit(features), axis=1)
    np.testing.assert_allclose(lengths, (features != 0).any(axis=1).astype(float), atol=1e-5)


@given(similarities=DISTINCT, topk=st.integers(1, 15), data=st.data())
@settings(deadline=None, max_examples=60)
def test_the_order_in_which_classes_were_taught_does_not_matter(
    similarities: np.ndarray, topk: int, data: st.DataObject
) -> None:
    count = len(similarities)
    thresholds = np.array(data.draw(st.lists(st.floats(-1, 1, width=32), min_size=count, max_size=count)), np.float32)
    order = np.array(data.draw(st.permutations(range(count))))
    one = match(similarities, names(count), thresholds, temperature=0.2, sharpness=4, topk=topk)
    shuffled = [names(count)[i] for i in order]
    other = match(similarities[order], shuffled, thresholds[order], temperature=0.2, sharpness=4, topk=topk)
    assert [name for name, _ in one.top] == [name for name, _ in other.top]
    assert (one.label, one.name, one.similarity, one.margin) == (other.label, other.name, other.similarity, other.margin)
    assert one.confidence == pytest.approx(other.confidence, abs=1e-6)


@given(similarities=COSINES, topk=st.integers(1, 15), temperature=st.floats(0.01, 10), threshold=st.floats(-1, 1, width=32))
@settings(deadline=None, max_examples=60)
def test_a_match_holds_together(similarities: np.ndarray, topk: int, temperature: float, threshold: float) -> None:
    count = len(similarities)
    thresholds = np.full(count, threshold, np.float32)
    found = match(similarities, names(count), thresholds, temperature=temperature, sharpness=4, topk=topk)
    best = int(similarities.argmax())
    assert found.name == f"class {best}"
    assert found.similarity == similarities[best]
    assert found.unknown == (similarities[best] < np.float32(threshold))
    assert found.label == (UNKNOWN if found.unknown else found.name)
    assert len(found.top) == min(topk, count)
    assert found.top[0] == (found.name, found.confidence)
    chances = [chance for _, chance in found.top]
    assert chances == sorted(chances, reverse=True)
    second = np.sort(similarities)[-2] if count > 1 else np.float32(threshold)
    assert found.margin == pytest.approx(float(similarities[best] - second), abs=1e-6)
