from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from sp_edge.data.episodes import Features
from sp_edge.data.pictures import PictureSet
from sp_edge.errors import DataError
from sp_edge.model import build_network
from sp_edge.prompts.familiarity import Familiarity
from sp_edge.prompts.table import PromptTable, TextSpec
from sp_edge.settings.settings import ModelSettings
from sp_edge.training import text_prototype as module
from sp_edge.training.text_prototype import BaseClasses, fit_beyond, fit_ridge, fit_text_prototype


def test_what_is_explained_is_measured_on_the_class_left_out() -> None:
    rng = np.random.default_rng(0)
    text = rng.normal(size=(30, 6)) + 2
    prototypes = text @ rng.normal(size=(6, 4)) + 2 * rng.normal(size=(30, 4))
    weight, bias, fit = fit_ridge(text, prototypes)
    penalty = fit.ridge * np.square(text - text.mean(axis=0)).sum(axis=1).mean()
    np.testing.assert_allclose(
        text @ weight.T + bias, Ridge(alpha=penalty).fit(text, prototypes).predict(text), rtol=1e-6, atol=1e-6
    )
    wrong = guess = 0.0
    for out in range(30):
        kept = np.arange(30) != out
        predicted = Ridge(alpha=penalty).fit(text[kept], prototypes[kept]).predict(text[[out]])
        wrong += float(np.square(predicted - prototypes[out]).sum())
        guess += float(np.square(prototypes[kept].mean(axis=0) - prototypes[out]).sum())
    assert fit.explained == pytest.approx(1 - wrong / guess, abs=1e-6)
    assert 0.2 < fit.explained < 0.95


def test_names_that_tell_nothing_explain_nothing_and_move_nothing() -> None:
    rng = np.random.default_rng(0)
    prototypes = rng.normal(size=(40, 5)) + 3
    weight, bias, fit = fit_ridge(rng.normal(size=(40, 60)), prototypes)
    assert fit.explained < 0.05
    predicted = rng.normal(size=(9, 60)) @ weight.T + bias
    assert np.abs(predicted - prototypes.mean(axis=0)).max() < 0.2


@pytest.mark.parametrize("count", [0, 1, 2])
def test_two_classes_are_too_few(count: int) -> None:
    with pytest.raises(DataError, match="too few base classes"):
        fit_ridge(np.ones((count, 3)), np.ones((count, 2)))


def test_the_network_gets_the_fit_of_its_classes_mean_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features are known: class c's mean is a linear function of its text, so that the map must find it again."""
    rng = np.random.default_rng(1)
    names = tuple("abcdefghijkl")
    labels = np.repeat(np.arange(12), 3)[rng.permutation(36)]
    texts = rng.normal(size=(12, 4)).astype(np.float32)
    linear, offset = rng.normal(size=(192, 4)), rng.normal(size=192)
    noise = rng.normal(size=(36, 192))
    for label in range(12):
        noise[labels == label] -= noise[labels == label].mean(axis=0)
    features = (texts[labels] @ linear.T + offset + noise).astype(np.float32)
    monkeypatch.setattr(module, "encode", lambda *_: Features(features[module_rows(pictures, _[1])], features))
    pictures = PictureSet(
        np.arange(36, dtype=np.uint8)[:, None, None, None] * np.ones((36, 2, 2, 3), np.uint8), labels, names, {}
    )
    network = build_network(ModelSettings("visformer_mini", 64, layer="3-1", text_prototype=True), 4)
    assert network.text_prototype is not None
    assert network.text_share == 0, "until it is fitted, it says nothing"
    table = PromptTable(TextSpec("test", "0", "{name}", 1.0, 4), names[::-1], texts[::-1].copy())
    fit = fit_text_prototype(network, BaseClasses.of(network, pictures, table))
    assert fit.classes == 12
    assert fit.explained > 0.99
    assert network.familiarity is not None
    np.testing.assert_array_equal(network.familiarity.factor, Familiarity.of(texts).factor)
    unseen = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    expected = unseen.numpy() @ linear.T + offset
    np.testing.assert_allclose(network.text_prototype(unseen).detach().numpy(), expected, atol=0.05)


def module_rows(pictures: PictureSet, images: np.ndarray) -> np.ndarray:
    """Which pictures these are, by their grey value."""
    return images[:, 0, 0, 0].astype(int)


