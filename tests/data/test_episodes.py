from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sp_edge.data.episodes import Episode, EpisodeSampler, Features
from sp_edge.errors import DataError

LABELS = np.repeat([3, 7, 8, 10, 20], [6, 5, 9, 5, 30])[np.random.default_rng(0).permutation(55)]


def same(one: Episode, other: Episode) -> bool:
    return all(np.array_equal(getattr(one, f), getattr(other, f)) for f in ("classes", "support", "query"))


@given(
    n_way=st.integers(1, 5), n_shot=st.integers(1, 4), seed=st.integers(0, 2**40), index=st.integers(0, 2**40), data=st.data()
)
@settings(deadline=None, max_examples=80)
def test_an_episode_is_what_its_name_says(n_way: int, n_shot: int, seed: int, index: int, data: st.DataObject) -> None:
    n_query = data.draw(st.integers(1, 5 - n_shot))
    sampler = EpisodeSampler(LABELS, n_way=n_way, n_shot=n_shot, n_query=n_query, seed=seed)
    episode = sampler.episode(index)
    assert (episode.classes.shape, episode.support.shape, episode.query.shape) == ((n_way,), (n_way, n_shot), (n_way, n_query))
    assert len(set(episode.classes.tolist())) == n_way
    every = np.concatenate([episode.support.ravel(), episode.query.ravel()])
    assert len(set(every.tolist())) == n_way * (n_shot + n_query), "no picture twice, none both support and query"
    assert (LABELS[episode.support] == episode.classes[:, None]).all()
    assert (LABELS[episode.query] == episode.classes[:, None]).all()
    again = EpisodeSampler(LABELS.copy(), n_way=n_way, n_shot=n_shot, n_query=n_query, seed=seed)
    assert same(again.episode(index), episode)


def test_an_episode_depends_on_its_number_alone() -> None:
    one, other = (EpisodeSampler(LABELS, n_way=3, n_shot=1, n_query=2, seed=5) for _ in range(2))
    in_order = [one.episode(i) for i in range(6)]
    backwards = [other.episode(i) for i in reversed(range(6))]
    assert all(same(a, b) for a, b in zip(in_order, reversed(backwards), strict=True))
    assert not any(same(in_order[0], later) for later in in_order[1:])


def test_another_seed_gives_other_episodes() -> None:
    one, other = (EpisodeSampler(LABELS, n_way=3, n_shot=1, n_query=2, seed=seed) for seed in (0, 1))
    assert not any(same(one.episode(i), other.episode(i)) for i in range(6))


def test_every_class_and_every_picture_gets_its_turn_about_as_often() -> None:
    sampler = EpisodeSampler(LABELS, n_way=2, n_shot=1, n_query=2, seed=0)
    episodes = [sampler.episode(i) for i in range(1500)]
    classes, counts = np.unique(np.concatenate([e.classes for e in episodes]), return_counts=True)
    assert classes.tolist() == [3, 7, 8, 10, 20]
    np.testing.assert_allclose(counts / 3000, 0.2, atol=0.03)
    support = np.concatenate([e.support.ravel() for e in episodes])
    assert set(support.tolist()) == set(range(len(LABELS)))
    of_seven = np.array([np.count_nonzero(support == i) for i in np.flatnonzero(LABELS == 7)])
    np.testing.assert_allclose(of_seven / of_seven.sum(), 0.2, atol=0.06)


def test_fewer_classes_than_ways_is_refused() -> None:
    with pytest.raises(DataError, match="fewer classes") as raised:
        EpisodeSampler(LABELS, n_way=6, n_shot=1, n_query=1, seed=0)
    assert (raised.value.expected, raised.value.got) == ("at least 6 classes", "5")
    assert "n_way" in raised.value.next_step
    with pytest.raises(DataError, match="fewer classes"):
        EpisodeSampler(np.zeros(0, np.int64), n_way=1, n_shot=1, n_query=1, seed=0)


def test_too_few_pictures_in_any_class_are_refused() -> None:
    EpisodeSampler(LABELS, n_way=2, n_shot=2, n_query=3, seed=0)
    with pytest.raises(DataError, match="too few pictures") as raised:
        EpisodeSampler(LABELS, n_way=2, n_shot=2, n_query=4, seed=0)
    assert (raised.value.expected, raised.value.got) == ("n_shot + n_query = 6", "5 pictures")


def test_stacked_episodes_are_the_single_ones() -> None:
    sampler = EpisodeSampler(LABELS, n_way=3, n_shot=2, n_query=3, seed=5)
    stack = sampler.episodes(4)
    assert (stack.classes.shape, stack.support.shape, stack.query.shape) == ((4, 3), (4, 3, 2), (4, 3, 3))
    for index in range(4):
        assert same(Episode(stack.classes[index], stack.support[index], stack.query[index]), sampler.episode(index))


# --- values ---


def features(query: np.ndarray, support: np.ndarray) -> Features:
    return Features(query.astype(np.float32), support.astype(np.float32))


def test_features_of_some_pictures() -> None:
    part = features(np.arange(10.0)[:, None], -np.arange(10.0)[:, None]).only(np.array([7, 2]))
    assert (part.query.ravel().tolist(), part.support.ravel().tolist()) == ([7, 2], [-7, -2])


def test_weaker_prompts_are_a_mixture() -> None:
    both = features(np.array([[1.0, 0.0]]), np.array([[0.0, 8.0]]))
    assert both.mixed(0.25).support.tolist() == [[0.75, 2.0]]
    assert both.mixed(0.25).support.dtype == np.float32
    assert both.mixed(0).support.tolist() == both.query.tolist() == both.mixed(0.5).query.tolist()
    assert both.mixed(1) is both
