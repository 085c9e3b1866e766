from __future__ import annotations

import numpy as np
import pytest
import torch

from sp_edge.data.episodes import EpisodeSampler
from sp_edge.data.pictures import PictureSet
from sp_edge.errors import DataError, PromptError
from sp_edge.matching import cosine, prototype
from sp_edge.model import PromptedVisformer, build_network
from sp_edge.model.network import normalise
from sp_edge.prompts import PromptTable, TextSpec
from sp_edge.settings import ModelSettings
from sp_edge.training.evaluate import class_prompts, encode, evaluate

NAMES = tuple("abcdef")


def network(**changes: str) -> PromptedVisformer:
    torch.manual_seed(0)
    built = build_network(ModelSettings("visformer_mini", 64, **{"layer": "3-1", **changes}), 8)
    if built.prompt is not None:
        with torch.no_grad():
            for value in built.prompt.parameters():
                value.normal_(0, 0.5)
    return built.eval()


@pytest.fixture(scope="module")
def pictures() -> PictureSet:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (48, 64, 64, 3), dtype=np.uint8)
    labels = np.tile(np.arange(6), 8)
    return PictureSet(images, labels, NAMES, {"clutter": np.arange(24), "clean": np.arange(24, 48)})


@pytest.fixture(scope="module")
def table() -> PromptTable:
    vectors = np.random.default_rng(1).normal(size=(6, 8)).astype(np.float32)
    return PromptTable(TextSpec("fake", "0", "{name}", 1.0, 8), NAMES[::-1], vectors)


def test_every_picture_is_encoded_with_the_prompt_of_its_own_class(pictures: PictureSet, table: PromptTable) -> None:
    net = network()
    prompts = class_prompts(net, pictures, table)
    assert prompts is not None
    assert prompts.dtype == np.float32
    for row in (0, 7, 47):
        np.testing.assert_array_equal(prompts[row], table.vector(NAMES[pictures.labels[row]]))
    features = encode(net, pictures.images, prompts, batch_size=7)
    assert features.query.shape == features.support.shape == (48, 192)
    assert features.query.dtype == features.support.dtype == np.float32
    with torch.no_grad():
        for row in (0, 7, 47):
            image = normalise(torch.from_numpy(pictures.images[row : row + 1]))
            np.testing.assert_allclose(features.query[row], net(image)[0], rtol=1e-3, atol=2e-3)
            prompted = net(image, torch.from_numpy(prompts[row : row + 1]))[0]
            np.testing.assert_allclose(features.support[row], prompted, rtol=1e-3, atol=2e-3)
    assert np.abs(features.query - features.support).max() > 0.01


def test_without_prompts_support_and_query_are_the_same(pictures: PictureSet, table: PromptTable) -> None:
    net = network(interaction="none")
    assert class_prompts(net, pictures, table) is None
    features = encode(net, pictures.images, None)
    assert features.support is features.query


def test_a_class_without_a_prompt_is_refused(pictures: PictureSet, table: PromptTable) -> None:
    with pytest.raises(PromptError, match="no class 'f'"):
        class_prompts(network(), pictures, PromptTable(table.text, table.names[1:], table.vectors[1:]))


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(pictures: PictureSet, training: bool) -> None:
    net = network().train(training)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    encode(net, pictures.images[:3], np.zeros((3, 8), np.float32), batch_size=2)
    assert net.training is training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(value.grad is None for value in net.parameters())


@pytest.mark.parametrize("n_shot", [1, 3])
def test_features_computed_once_give_the_accuracy_of_every_episode_on_its_own(
    pictures: PictureSet, table: PromptTable, n_shot: int
) -> None:
    """Here each episode's pictures go through the network anew, support with prompts and queries without."""
    net = network()
    protocol = {"n_way": 3, "n_query": 1, "episodes": 12, "seed": 5}
    result = evaluate(net, pictures, class_prompts(net, pictures, table), shots=[n_shot], **protocol)  # type: ignore[arg-type]
    assert list(result) == [f"{n_shot}-shot"]
    for group, rows in pictures.groups.items():
        sampler = EpisodeSampler(pictures.labels[rows], n_way=3, n_shot=n_shot, n_query=1, seed=5)
        hits, plain = [], []
        for number in range(12):
            episode = sampler.episode(number)
            vectors = torch.from_numpy(table.select([NAMES[c] for c in episode.classes]))
            with torch.no_grad():
                support = normalise(torch.from_numpy(pictures.images[rows[episode.support.ravel()]]))
                query = net(normalise(torch.from_numpy(pictures.images[rows[episode.query.ravel()]]))).numpy()
                shots = net(support, vectors.repeat_interleave(n_shot, 0)).numpy().reshape(3, n_shot, -1)
                bare = net(support).numpy().reshape(3, n_shot, -1)
            hits.append(cosine(query, np.stack([prototype(s) for s in shots])).argmax(axis=1) == np.arange(3))
            plain.append(cosine(query, np.stack([prototype(s) for s in bare])).argmax(axis=1) == np.arange(3))
        assert result[f"{n_shot}-shot"][group].mean == pytest.approx(np.mean(hits), abs=1.01 / 36)
        assert (np.array(hits) != np.array(plain)).sum() > 3, "prompts must decide something here"


def test_figures_come_by_shots_and_group(pictures: PictureSet) -> None:
    result = evaluate(network(interaction="none"), pictures, None, n_way=2, shots=(1, 2), n_query=2, episodes=4)
    assert {shots: list(groups) for shots, groups in result.items()} == {
        "1-shot": ["clutter", "clean"],
        "2-shot": ["clutter", "clean"],
    }
    assert all(accuracy.episodes == 4 for groups in result.values() for accuracy in groups.values())


def test_pictures_of_one_class_that_are_alike_are_all_recognised(pictures: PictureSet) -> None:
    alike = PictureSet(pictures.images[pictures.labels], pictures.labels, NAMES, {"all": np.arange(48)})
    result = evaluate(network(interaction="none"), alike, None, n_way=6, n_query=3, episodes=5)
    assert {shots: groups["all"].mean for shots, groups in result.items()} == {"1-shot": 1.0, "5-shot": 1.0}


def test_too_few_pictures_or_classes_are_refused(pictures: PictureSet) -> None:
    net = network(interaction="none")
    with pytest.raises(DataError, match="too few pictures"):
        evaluate(net, pictures, None, n_way=2, n_query=15)
    with pytest.raises(DataError, match="fewer classes than ways"):
        evaluate(net, pictures, None, n_way=7, n_query=1, shots=(1,))
