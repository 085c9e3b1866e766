from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from sp_edge.accuracy import Difference
from sp_edge.data.episodes import Features
from sp_edge.data.pictures import PictureSet
from sp_edge.matching.metric import Background
from sp_edge.model import build_network
from sp_edge.model.normalization import Normalization
from sp_edge.prompts.familiarity import Familiarity
from sp_edge.prompts.table import PromptTable, TextSpec
from sp_edge.settings.settings import EvalSettings, ModelSettings
from sp_edge.training import strength as module
from sp_edge.training.strength import EPISODES, SHARES, STRENGTHS, TOLERANCE, choose_strength

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
    monkeypatch.setattr(module, "encode", lambda *_, **__: Features(plain, prompted))
    network = build_network(ModelSettings("visformer_mini", 64, layer="3-1"), 4)
    found = choose_strength(network, pool, table(), EvalSettings())
    assert found is not None
    assert found["strength"] in expected
    assert [(each["strength"], each["text_share"]) for each in found["tried"]] == [(s, 0.0) for s in STRENGTHS]
    assert (found["protocol"]["n_way"], found["protocol"]["n_query"], found["protocol"]["episodes"]) == (5, 7, EPISODES)
    safe = {}
    none = found["tried"][0]["settings"]
    for each in found["tried"]:
        row = each["settings"]
        assert set(row) == {"1-shot, clutter", "1-shot, clean", "5-shot, clutter", "5-shot, clean"}
        ahead = [cell["difference"] for cell in row.values()]
        if all(d["mean"] + d["interval"] >= 0 and d["mean"] - d["interval"] > -TOLERANCE for d in ahead):
            safe[each["strength"]] = np.mean([cell["accuracy"]["mean"] for cell in row.values()])
        for setting, cell in row.items():
            assert cell["difference"]["mean"] == pytest.approx(cell["accuracy"]["mean"] - none[setting]["accuracy"]["mean"])
    assert safe[found["strength"]] == max(safe.values())
    assert found["difference"]["mean"] == pytest.approx(safe[found["strength"]] - safe[0.0])
    assert json.dumps(found, allow_nan=False)