def test_of_a_large_class_some_pictures_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def encode(_network: object, images: np.ndarray, _prompts: object) -> Features:
        seen.append(len(images))
        return Features(np.ones((len(images), 192), np.float32), np.ones((len(images), 192), np.float32))

    monkeypatch.setattr(module, "encode", encode)
    labels = np.repeat([0, 1, 2], [100, 5, 70])
    pictures = PictureSet(np.zeros((175, 2, 2, 3), np.uint8), labels, ("a", "b", "c"), {})
    network = build_network(ModelSettings("visformer_mini", 64, layer="3-1", text_prototype=True), 4)
    vectors = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    table = PromptTable(TextSpec("test", "0", "{name}", 1.0, 4), ("a", "b", "c"), vectors)
    fit_text_prototype(network, BaseClasses.of(network, pictures, table))
    assert seen == [64 + 5 + 64]


def test_features_that_are_no_numbers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = np.full((6, 192), np.inf, np.float32)
    monkeypatch.setattr(module, "encode", lambda *_: Features(wrong, wrong))
    pictures = PictureSet(np.zeros((6, 2, 2, 3), np.uint8), np.arange(6) // 2, ("a", "b", "c"), {})
    network = build_network(ModelSettings("visformer_mini", 64, layer="3-1", text_prototype=True), 4)
    table = PromptTable(TextSpec("test", "0", "{name}", 1.0, 4), ("a", "b", "c"), np.eye(3, 4, dtype=np.float32))
    with pytest.raises(DataError, match="not finite"):
        fit_text_prototype(network, BaseClasses.of(network, pictures, table))


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e12])
def test_vectors_of_any_length_with_one_picture_a_class_give_numbers(monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(3, 192)).astype(np.float32)
    monkeypatch.setattr(module, "encode", lambda *_: Features(features, features))
    pictures = PictureSet(np.zeros((3, 2, 2, 3), np.uint8), np.arange(3), ("a", "b", "c"), {})
    network = build_network(ModelSettings("visformer_mini", 64, layer="3-1", text_prototype=True), 4)
    assert network.text_prototype is not None
    vectors = (scale * rng.normal(size=(3, 4))).astype(np.float32)
    table = PromptTable(TextSpec("test", "0", "{name}", 1.0, 4), ("a", "b", "c"), vectors)
    fit = fit_text_prototype(network, BaseClasses.of(network, pictures, table))
    told = network.text_prototype(torch.from_numpy(vectors)).detach().numpy()
    assert np.abs(told).max() < 2 * np.abs(features).max()
    assert fit.explained <= 1


def test_what_a_map_of_many_names_says_stays_and_base_classes_add_the_rest() -> None:
    rng = np.random.default_rng(0)
    many, added = rng.normal(size=(6, 8)), np.zeros((6, 8))
    added[:, 0] = 2 * rng.normal(size=6)  # of what the first number says, the map of many names knows nothing
    many[:, 0] = 0
    text = rng.normal(size=(60, 8))
    weight, bias, fit = fit_beyond((many / 3, np.ones(6)), text, text @ (many + added).T - 5)
    assert weight == pytest.approx(many + added, abs=0.05)
    assert bias == pytest.approx(np.full(6, -5), abs=0.05)
    assert fit.explained > 0.99


def test_few_classes_leave_what_other_names_look_like() -> None:
    """Four names span little of 60 directions: alone they say nothing of others, beside a map of many they spoil nothing."""
    rng = np.random.default_rng(1)
    true = rng.normal(size=(5, 60))
    few, others = rng.normal(size=(4, 60)), rng.normal(size=(50, 60))
    wanted = few @ true.T
    beyond, alone = fit_beyond((true / 2, np.zeros(5)), few, wanted), fit_ridge(few, wanted)
    errors = [np.square(others @ (weight - true).T + bias).mean() for weight, bias, _ in (beyond, alone)]
    assert errors[0] < 0.01 * errors[1]
    assert beyond[2].explained > 0.99
    assert alone[2].explained < 0.5


def test_a_map_that_contradicts_the_pictures_counts_for_nothing() -> None:
    rng = np.random.default_rng(2)
    text, true = rng.normal(size=(40, 4)), rng.normal(size=(3, 4))
    found, expected = fit_beyond((-true, np.zeros(3)), text, text @ true.T), fit_ridge(text, text @ true.T)
    for one, other in zip(found[:2], expected[:2], strict=True):
        np.testing.assert_array_equal(one, other)
    assert found[2] == dataclasses.replace(expected[2], factor=0.0)
