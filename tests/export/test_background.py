from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sp_edge.bank.head import Head
from sp_edge.data.episodes import Features
from sp_edge.data.pictures import PictureSet
from sp_edge.errors import ExportError
from sp_edge.matching.metric import Background
from sp_edge.training.checkpoint import Checkpoint
from sp_edge_export.background import (
    _members,
    background_of,
    background_of_features,
    base_pictures,
    fit_calibration,
    simulated_bank,
)

D = 16
SPREAD = Background(np.zeros(D, np.float32), np.eye(D, dtype=np.float32))


def world(classes: int = 24, each: int = 10, noise: float = 0.5, seed: int = 0) -> tuple[Features, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    query = random.normal(size=(classes, D))[labels] + noise * random.normal(size=(len(labels), D))
    return Features(query.astype(np.float32), query.astype(np.float32)), labels


def test_the_probability_is_right_about_banks_it_has_not_seen() -> None:
    features, labels = world()
    background = background_of_features(features, labels)
    fitted = fit_calibration(features, labels, [np.arange(len(labels))], 0.0, background, banks=150)
    assert fitted.distance > 1
    other, owners = world(seed=1)
    random, known, unknown = np.random.default_rng(2), [], []
    for _ in range(60):
        order = random.permutation(24)
        shots = [np.flatnonzero(owners == c)[:3] for c in order[:5]]
        head = Head.of(simulated_bank(other, shots, 0.0), background, fitted)
        known += head.matches(other.query[[10 * c + 7 for c in order[:5]]])
        unknown += head.matches(other.query[[10 * c + 7 for c in order[5:10]]])
    assert np.mean([not found.unknown for found in known]) > 0.8
    assert np.mean([found.unknown for found in unknown]) > 0.8
    assert np.mean([found.confidence for found in known]) > 0.7
    assert np.mean([found.confidence for found in unknown]) < 0.3


def test_features_that_say_nothing_are_told_of(log: pytest.LogCaptureFixture) -> None:
    random = np.random.default_rng(0)
    noise = random.normal(size=(60, D)).astype(np.float32)
    fitted = fit_calibration(Features(noise, noise), np.arange(60) % 20, [np.arange(60)], 0.0, SPREAD, banks=60)
    assert fitted.distance < 1
    assert (
        0.3
        < 1 - fitted.threshold(Head.of(simulated_bank(Features(noise, noise), [np.arange(2)], 0.0), SPREAD, fitted).level)
        <= 2
    )


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3], [0, 0, 1, 2]])
def test_too_few_pictures(labels: list[int]) -> None:
    noise = np.random.default_rng(0).normal(size=(4, D)).astype(np.float32)
    with pytest.raises(ExportError, match="two classes with two pictures"):
        fit_calibration(Features(noise, noise), np.array(labels), [np.arange(4)], 0.0, SPREAD, banks=2)


def test_two_classes_are_enough() -> None:
    features, labels = world(classes=2, each=3)
    fitted = fit_calibration(features, labels, [np.arange(6)], 0.5, SPREAD, banks=20)
    assert fitted.temperature == pytest.approx(0.1)


def test_the_background_is_of_base_classes(checkpoint: Checkpoint) -> None:
    pictures = base_pictures(checkpoint)
    counts = np.bincount(pictures.labels)
    assert len(pictures) <= 1200
    assert counts.max() <= 4
    assert (counts > 1).sum() > 100
    few = pictures.labels < np.flatnonzero(counts > 1)[3] + 1
    small = type(pictures)(pictures.images[few], pictures.labels[few], pictures.class_names, {})
    background = background_of(checkpoint, small)
    within = background.within
    assert 0 < np.linalg.norm(background.mean) <= 1
    np.testing.assert_allclose(within, within.T)
    assert np.linalg.eigvalsh(within).min() > -1e-6
    one = type(pictures)(small.images[:1], small.labels[:1], pictures.class_names, {})
    with pytest.raises(ExportError, match="a class with two"):
        background_of(checkpoint, one)


def test_few_base_classes_give_more_pictures_each(monkeypatch: pytest.MonkeyPatch, checkpoint: Checkpoint) -> None:
    """Four of each would leave most of a covariance of 1,280 numbers unknown."""
    labels = np.repeat(np.arange(40), 50)
    images = np.zeros((len(labels), 2, 2, 3), np.uint8)
    names = tuple(f"class {number}" for number in range(40))
    pictures = PictureSet(images, labels, names, {})
    monkeypatch.setattr("sp_edge_export.background.sets.load_split", lambda *_: pictures)
    few = dataclasses.replace(checkpoint, classes={**checkpoint.classes, "train": names})
    assert np.bincount(base_pictures(few).labels).tolist() == [30] * 40


def test_members_have_company() -> None:
    found = _members(np.array([0, 1, 1, 2, 1, 0]), np.array([1, 2, 3, 5]))
    assert [rows.tolist() for rows in found] == [[1, 2]]