def test_the_choice_compares_in_the_metric_of_the_base_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names take away what differs within classes, and add noise. The metric does the first without them."""
    pool = pictures()
    rng = np.random.default_rng(0)
    clear = noisy(pool.labels, 0.2 * np.ones(len(pool)), 1)
    within = 2 * rng.normal(size=(len(pool), 1)).astype(np.float32)
    plain = np.concatenate([clear, within], axis=1)
    prompted = np.concatenate([clear + 0.6 * rng.normal(size=clear.shape).astype(np.float32), 0 * within], axis=1)
    monkeypatch.setattr(module, "encode", lambda *_, **__: Features(plain, prompted))
    network = build_network(ModelSettings("visformer_mini", 64, layer="3-1"), 4)
    by_cosine = choose_strength(network, pool, table(), EvalSettings())
    in_metric = choose_strength(network, pool, table(), EvalSettings(), Background.of(plain, pool.labels))
    assert by_cosine is not None
    assert in_metric is not None
    assert by_cosine["strength"] >= 0.9
    assert in_metric["strength"] <= 0.2
    without = [found["tried"][0]["settings"]["1-shot, clean"]["accuracy"]["mean"] for found in (by_cosine, in_metric)]
    assert without[1] > without[0] + 0.2, "the metric does without names what they do for plain cosines"


@pytest.mark.parametrize(
    ("mean", "interval", "expected"),
    [(0.1, 0.02, 1.0), (-0.01, 0.009, 0.0), (-0.001, 0.003, 1.0), (0.001, 0.007, 0.0), (-0.001, 0.0005, 0.0)],
)
def test_what_is_safe(monkeypatch: pytest.MonkeyPatch, mean: float, interval: float, expected: float) -> None:
    """One setting gains 20 points at full strength, and the other has this difference; weaker prompts change nothing."""
    ahead = iter([Difference(0, 0, 9), Difference(0, 0, 9), Difference(0.2, 0.01, 9), Difference(mean, interval, 9)])

    class Fixed(Difference):
        @classmethod
        def between(cls, *_: object) -> Difference:
            return next(ahead, Difference(0, 0, 9))

    monkeypatch.setattr(module, "STRENGTHS", (0.0, 1.0))
    monkeypatch.setattr(module, "Difference", Fixed)
    noise = noisy(pictures().labels, np.ones(2 * CLASSES * EACH), 0)
    monkeypatch.setattr(module, "encode", lambda *_, **__: Features(noise, noise))
    network = build_network(ModelSettings("visformer_mini", 64, layer="3-1"), 4)
    found = choose_strength(network, pictures(), table(), EvalSettings(n_shot=(1,)))
    assert found is not None
    assert found["strength"] == expected


def test_too_few_pictures_leave_the_strength_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    small = pictures().only("clean")
    few = PictureSet(small.images[::4], small.labels[::4], small.class_names, {"all": np.arange(18)})
    monkeypatch.setattr(
        module, "encode", lambda *_, **__: Features(np.zeros((18, DIM), np.float32), np.zeros((18, DIM), np.float32))
    )
    network = build_network(ModelSettings("visformer_mini", 64, layer="3-1"), 4)
    assert choose_strength(network, few, table(), EvalSettings()) is None
    assert choose_strength(network, few, table(), EvalSettings(n_shot=(1,))) is not None, "three a class are enough for one"


class Fixed(torch.nn.Module):
    """Whatever it is asked, it gives the same."""

    def __init__(self, answer: torch.Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.answer


@pytest.mark.parametrize(("text_noise", "prompt_noise", "expected"), [(0.1, 3.0, {1.0}), (3.0, 0.1, {0.0})])
def test_the_text_prototype_gets_the_share_that_helps_most(
    monkeypatch: pytest.MonkeyPatch, text_noise: float, prompt_noise: float, expected: set[float]
) -> None:
    pool = pictures()
    ones = np.ones(len(pool))
    plain, prompted = noisy(pool.labels, 1.5 * ones, 1), noisy(pool.labels, prompt_noise * ones, 2)
    monkeypatch.setattr(module, "encode", lambda *_, **__: Features(plain, prompted))
    network = build_network(ModelSettings("visformer_mini", 64, layer="3-1", text_prototype=True), 4)
    text = noisy(np.arange(CLASSES), text_noise * np.ones(CLASSES), 3)[pool.labels]
    network.text_prototype = Fixed(torch.from_numpy(text))  # type: ignore[assignment]
    found = choose_strength(network, pool, table(), EvalSettings())
    assert found is not None
    assert found["text_share"] in expected
    assert found["strength"] > 0
    tried = [(each["strength"], each["text_share"]) for each in found["tried"]]
    assert len(tried) == len(set(tried)) == len(SHARES) * (len(STRENGTHS) - 1)
    assert (1.0, 1.0) not in tried, "a picture must count for something"


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_network_mixes_in_the_text_prototype_as_the_choice_assumed(share: float) -> None:
    torch.manual_seed(0)
    settings = ModelSettings("visformer_mini", 64, layer="3-1", text_prototype=True, prompt_strength=0.5)
    network = build_network(settings, 4).eval()
    assert network.text_prototype is not None
    assert network.text_share == 0, "it is not fitted"
    network.text_share = share
    images, prompts = Normalization()(torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8)), torch.randn(3, 4)
    mixed, plain, text = network(images, prompts), network(images), network.text_prototype(prompts)
    network.text_share, network.strength = 0.0, 1.0
    expected = 0.5 * ((1 - share) * network(images, prompts) + share * text) + 0.5 * plain
    torch.testing.assert_close(mixed, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0])
def test_the_network_mixes_as_the_choice_assumed(strength: float) -> None:
    torch.manual_seed(0)
    network = build_network(ModelSettings("visformer_mini", 64, layer="3-1", prompt_strength=strength), 4).eval()
    images = Normalization()(torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8))
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
    images = Normalization()(torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8))
    one, other = (network(images, torch.randn(3, 4, generator=torch.Generator().manual_seed(s))) for s in (1, 2))
    assert not torch.allclose(one, other, atol=1e-4)


def test_the_choice_tries_each_name_at_the_strength_that_it_would_get(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts that mislead, of strange names, cost nothing: every strength is as good as none."""
    pool = pictures()
    plain = noisy(pool.labels, 0.5 * np.ones(len(pool)), 1)
    misled = noisy((pool.labels + 1) % CLASSES, 0.1 * np.ones(len(pool)), 2)
    monkeypatch.setattr(module, "encode", lambda *_, **__: Features(plain, misled))
    network = build_network(ModelSettings("visformer_mini", 64, layer="3-1"), 4)
    for shift, harmed in ((0, True), (1e6, False)):
        names = np.random.default_rng(0).normal(size=(9, 4)) + shift * np.eye(1, 4)
        network.familiarity = Familiarity.of(np.concatenate([names, 0 * names[:2] + 1 + shift]).astype(np.float32))
        found = choose_strength(network, pool, table(), EvalSettings())
        assert found is not None
        lost = [-cell["difference"]["mean"] for cell in found["tried"][-1]["settings"].values()]
        assert (min(lost) > 0.3) if harmed else (np.abs(lost).max() < 0.01)
