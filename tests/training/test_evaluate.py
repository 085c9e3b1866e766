from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from sp_edge.accuracy import Difference
from sp_edge.data.episodes import Episode, EpisodeSampler, Features
from sp_edge.data.pictures import PictureSet
from sp_edge.errors import DataError, PromptError, SettingsError
from sp_edge.matching.decide import cosine, prototype, share
from sp_edge.model import PromptedNetwork, build_network
from sp_edge.model.normalization import Normalization
from sp_edge.prompts.familiarity import Familiarity
from sp_edge.prompts.table import PromptTable, TextSpec
from sp_edge.settings.settings import AugmentSettings, EvalSettings, ExpectedSettings, ModelSettings, Settings
from sp_edge.training.checkpoint import Checkpoint
from sp_edge.training.classifier import nearest_prototype
from sp_edge.training.evaluate import (
    DIFFERENCE,
    WITH,
    WITHOUT,
    class_prompts,
    encode,
    encode_views,
    evaluate,
    evaluate_checkpoint,
    sample,
    score,
)

NAMES = tuple("abcdef")


def network(**changes: str) -> PromptedNetwork:
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
            image = Normalization()(torch.from_numpy(pictures.images[row : row + 1]))
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
    protocol = EvalSettings(n_way=3, n_shot=(n_shot,), n_query=1, episodes=12)
    result = evaluate(net, pictures, class_prompts(net, pictures, table), protocol, seed=5).scores
    assert list(result) == [WITH, WITHOUT]
    assert list(result[WITH]) == list(result[WITHOUT]) == [(n_shot, "clutter"), (n_shot, "clean")]
    for group, rows in pictures.groups.items():
        sampler = EpisodeSampler(pictures.labels[rows], n_way=3, n_shot=n_shot, n_query=1, seed=5)
        hits, plain = [], []
        for number in range(12):
            episode = sampler.episode(number)
            vectors = torch.from_numpy(table.select([NAMES[c] for c in episode.classes]))
            with torch.no_grad():
                support = Normalization()(torch.from_numpy(pictures.images[rows[episode.support.ravel()]]))
                query = net(Normalization()(torch.from_numpy(pictures.images[rows[episode.query.ravel()]]))).numpy()
                shots = net(support, vectors.repeat_interleave(n_shot, 0)).numpy().reshape(3, n_shot, -1)
                bare = net(support).numpy().reshape(3, n_shot, -1)
            hits.append(cosine(query, np.stack([prototype(s) for s in shots])).argmax(axis=1) == np.arange(3))
            plain.append(cosine(query, np.stack([prototype(s) for s in bare])).argmax(axis=1) == np.arange(3))
        assert result[WITH][n_shot, group].mean() == pytest.approx(np.mean(hits), abs=1.01 / 36)
        assert result[WITHOUT][n_shot, group].mean() == pytest.approx(np.mean(plain), abs=1.01 / 36)
        assert (np.array(hits) != np.array(plain)).sum() > 3, "prompts must decide something here"


QUICK = EvalSettings(n_way=2, n_shot=(1, 2), n_query=2, episodes=4)


def test_figures_come_by_shots_and_group(pictures: PictureSet) -> None:
    result = evaluate(network(interaction="none"), pictures, None, QUICK)
    assert list(result.rows()) == [WITHOUT]
    rows = result.to_json()["rows"][WITHOUT]
    assert {shots: list(groups) for shots, groups in rows.items()} == {
        "1-shot": ["clutter", "clean"],
        "2-shot": ["clutter", "clean"],
    }
    assert all(accuracy["episodes"] == 4 for groups in rows.values() for accuracy in groups.values())


