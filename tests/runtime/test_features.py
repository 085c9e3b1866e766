from pathlib import Path

import numpy as np
import pytest

import toy
from fake_backend import FakeBackend
from sp_edge.bank.bank import Bank
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import BackendError
from sp_edge_runtime.features import QUERIES, SHOTS, Features
from sp_edge_runtime.recognizer import Recognizer


def test_features_of_many_pictures_are_those_of_each(features: Features) -> None:
    images = np.stack([toy.picture(name, seed=seed) for seed in range(QUERIES) for name in ("red", "blue")])
    np.testing.assert_allclose(features.queries(list(images)), toy.features(images), atol=1e-5)
    prompt = toy.prompts().vector("red")
    shots = features.shots(images[: SHOTS + 1], prompt)
    assert shots.scores is None
    np.testing.assert_allclose(shots.support, toy.features(images[: SHOTS + 1], prompt[None]), atol=1e-5)
    np.testing.assert_allclose(shots.query, toy.features(images[: SHOTS + 1]), atol=1e-5)


def test_scores_that_cannot_be_used(tmp_path: Path) -> None:
    bundle = Bundle.load(toy.make_bundle(tmp_path / "model.spedge", scored=True))
    backend = FakeBackend(np.zeros((1, toy.DIM), np.float32))
    backend.outputs["scores"] = np.full((1, 4, 4), np.nan, np.float32)
    with pytest.raises(BackendError, match="scores that cannot be used"):
        Recognizer(bundle, Bank.empty(bundle), backend).enroll("red", [toy.picture("red")])


@pytest.mark.parametrize(
    "feature",
    [np.full((1, toy.DIM), np.nan, np.float32), np.full((1, toy.DIM), np.inf, np.float32), np.zeros((2, toy.DIM), np.float32)],
)
def test_features_that_cannot_be_used_never_become_a_result(toy_bundle: Path, feature: np.ndarray) -> None:
    bundle = Bundle.load(toy_bundle)
    with Recognizer(bundle, Bank.empty(bundle), FakeBackend(feature)) as recognizer:
        with pytest.raises(BackendError, match="query graph"):
            recognizer.classify(toy.picture("red"))
        with pytest.raises(BackendError, match="support graph"):
            recognizer.enroll("red", [toy.picture("red")])
        assert recognizer.bank.names == ()
    sound = np.ones((1, toy.DIM), np.float32)
    with Recognizer(bundle, Bank.empty(bundle), FakeBackend(sound, plain=feature)) as recognizer:
        with pytest.raises(BackendError, match="support graph"):
            recognizer.enroll("red", [toy.picture("red")])
        assert recognizer.bank.names == ()
