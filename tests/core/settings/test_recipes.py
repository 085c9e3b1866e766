from __future__ import annotations

import pytest

from sp_edge.settings.settings import Settings, recipes

# 600 pictures a class, but for tieredImageNet's 448,695 in all; epochs of both stages; figures from the paper's tables.
SETS = {
    "mini-imagenet": (64 * 600, 800, 100, {1: (72.31, 65.16, 0.40), 5: (83.42, 81.22, 0.30)}),
    "tiered-imagenet": (448_695, 300, 600, {1: (78.03, 72.38, 0.46), 5: (88.55, 86.74, 0.32)}),
    "cifar-fs": (64 * 600, 800, 100, {1: (82.18, 71.99, 0.40), 5: (88.24, 85.98, 0.32)}),
    "fc100": (60 * 600, 800, 100, {1: (48.53, 43.77, 0.38), 5: (61.55, 59.48, 0.41)}),
}
EACH = [(name, shots) for name in SETS for shots in (1, 5)]


def test_every_recipe_is_here_or_in_the_tests_of_settings() -> None:
    assert set(recipes()) == {"folder", "scenes", *(f"{name}-{shots}shot" for name, shots in EACH)}


@pytest.mark.parametrize(("name", "shots"), EACH)
def test_a_benchmarks_recipe_is_the_papers(name: str, shots: int) -> None:
    settings = Settings.load(f"{name}-{shots}shot", ["data.root=/pictures"])
    pictures, epochs, tuning_epochs, figures = SETS[name]
    assert (settings.data.source, settings.data.root) == (name, "/pictures")
    first, second = settings.pretrain, settings.tune
    assert (first.batch_size, first.lr, first.weight_decay, first.repeats) == (128, 5e-4, 0.05, 2)
    assert first.steps == epochs * (pictures // 128)
    assert (second.n_way, second.n_shot, second.n_query, second.episodes_per_step) == (5, (shots,), 15, 1)
    episodes = pictures // (5 * (shots + 15))
    assert second.steps == tuning_epochs * episodes
    assert second.validate_every == 10 * episodes
    assert (second.lr, second.channel_lr, second.prompt_lr, second.weight_decay) == (1e-6, 1e-6, 5e-4, 0.05)
    assert (second.temperature, second.schedule, second.warm_up) == (0.2, "constant", 0)
    assert (settings.model.backbone, settings.model.image_size, settings.model.layer) == ("visformer_tiny", 224, "3-2")
    assert (settings.text.encoder, settings.text.norm, settings.text.template) == ("clip", 0, "A photo of {name}")
    assert settings.augment.policy == "randaugment"
    assert second.policy == ("same" if name == "tiered-imagenet" else "standard"), "the paper tunes with it on one set"
    measured = settings.eval
    assert (measured.n_way, measured.n_shot, measured.n_query, measured.episodes) == (5, (shots,), 15, 2000)
    assert (measured.classifier, measured.views) == ("cosine" if shots == 1 else "lr", 10)
    expected = settings.expected
    assert (expected.with_prompts, expected.without_prompts, expected.interval) == figures[shots]
    assert "CVPR 2023" in expected.source