def test_rows_are_paired_on_the_same_episodes(pictures: PictureSet, table: PromptTable) -> None:
    net = network()
    result = evaluate(net, pictures, class_prompts(net, pictures, table), dataclasses.replace(QUICK, episodes=30))
    rows = result.rows()
    assert list(rows) == [WITH, WITHOUT, DIFFERENCE]
    for setting, ahead in rows[DIFFERENCE].items():
        scores = [result.scores[name][setting] for name in (WITH, WITHOUT)]
        assert ahead == Difference.between(*scores)
        assert ahead.mean == pytest.approx(rows[WITH][setting].mean - rows[WITHOUT][setting].mean)
    again = evaluate(net, pictures, None, dataclasses.replace(QUICK, episodes=30))
    for setting, scores in again.scores[WITHOUT].items():
        np.testing.assert_array_equal(scores, result.scores[WITHOUT][setting])


def test_the_table_sets_rows_beside_what_the_source_reports(pictures: PictureSet, table: PromptTable) -> None:
    net = network()
    result = evaluate(net, pictures, class_prompts(net, pictures, table), QUICK)
    header, lines = result.table(ExpectedSettings("A paper, table 1", 72.31, 65.16, 0.4))
    assert header == ["", "1-shot, clutter", "1-shot, clean", "2-shot, clutter", "2-shot, clean"]
    assert [line[0] for line in lines[:3]] == [WITH, WITHOUT, DIFFERENCE]
    assert lines[3:] == [
        ["A paper, table 1, with prompts", "72.3 ± 0.4", "", "", ""],
        ["A paper, table 1, without prompts", "65.2", "", "", ""],
    ]
    assert result.table()[1] == lines[:3] == result.table(ExpectedSettings())[1]
    assert {len(line) for line in lines} == {5}


def test_strength_weakens_the_prompts(pictures: PictureSet, table: PromptTable) -> None:
    net = network()
    net.strength = 0.4
    prompts = class_prompts(net, pictures, table)
    protocol = dataclasses.replace(QUICK, episodes=30)
    own, full, none = (evaluate(net, pictures, prompts, protocol, strength=strength) for strength in (None, 1.0, 0.0))
    assert (own.strength, full.strength, net.strength) == (0.4, 1.0, 0.4)
    for setting in none.scores[WITH]:
        np.testing.assert_array_equal(none.scores[WITH][setting], none.scores[WITHOUT][setting])
    assert any((own.scores[WITH][s] != full.scores[WITH][s]).any() for s in own.scores[WITH])
    features = encode(net, pictures.images[:4], prompts[:4])  # type: ignore[index]
    with torch.no_grad():
        mixed = net(Normalization()(torch.from_numpy(pictures.images[:4])), torch.from_numpy(prompts[:4]))  # type: ignore[index]
    np.testing.assert_allclose(features.support, mixed, rtol=1e-3, atol=2e-3)


