from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from sp_edge.data.episodes import EpisodeSampler, Features
from sp_edge.matching.metric import Background


@pytest.fixture(scope="module")
def views(open_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return open_benchmark("views")


def test_views_that_are_all_alike_are_as_one_that_counts_more(views: ModuleType) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 20)
    once = (rng.normal(size=(5, 1, 12)).repeat(20, axis=0) + 1.5 * rng.normal(size=(100, 1, 12))).astype(np.float32)
    features = Features(once.repeat(3, axis=1), (once + 0.5).repeat(3, axis=1))
    episode = EpisodeSampler(labels, n_way=5, n_shot=2, n_query=15, seed=0).episode(0)
    found = views.ask(features, episode, 0.5, Background(np.zeros(12, np.float32), np.eye(12, dtype=np.float32)))
    assert found["prototype"] == found["prototype, 3 views averaged"] > 0.2
    assert found["lr"] == found["lr, 3 views averaged"] > 0.2
    assert found["lr, every of 3 views"] == found["lr, 3 views averaged, C = 3"] > 0.2


def test_a_column_has_the_differences_on_the_same_banks(views: ModuleType) -> None:
    names = ("prototype", "lr, 2 views averaged", "lr, 2 views averaged, C = 2", "lr, every of 2 views")
    scores = dict(zip(names, np.array([[0.5, 0.7], [0.6, 0.8], [0.5, 0.7], [0.4, 0.6]]), strict=True))
    column = views.summary(scores, 2)
    assert column["prototype"] == "60.0 ± 19.6"
    assert column["lr, 2 views averaged"] == "+10.0 ± 0.0"
    assert (column["every view - averaged"], column["every view - averaged, same C"]) == ("-20.0 ± 0.0", "-10.0 ± 0.0")


def test_some_pictures_of_some_classes(views: ModuleType) -> None:
    labels = np.tile(np.arange(100), 7)
    rows = views.few_of_each(labels, 3)
    chosen, counts = np.unique(labels[rows], return_counts=True)
    assert (len(chosen), set(counts.tolist())) == (views.CLASSES, {3})
