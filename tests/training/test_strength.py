from __future__ import annotations

import numpy as np
import pytest
import torch

from sp_edge.data.episodes import Features
from sp_edge.data.pictures import PictureSet
from sp_edge.model import build_network
from sp_edge.model.network import normalise
from sp_edge.prompts import PromptTable, TextSpec
from sp_edge.settings import ModelSettings
from sp_edge.training import strength as module
from sp_edge.training.strength import STRENGTHS, choose_strength

CLASSES, EACH, DIM = 6, 12, 24


def pictures() -> PictureSet:
    count = CLASSES * EACH
    labels = np.tile(np.repeat(np.arange(CLASSES), EACH), 2)
    groups = {"clutter": np.arange(count), "clean": np.arange(count, 2 * count)}
    return PictureSet(np.zeros((2 * count, 8, 8, 3), np.uint8), labels, tuple("abcdef"), groups)


def table() -> PromptTable:
    return PromptTable(TextSpec("test", "0", "{name}", 1.0, 4), tuple("abcdef"), np.ones((CLASSES, 4), np.float32))


def noisy(labels: np.ndarray, noise: np.ndarray, seed: int) -> np.ndarray:
    """Class centres with noise, more or less of it for each picture."""
    rng = np.random.default_rng(seed)
    centres = np.eye(DIM, dtype=np.float32)[labels]
    return (centres + noise[:, None] * rng.normal(size=(len(labels), DIM))).astype(np.float32)


@pytest.mark.parametrize(
    ("clutter", "clean", "expected"),
    [
        ((0.1, 0.1), (0.1, 0.1), {0.7, 0.8, 0.9, 1.0}),  # prompted features are better everywhere
        ((3.0, 3.0), (3.0, 3.0), {0.0}),  # and worse everywhere
        ((0.1, 0.1), (3.0, 3.0), {0.0, 0.1, 0.2, 0.3}),  # much better in clutter never buys much worse in the clean
    ],
)
def test_the_choice_helps_and_never_hurts(
    monkeypatch: pytest.MonkeyPatch, clutter: tuple[float, float], clean: tuple[float, float], expected: set[float]
) -> None:
    pool = pictures()
    half = len(pool) // 2
    plain = noisy(pool.labels, np.repeat([0.6, 0.3], half), 1)
    prompted = noisy(pool.labels, np.repeat([clutter[0], clean[0]], half), 2)
    monkeypatch.setattr(module, "encode", lambda *_: Features(plain, prompted))
    network = build_network(ModelSettings("visformer_mini", 64, layer="3-1"), 4)
    found = choose_strength(network, pool, table())
    assert found is not None
    assert found["strength"] in expected
    assert set(found["tried"]) == {str(s) for s in STRENGTHS}
    chosen, none = found["tried"][str(found["strength"])], found["tried"]["0.0"]
    assert all(chosen[k]["mean"] >= none[k]["mean"] - module.TOLERANCE for k in none)
    assert set(none) == {"1-shot clutter", "1-shot clean", "5-shot clutter", "5-shot clean"}


def test_too_few_pictures_leave_the_strength_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    small = pictures().only("clean")
    few = PictureSet(small.images[::4], small.labels[::4], small.class_names, {"all": np.arange(18)})
    monkeypatch.setattr(module, "encode", lambda *_: Features(np.zeros((18, DIM), np.float32), np.zeros((18, DIM), np.float32)))
    network = build_network(ModelSettings("visformer_mini", 64, layer="3-1"), 4)
    assert choose_strength(network, few, table()) is None


@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0])
def test_the_network_mixes_as_the_choice_assumed(strength: float) -> None:
    torch.manual_seed(0)
    network = build_network(ModelSettings("visformer_mini", 64, layer="3-1", prompt_strength=strength), 4).eval()
    images = normalise(torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8))
    prompts = torch.randn(3, 4)
    mixed, plain = network(images, prompts), network(images)
    network.strength = 1.0
    prompted = network(images, prompts)
    assert torch.allclose(mixed, strength * prompted + (1 - strength) * plain, atol=1e-6)
    assert not torch.allclose(prompted, plain, atol=1e-3)


def test_training_sees_the_prompted_feature_alone() -> None:
    torch.manual_seed(0)
    network = build_network(ModelSettings("visformer_mini", 64, layer="3-1", prompt_strength=0.0), 4).train()
    for norm in network.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = 0.0
    images = normalise(torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8))
    one, other = (network(images, torch.randn(3, 4, generator=torch.Generator().manual_seed(s))) for s in (1, 2))
    assert not torch.allclose(one, other, atol=1e-4)