def test_each_picture_is_encoded_once_for_all_episodes(
    pictures: PictureSet, table: PromptTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = network()
    seen = {"begin": 0, "prompted": 0, "plain": 0}
    begin, finish = net.begin, net.finish

    def count_begin(images: torch.Tensor) -> torch.Tensor:
        seen["begin"] += len(images)
        return begin(images)

    def count_finish(tokens: torch.Tensor, prompt: torch.Tensor | None = None, **options: float) -> torch.Tensor:
        seen["plain" if prompt is None else "prompted"] += len(tokens)
        return finish(tokens, prompt, **options)

    monkeypatch.setattr(net, "begin", count_begin)
    monkeypatch.setattr(net, "finish", count_finish)
    net.strength = 0.5
    evaluate(net, pictures, class_prompts(net, pictures, table), dataclasses.replace(QUICK, episodes=50))
    assert seen == {"begin": 48, "prompted": 48, "plain": 48}


def test_the_strength_falls_with_the_shots() -> None:
    """Two classes, two shots each; at strength 1/2 the prompts' share is 1/3, and the first prototype (5/3, 1).

    The first class's query (4, -3) has the cosine 11/(5 sqrt(34/9)) > 0 with it and -3/5 with the second's (0, 1): right. At
    full strength the first prototype is (-1, 3), of cosine -13/(5 sqrt(10)) < -3/5: wrong.
    """
    labels = np.array([0, 0, 0, 1, 1, 1])
    pictures = PictureSet(np.zeros((6, 1, 1, 3), np.uint8), labels, ("a", "b"), {"all": np.arange(6)})
    query = np.array([[3, 0], [3, 0], [4, -3], [0, 1], [0, 1], [0, 1]], np.float32)
    prompted = np.array([[-1, 3], [-1, 3], [-1, 3], [0, 1], [0, 1], [0, 1]], np.float32)
    shown = Features(query, prompted)
    episode = Episode(np.array([[0, 1]]), np.array([[[0, 1], [3, 4]]]), np.array([[[2], [5]]]))
    found = {s: score(query, shown, s, pictures, {(2, "all"): episode}, nearest_prototype)[2, "all"] for s in (0.0, 0.5, 1.0)}
    assert [float(found[s][0]) for s in (0.0, 0.5, 1.0)] == [1.0, 1.0, 0.5]
    assert share(0.5, 2) == pytest.approx(1 / 3)
    # The same prototypes as mixed by hand.
    mixed = Features(query, (2 * query + prompted) / 3)
    prototypes = mixed.support[episode.support[0]].mean(axis=1)
    np.testing.assert_allclose(prototypes, [[5 / 3, 1], [0, 1]], rtol=1e-6)


def test_views_are_augmented_and_repeatable(pictures: PictureSet, table: PromptTable) -> None:
    net = network()
    few = pictures.images[:6]
    prompts = class_prompts(net, pictures, table)[:6]  # type: ignore[index]
    every = {"views": 3, "settings": AugmentSettings(shift=0.2), "seed": 0}
    one, same = (encode_views(net, few, prompts, **every) for _ in range(2))  # type: ignore[arg-type]
    assert one.query.shape == one.support.shape == (6, 3, 192)
    np.testing.assert_array_equal(one.support, same.support)
    assert np.abs(one.query[:, 0] - one.query[:, 1]).max() > 0.01
    unchanged = encode_views(net, few, prompts, **{**every, "settings": AugmentSettings("none", False, 1, 0, 0)})  # type: ignore[arg-type]
    plain = encode(net, few, prompts)
    for view in range(3):
        np.testing.assert_allclose(unchanged.query[:, view], plain.query, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(unchanged.support[:, view], plain.support, rtol=1e-4, atol=1e-5)


def test_logistic_regression_learns_from_views_and_is_asked_about_pictures(pictures: PictureSet, table: PromptTable) -> None:
    alike = PictureSet(pictures.images[pictures.labels], pictures.labels, NAMES, {"all": np.arange(48)})
    net = network()
    protocol = EvalSettings(n_way=3, n_shot=(1,), n_query=3, episodes=4, classifier="lr", views=2)
    still = AugmentSettings("none", False, 1, 0, 0)
    result = evaluate(net, alike, class_prompts(net, alike, table), protocol, augmentation=still)
    assert result.scores[WITHOUT][1, "all"].tolist() == [1.0] * 4
    assert set(result.scores) == {WITH, WITHOUT}


def test_pictures_of_one_class_that_are_alike_are_all_recognized(pictures: PictureSet) -> None:
    alike = PictureSet(pictures.images[pictures.labels], pictures.labels, NAMES, {"all": np.arange(48)})
    result = evaluate(network(interaction="none"), alike, None, EvalSettings(n_way=6, n_query=3, episodes=5))
    assert {setting: scores.mean() for setting, scores in result.scores[WITHOUT].items()} == {(1, "all"): 1.0, (5, "all"): 1.0}


def test_too_few_pictures_or_classes_are_refused_before_anything_is_encoded(
    pictures: PictureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = network(interaction="none")
    monkeypatch.setattr(net, "begin", None)
    with pytest.raises(DataError, match="too few pictures"):
        evaluate(net, pictures, None, EvalSettings(n_way=2))
    with pytest.raises(DataError, match="fewer classes than ways"):
        evaluate(net, pictures, None, EvalSettings(n_way=7, n_query=1, n_shot=(1,)))


# --- a checkpoint ---


def checkpoint(net: PromptedNetwork, table: PromptTable) -> Checkpoint:
    settings = Settings.from_mapping({"eval": {"n_way": 2, "n_shot": [2], "n_query": 2, "episodes": 5}})
    return Checkpoint(net, settings, table, "tuned", {})


def test_a_checkpoint_brings_its_protocol_and_prompts(pictures: PictureSet, table: PromptTable) -> None:
    kept = checkpoint(network(), table)
    result = evaluate_checkpoint(kept, pictures, device="cpu")
    assert result.protocol == kept.settings.eval
    assert list(result.scores[WITH]) == [(2, "clutter"), (2, "clean")]
    other = evaluate_checkpoint(kept, pictures, QUICK, strength=0.0, device="cpu")
    assert (other.protocol, other.strength) == (QUICK, 0.0)


def test_a_strength_without_prompts_is_refused(pictures: PictureSet, table: PromptTable) -> None:
    kept = checkpoint(network(interaction="none"), table)
    assert list(evaluate_checkpoint(kept, pictures, device="cpu").scores) == [WITHOUT]
    with pytest.raises(SettingsError, match="knows no prompts"):
        evaluate_checkpoint(kept, pictures, strength=0.5, device="cpu")


@pytest.mark.parametrize("classifier", ["cosine", "lr"])
def test_names_that_are_strange_are_measured_at_the_strength_that_a_device_would_give_them(
    pictures: PictureSet, table: PromptTable, classifier: str
) -> None:
    """Strange names alone, or familiar ones alone, are measured as they are at strength 0 or at full strength."""
    protocol = EvalSettings(n_way=3, n_shot=(1, 2), n_query=2, episodes=30, classifier=classifier, views=2)
    net = network()
    prompts = class_prompts(net, pictures, table)
    assert prompts is not None

    def with_prompts(strength: float) -> list[list[float]]:
        return [
            scores.tolist() for scores in evaluate(net, pictures, prompts, protocol, strength=strength).scores[WITH].values()
        ]

    plain, full = with_prompts(0.0), with_prompts(1.0)
    assert plain != full
    net.familiarity = Familiarity.of(prompts[:6])
    assert with_prompts(1.0) == full
    assert evaluate(net, pictures, prompts, protocol).familiarity == pytest.approx(1)
    net.familiarity = Familiarity.of(prompts[:6] + 1e6 * np.eye(1, 8, dtype=np.float32))
    assert with_prompts(1.0) == plain
    found = evaluate(net, pictures, prompts, protocol)
    assert found.to_json()["familiarity"] == found.familiarity < 1e-6
    assert evaluate(net, pictures, None, protocol).familiarity == 1


def test_each_class_has_its_own_strength(pictures: PictureSet) -> None:
    """Score by hand: class 0 is found with its prompt alone, and class 1 without its own."""
    query = np.eye(2, 4, dtype=np.float32)[pictures.labels % 2]
    prompted = np.eye(2, 4, dtype=np.float32)[1 - pictures.labels % 2]
    prompted[pictures.labels == 0] = query[pictures.labels == 0]
    shown = Features(np.where((pictures.labels == 0)[:, None], -query, query), prompted)
    two = PictureSet(pictures.images, pictures.labels % 2, ("a", "b"), {"all": np.flatnonzero(pictures.labels < 2)})
    episodes = sample(two, EvalSettings(n_way=2, n_shot=(1, 2), n_query=2, episodes=9), seed=0)
    for strengths, expected in (([1, 0], 1.0), ([1, 1], 0.5), ([0, 0], 0.5)):
        each = np.array(strengths, float)[two.labels]
        found = score(query, shown, each, two, episodes, nearest_prototype)
        assert [scores.mean() for scores in found.values()] == [expected] * 2
