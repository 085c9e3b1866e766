from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

import toy
from sp_edge.bank.head import Head
from sp_edge.bank.views import views
from sp_edge.bundle.bundle import Bundle
from sp_edge.data.episodes import Episode, EpisodeSampler, Features
from sp_edge.matching.metric import Background
from sp_edge.matching.unknown import Calibration
from sp_edge.preprocess import Preprocess
from sp_edge_export.background import background_of_features, simulated_bank

RNG = np.random.default_rng(0)
CLASSES, EACH, D = 6, 14, 12


@pytest.fixture(scope="module")
def photos(open_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return open_benchmark("photos")


@pytest.fixture
def features() -> np.ndarray:
    """float32 (n, V, D), not below zero, as a network's last ReLU gives them."""
    centres = RNG.random((CLASSES, 1, 1, D)) * 2
    return np.abs(centres + 0.5 * RNG.normal(size=(CLASSES, EACH, 10, D))).reshape(-1, 10, D).astype(np.float32)


def episode_of(labels: np.ndarray, shots: int) -> Episode:
    return EpisodeSampler(labels, n_way=3, n_shot=shots, n_query=10, seed=0).episode(0)


@pytest.mark.parametrize("shots", [1, 3])
def test_the_last_metrics_rows_are_what_the_runtime_decides(photos: ModuleType, features: np.ndarray, shots: int) -> None:
    labels = np.arange(CLASSES).repeat(EACH)
    plain = Features(features[:, 0], features[:, 0])
    background, episode = background_of_features(plain, labels), episode_of(labels, shots)
    found = photos.ask(features, episode, background)
    bank = simulated_bank(plain, list(episode.support), 0.0)
    truth = np.arange(3).repeat(10)
    for row, classifier in ((photos.RUNTIME, "prototype"), (f"{photos.RUNTIME}, lr, C = 1", "lr")):
        head = Head.of(bank, background, Calibration(0, 1, 0, 0, 0, 0, 0, 1), classifier=classifier)
        chosen = [int(match.name.split()[1]) for match in head.matches(features[episode.query.ravel(), 0])]
        assert found[row] == (np.array(chosen) == truth).mean() > 0.4


def test_views_that_are_all_alike_are_as_one(photos: ModuleType, features: np.ndarray) -> None:
    labels = np.arange(CLASSES).repeat(EACH)
    alike = np.broadcast_to(features[:, :1], features.shape)
    background = Background(features[:, 0].mean(axis=0), np.eye(D, dtype=np.float32))
    found = photos.ask(alike, episode_of(labels, 2), background)
    for metric in ("plain", photos.RUNTIME):
        assert found[metric] == found[f"{metric}, 10 views"] > 0.4


def test_differences_are_to_the_metrics_own_prototypes(photos: ModuleType) -> None:
    rows = {"plain": 0.5, "plain, 2 views": 0.6, "adapted": 0.7, "adapted, lr, C = 1": 0.9, "adapted and centred": 0.8}
    shown = photos.column({row: np.array([value, value + 0.1]) for row, value in rows.items()})
    assert shown["plain"].startswith("55.0")
    assert [shown[row] for row in rows][1:] == ["+10.0 ± 0.0", "+20.0 ± 0.0", "+20.0 ± 0.0", "+30.0 ± 0.0"]


def test_pictures_are_encoded_once(photos: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mug", "lamp"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(2):
            picture = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
            Image.fromarray(picture).save(tmp_path / "set" / name / f"{number}.png")
    made: list[str] = []
    monkeypatch.setattr(photos.tempfile, "tempdir", str(tmp_path))

    def make_ready(model: str, out: Path) -> Bundle:
        made.append(model)
        return Bundle.load(toy.make_bundle(out))

    monkeypatch.setattr(photos, "make_ready", make_ready)
    features, labels, names = photos.encoded(tmp_path / "set")
    assert (labels.tolist(), names) == ([0, 0, 1, 1], ["lamp", "mug"])
    assert features.shape == (4, 10, toy.DIM)
    preprocess = Preprocess(toy.SIDE, 1.1)
    first = views(preprocess(np.asarray(Image.open(tmp_path / "set" / "lamp" / "0.png"))), 10, flip=True)
    assert min(abs(features[row] - toy.features(first)).max() for row in (0, 1)) < 1e-4
    np.testing.assert_array_equal(photos.encoded(tmp_path / "set")[0], features)
    assert made == ["efficientnet_lite0"], "the features are kept"
