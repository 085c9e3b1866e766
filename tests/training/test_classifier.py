from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sp_edge.accuracy import Accuracy
from sp_edge.data.episodes import EpisodeSampler, Features
from sp_edge.training.classifier import CLASSIFIERS, episode_scores, logistic_regression, nearest_prototype

LABELS = np.repeat([3, 7, 8, 10, 20], [6, 5, 9, 5, 30])[np.random.default_rng(0).permutation(55)]
FIVE_WAY = {"n_way": 5, "n_shot": 1, "n_query": 4}


def features(query: np.ndarray, support: np.ndarray) -> Features:
    return Features(query.astype(np.float32), support.astype(np.float32))


def floats(*values: Any) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def accuracy(given: Features, labels: np.ndarray, *, episodes: int, seed: int = 0, **episode: int) -> Accuracy:
    return Accuracy.of(episode_scores(given, EpisodeSampler(labels, seed=seed, **episode).episodes(episodes)))


# --- the nearest prototype ---


def test_the_nearest_prototype_in_numbers() -> None:
    """Prototypes (3, 1) and (0, 2): the query (1, 0.9) has cosines 0.916 and 0.669, (1, 2) has 0.707 and 0.894."""
    support = floats([[[4, 0], [2, 2]], [[0, 1], [0, 3]]])
    assert nearest_prototype(support, floats([[1, 0.9], [1, 2]])).tolist() == [[0, 1]]


def test_lengths_of_prototypes_and_queries_decide_nothing() -> None:
    support = floats([[[100, 100]], [[0, 0.1]]])
    assert nearest_prototype(support, floats([[1, 4], [300, 200], [0.001, 0.004]])).tolist() == [[1, 0, 1]]


def test_shots_are_averaged_before_they_are_normalised() -> None:
    """(9, 0) and (0, 1): the mean of the raw shots points along the first; of normalised ones, between both."""
    support = floats([[[9, 0], [0, 1]], [[1, 1], [1, 1]]])
    assert nearest_prototype(support, floats([[1, 0.3]])).tolist() == [[0]]


# --- logistic regression ---


def test_logistic_regression_in_numbers() -> None:
    """Two ways, at 0 and 90 degrees: by symmetry the border is at 45."""
    support = floats([[[1, 0], [2, 0]], [[0, 3], [0, 1]]])
    assert logistic_regression(support, floats([[5, 4.9], [0.1, 0.2], [4.9, 5]])).tolist() == [[0, 1, 1]]


def test_logistic_regression_minimises_the_penalised_loss() -> None:
    """sum of -log softmax + |W|^2 / (2 C), C = 1, without penalty on the bias, minimised here by plain gradient descent."""
    rng = np.random.default_rng(0)
    support, query = rng.normal(size=(1, 3, 4, 2)).astype(np.float32), rng.normal(size=(1, 200, 2)).astype(np.float32)
    x = (support / np.linalg.norm(support, axis=-1, keepdims=True)).reshape(12, 2).astype(np.float64)
    target = np.eye(3).repeat(4, axis=0)
    weight, bias = np.zeros((2, 3)), np.zeros(3)
    for _ in range(5000):
        exponent = np.exp(x @ weight + bias)
        error = exponent / exponent.sum(axis=1, keepdims=True) - target
        weight -= 0.05 * (x.T @ error + weight)
        bias -= 0.05 * error.sum(axis=0)
    asked = query[0] / np.linalg.norm(query[0], axis=-1, keepdims=True)
    expected = (asked @ weight + bias).argmax(axis=1)
    assert np.mean(logistic_regression(support, query)[0] == expected) >= 0.99, "but for a query on a border"
    assert len(set(expected.tolist())) == 3


def test_logistic_regression_sees_more_than_the_mean() -> None:
    """Both ways have the mean (1, 0), up to length; they differ in which side their many shots are on."""
    rng = np.random.default_rng(0)
    angles = np.stack([rng.uniform(0.1, 0.9, 30), rng.uniform(-0.9, -0.1, 30)])
    support = np.stack([np.cos(angles), np.sin(angles)], axis=-1)[None].astype(np.float32)
    found = logistic_regression(support, floats([[1, 0.3], [1, -0.3]]))
    assert found.tolist() == [[0, 1]]


# --- episodes ---


def test_every_classifier_of_the_settings_is_there() -> None:
    assert dict(CLASSIFIERS) == {"cosine": nearest_prototype, "lr": logistic_regression}


def test_features_that_tell_the_classes_apart_score_one() -> None:
    one_hot = np.eye(21)[LABELS]
    assert accuracy(features(one_hot, one_hot * 9), LABELS, episodes=20, **FIVE_WAY) == Accuracy(1.0, 0.0, 20)


def test_features_that_say_nothing_score_chance() -> None:
    noise = np.random.default_rng(0).normal(size=(2, len(LABELS), 16))
    assert accuracy(features(*noise), LABELS, episodes=300, **FIVE_WAY).mean == pytest.approx(0.2, abs=0.05)


def test_support_is_encoded_with_the_prompt_and_queries_without() -> None:
    one_hot, turned = np.eye(21)[LABELS], np.roll(np.eye(21), 1, axis=0)[LABELS]
    assert accuracy(features(one_hot, turned), LABELS, episodes=5, **FIVE_WAY).mean < 0.7, "7 is taken for 8"
    assert accuracy(features(turned, turned), LABELS, episodes=5, **FIVE_WAY).mean == 1


@pytest.mark.parametrize("episodes", [5, 64, 130])
def test_scores_are_those_of_every_episode_on_its_own(episodes: int) -> None:
    noise = np.random.default_rng(1).normal(size=(2, len(LABELS), 4))
    sampler = EpisodeSampler(LABELS, n_way=2, n_shot=2, n_query=2, seed=3)
    scores = episode_scores(features(*noise), sampler.episodes(episodes))
    expected = []
    for index in range(episodes):
        episode = sampler.episode(index)
        right = 0
        for way, queries in enumerate(episode.query):
            for picture in queries:
                one, others = noise[0][picture], noise[1][episode.support].mean(axis=1)
                right += int((others @ one / np.linalg.norm(others, axis=1)).argmax()) == way
        expected.append(right / 4)
    np.testing.assert_array_equal(scores, expected)
    assert 0 < np.mean(expected) < 1


def test_every_view_of_a_support_picture_is_a_shot() -> None:
    rng = np.random.default_rng(2)
    query, views = rng.normal(size=(55, 4)), rng.normal(size=(55, 3, 4))
    stack = EpisodeSampler(LABELS, n_way=3, n_shot=2, n_query=2, seed=0).episodes(20)
    shapes: list[tuple[int, ...]] = []

    def classify(support: np.ndarray, asked: np.ndarray) -> np.ndarray:
        shapes.extend([support.shape, asked.shape])
        return nearest_prototype(support, asked)

    scores = episode_scores(features(query, views), stack, classify)
    assert shapes == [(20, 3, 6, 4), (20, 6, 4)]
    np.testing.assert_array_equal(scores, episode_scores(features(query, views.mean(axis=1)), stack))
