from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from easyfsl.datasets import FeaturesDataset, FewShotDataset, SupportSetFolder, WrapFewShotDataset
from easyfsl.methods import FewShotClassifier, PrototypicalNetworks
from easyfsl.utils import evaluate as easyfsl_evaluate
from easyfsl.utils import predict_embeddings
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2 as transforms

from sp_edge.data.episodes import EpisodeSampler
from sp_edge.data.pictures import PictureSet
from sp_edge.easyfsl import NamedEpisodes, SemanticPromptNetworks, TaskSampler
from sp_edge.errors import CheckpointError, DataError, PromptError
from sp_edge.model import PromptedNetwork, build_network
from sp_edge.model.normalization import Normalization
from sp_edge.prompts.familiarity import Familiarity
from sp_edge.prompts.table import PromptTable, TextSpec
from sp_edge.settings.settings import EvalSettings, ModelSettings, Settings
from sp_edge.training.checkpoint import Checkpoint
from sp_edge.training.evaluate import class_prompts, evaluate

NAMES = ("ant", "bee", "cat", "polar bear", "elk", "fox")


def make_network(**changes: str) -> PromptedNetwork:
    torch.manual_seed(0)
    network = build_network(ModelSettings("visformer_mini", 64, **{"layer": "3-1", **changes}), 8)
    if network.prompt is not None:
        with torch.no_grad():
            for value in network.prompt.parameters():
                value.normal_(0, 0.5)
    return network.eval()


@pytest.fixture(scope="module")
def network() -> PromptedNetwork:
    return make_network()


@pytest.fixture(scope="module")
def table() -> PromptTable:
    vectors = np.random.default_rng(1).normal(size=(6, 8)).astype(np.float32)
    return PromptTable(TextSpec("fake", "0", "{name}", 1.0, 8), NAMES[::-1], vectors)


@pytest.fixture(scope="module")
def pictures() -> PictureSet:
    """Six classes of eight pictures: noise on a colour that says a little about the class."""
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(6), 8)
    colours = rng.integers(110, 146, (6, 1, 1, 3))
    images = np.clip(colours[labels] + rng.integers(-90, 91, (48, 64, 64, 3)), 0, 255).astype(np.uint8)
    return PictureSet(images, labels, NAMES, {"all": np.arange(48)})


class Pictures(FewShotDataset):  # type: ignore[misc]
    """Our pictures as easyfsl takes them, by the normalisation that the network was trained with."""

    def __init__(self, pictures: PictureSet) -> None:
        self.images, self.labels = Normalization()(torch.from_numpy(pictures.images)), pictures.labels.tolist()

    def __getitem__(self, item: int) -> tuple[Tensor, int]:
        return self.images[item], self.labels[item]

    def __len__(self) -> int:
        return len(self.labels)

    def get_labels(self) -> list[int]:
        return list(self.labels)


class OurEpisodes(TaskSampler):
    """Hands out the episodes that our own evaluation sees."""

    def __init__(self, dataset: Any, labels: np.ndarray, **protocol: int) -> None:
        super().__init__(dataset, **protocol)
        counts = {key: protocol[key] for key in ("n_way", "n_shot", "n_query")}
        self.episodes = EpisodeSampler(labels, **counts, seed=0)

    def __iter__(self) -> Iterator[list[int]]:
        for number in range(self.n_tasks):
            episode = self.episodes.episode(number)
            yield np.concatenate([episode.support, episode.query], axis=1).ravel().tolist()


def loader(dataset: Any, sampler: TaskSampler, workers: int = 0) -> DataLoader[Any]:
    return DataLoader(dataset, batch_sampler=sampler, num_workers=workers, collate_fn=sampler.episodic_collate_fn)


def support(pictures: PictureSet, rows: list[int]) -> Tensor:
    return Normalization()(torch.from_numpy(pictures.images[rows]))


# --- through easyfsl's own evaluate ---


@pytest.mark.parametrize("n_shot", [1, 3])
@pytest.mark.parametrize("workers", [0, 2])
def test_easyfsls_own_evaluate_gives_the_accuracy_of_ours(
    network: PromptedNetwork, table: PromptTable, pictures: PictureSet, n_shot: int, workers: int
) -> None:
    model = SemanticPromptNetworks(network, prompts=table)
    dataset = Pictures(pictures)
    sampler = OurEpisodes(dataset, pictures.labels, n_way=4, n_shot=n_shot, n_query=2, n_tasks=10)
    named = NamedEpisodes(loader(dataset, sampler, workers), model, NAMES)
    assert len(named) == 10
    accuracy = easyfsl_evaluate(model, named, device="cpu", use_tqdm=False)
    protocol = EvalSettings(n_way=4, n_shot=(n_shot,), n_query=2, episodes=10)
    found = evaluate(network, pictures, class_prompts(network, pictures, table), protocol)
    ours, plain = (scores[n_shot, "all"].mean() for scores in found.scores.values())
    assert accuracy == pytest.approx(ours, abs=1.01 / 80), "one query may lie between two roundings"
    assert abs(ours - plain) > 2 / 80, "prompts must matter, or this says nothing"


def test_without_names_easyfsls_evaluate_sees_a_prototypical_network(
    network: PromptedNetwork, table: PromptTable, pictures: PictureSet
) -> None:
    dataset = Pictures(pictures)
    sampler = OurEpisodes(dataset, pictures.labels, n_way=4, n_shot=2, n_query=2, n_tasks=8)
    model = SemanticPromptNetworks(network, prompts=table)
    accuracy = easyfsl_evaluate(model, loader(dataset, sampler), device="cpu", use_tqdm=False)
    found = evaluate(network, pictures, None, EvalSettings(n_way=4, n_shot=(2,), n_query=2, episodes=8))
    assert accuracy == pytest.approx(found.scores["without prompts"][2, "all"].mean(), abs=1.01 / 64)


def test_a_ready_networks_weighed_places_run_through_it_with_names_and_without(
    table: PromptTable, pictures: PictureSet
) -> None:
    changes: dict[str, Any] = {"mean": (127.5,) * 3, "std": (127.5,) * 3, "place_evidence": -1.0, "text_prototype": True}
    torch.manual_seed(0)
    network = build_network(ModelSettings("timm:resnet10t", 64, "spatial", "last", **changes), 8).eval()
    network.text_share = 0.5
    dataset = Pictures(pictures)
    dataset.images = network.normalise(torch.from_numpy(pictures.images))
    sampler = OurEpisodes(dataset, pictures.labels, n_way=4, n_shot=1, n_query=2, n_tasks=10)
    model = SemanticPromptNetworks(network, prompts=table)
    found = evaluate(
        network,
        pictures,
        class_prompts(network, pictures, table),
        EvalSettings(n_way=4, n_shot=(1,), n_query=2, episodes=10),
    ).scores
    for name, episodes in {
        "with prompts": NamedEpisodes(loader(dataset, sampler), model, NAMES),
        "without prompts": loader(dataset, sampler),
    }.items():
        accuracy = easyfsl_evaluate(model, episodes, device="cpu", use_tqdm=False)
        assert accuracy == pytest.approx(found[name][1, "all"].mean(), abs=1.01 / 80)
    assert abs(found["with prompts"][1, "all"].mean() - found["without prompts"][1, "all"].mean()) > 2 / 80


@pytest.mark.parametrize("workers", [0, 2])
def test_easyfsls_wrapped_data_sets_and_our_sampler_go_together(
    network: PromptedNetwork, table: PromptTable, pictures: PictureSet, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = TensorDataset(Normalization()(torch.from_numpy(pictures.images)), torch.from_numpy(pictures.labels))
    wrapped = WrapFewShotDataset([(image, int(label)) for image, label in plain])
    sampler = TaskSampler(wrapped, n_way=3, n_shot=2, n_query=1, n_tasks=4)
    assert len(sampler) == 4
    model = SemanticPromptNetworks(network, prompts=table)
    seen: list[tuple[list[str], Tensor, Tensor]] = []
    process = SemanticPromptNetworks.process_support_set

    def spy(self: Any, images: Tensor, labels: Tensor, class_names: Any = None) -> None:
        process(self, images, labels, class_names)
        seen.append((list(self.class_names), images, labels))

    monkeypatch.setattr(SemanticPromptNetworks, "process_support_set", spy)
    random.seed(0)
    accuracy = easyfsl_evaluate(model, NamedEpisodes(loader(wrapped, sampler, workers), model, NAMES), device="cpu")
    assert 0 <= accuracy <= 1
    assert len(seen) == 4
    for names, images, labels in seen:
        for image, label in zip(images, labels.tolist(), strict=True):
            (row,) = [i for i, other in enumerate(plain.tensors[0]) if torch.equal(image, other)]
            assert names[label] == NAMES[pictures.labels[row]], "each picture's own class"


def test_a_sampler_refuses_what_the_data_set_cannot_give(pictures: PictureSet) -> None:
    with pytest.raises(ValueError, match="7"):
        TaskSampler(Pictures(pictures), n_way=7, n_shot=1, n_query=1, n_tasks=1)
    with pytest.raises(ValueError, match="9"):
        TaskSampler(Pictures(pictures), n_way=2, n_shot=5, n_query=4, n_tasks=1)


@pytest.mark.parametrize("before", [None, ["ant", "bee"]])
def test_the_last_episodes_names_do_not_stay(
    network: PromptedNetwork, table: PromptTable, pictures: PictureSet, before: list[str] | None
) -> None:
    """Otherwise the next support set without names of its own would silently get these."""
    model = SemanticPromptNetworks(network, prompts=table, class_names=before)
    dataset = Pictures(pictures)
    sampler = TaskSampler(dataset, n_way=3, n_shot=1, n_query=1, n_tasks=2)
    for _ in NamedEpisodes(loader(dataset, sampler), model, NAMES):
        assert len(model.class_names or ()) == 3
    assert model.class_names == before
    episodes = iter(NamedEpisodes(loader(dataset, sampler), model, NAMES))
    next(episodes)
    episodes.close()  # type: ignore[attr-defined]
    assert model.class_names == before, "nor where the reader stops early"


# --- names ---


def test_names_steer_the_support_and_leave_the_queries(
    network: PromptedNetwork, table: PromptTable, pictures: PictureSet
) -> None:
    images, labels, queries = support(pictures, [0, 1, 6, 7]), torch.tensor([0, 1, 0, 1]), support(pictures, [12, 13, 18])
    scores = {}
    with torch.no_grad():
        for names in (None, ("ant", "bee"), ("bee", "ant"), ("ant", "polar_bear")):
            model = SemanticPromptNetworks(network, prompts=table)
            model.process_support_set(images, labels, names)
            scores[names] = model(queries)
        assert all(value.shape == (3, 2) and value.abs().max() <= 1.0001 for value in scores.values())
        kept = list(scores.values())
        assert all((a - b).abs().max() > 1e-3 for i, a in enumerate(kept) for b in kept[:i])
        torch.testing.assert_close(scores["ant", "bee"][:, 0], scores["ant", "polar_bear"][:, 0])
        vectors = torch.from_numpy(table.select(["ant", "bee"]))
        shots = network(images, vectors[labels])
        prototypes = torch.stack([shots[labels == way].mean(0) for way in range(2)])
        expected = nn.functional.normalize(network(queries)) @ nn.functional.normalize(prototypes).T
    torch.testing.assert_close(scores["ant", "bee"], expected, rtol=1e-4, atol=1e-5)


def test_names_come_from_the_call_else_from_the_attribute_else_from_nowhere(
    network: PromptedNetwork, table: PromptTable, pictures: PictureSet
) -> None:
    images, labels = support(pictures, [0, 1]), torch.tensor([0, 1])

    def prototypes(attribute: Any, argument: Any) -> Tensor:
        model = SemanticPromptNetworks(network, prompts=table, class_names=attribute)
        with torch.no_grad():
            model.process_support_set(images, labels, argument)
        return model.prototypes

    named = prototypes(None, ["ant", "bee"])
    assert torch.equal(prototypes(["ant", "bee"], None), named)
    assert torch.equal(prototypes(["elk", "fox"], ["ant", "bee"]), named)
    assert not torch.allclose(prototypes(None, None), named, atol=1e-3)
    model = SemanticPromptNetworks(network, prompts=table)
    model.class_names = ["ant", "bee"]
    with torch.no_grad():
        model.process_support_set(images, labels)
    assert torch.equal(model.prototypes, named)


@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.uint8])
def test_labels_of_any_whole_kind_count(
    network: PromptedNetwork, table: PromptTable, pictures: PictureSet, kind: torch.dtype
) -> None:
    images, labels = support(pictures, [0, 1, 7]), torch.tensor([0, 1, 1])
    models = [SemanticPromptNetworks(network, prompts=table, class_names=("ant", "bee")) for _ in range(2)]
    with torch.no_grad():
        models[0].process_support_set(images, labels)
        models[1].process_support_set(images, labels.to(kind))
    assert torch.equal(models[0].prototypes, models[1].prototypes)


@pytest.mark.parametrize("names", [[], ["ant"], ["ant", "bee", "cat"]])
def test_there_are_as_many_names_as_classes(
    network: PromptedNetwork, table: PromptTable, pictures: PictureSet, names: list[str]
) -> None:
    model = SemanticPromptNetworks(network, prompts=table)
    with pytest.raises(DataError, match="as many names as classes") as raised:
        model.process_support_set(support(pictures, [0, 1]), torch.tensor([0, 1]), names)
    assert raised.value.expected == "2 names"


def test_a_name_without_a_prompt_is_refused(network: PromptedNetwork, table: PromptTable, pictures: PictureSet) -> None:
    images, labels = support(pictures, [0, 1]), torch.tensor([0, 1])
    with pytest.raises(PromptError, match="no class 'aunt'"):
        SemanticPromptNetworks(network, prompts=table).process_support_set(images, labels, ["aunt", "bee"])
    with pytest.raises(DataError, match="no prompts") as raised:
        SemanticPromptNetworks(network).process_support_set(images, labels, ["ant", "bee"])
    assert raised.value.next_step == "SemanticPromptNetworks.load"


@pytest.mark.parametrize("labels", [[0, 2], [1, 2], [-1, 0], [1], []])
@pytest.mark.parametrize("backbone", [nn.Flatten(), None])
def test_labels_with_a_gap_are_refused(labels: list[int], backbone: nn.Module | None) -> None:
    model = SemanticPromptNetworks(backbone)
    with pytest.raises(DataError, match="gap") as raised:
        model.process_support_set(torch.rand(len(labels), 12), torch.tensor(labels, dtype=torch.int64))
    assert raised.value.got == str(labels)


# --- as any method of easyfsl ---


def test_it_is_a_method_of_easyfsl() -> None:
    assert issubclass(SemanticPromptNetworks, FewShotClassifier)
    assert SemanticPromptNetworks.is_transductive() is False
    model = SemanticPromptNetworks()
    assert isinstance(model.backbone, nn.Identity)
    assert not model.use_softmax


@pytest.mark.parametrize("names", [None, ["ant", "bee", "cat"]])
@pytest.mark.parametrize("backbone", [nn.Flatten(), nn.Sequential(nn.Flatten(), nn.Linear(48, 5))], ids=["flatten", "linear"])
def test_with_an_ordinary_backbone_it_is_a_prototypical_network_with_or_without_names(
    backbone: nn.Module, names: list[str] | None
) -> None:
    generator = torch.Generator().manual_seed(0)
    images, queries = torch.randn(6, 3, 4, 4, generator=generator), torch.randn(5, 3, 4, 4, generator=generator)
    labels = torch.tensor([2, 0, 1, 0, 0, 2])  # unbalanced and in any order
    model, other = SemanticPromptNetworks(backbone, class_names=names), PrototypicalNetworks(backbone)
    with torch.no_grad():
        model.process_support_set(images, labels)
        other.process_support_set(images, labels)
        assert torch.equal(model.prototypes, other.prototypes)
        assert torch.equal(model.support_features, other.support_features)
        assert torch.equal(model.support_labels, labels)
        scores = model(queries)
        expected = nn.functional.cosine_similarity(backbone(queries)[:, None], other.prototypes[None], dim=2)
    assert scores.shape == (5, 3)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)


def test_scores_by_hand() -> None:
    model = SemanticPromptNetworks(nn.Identity())
    model.process_support_set(torch.tensor([[3.0, 0.0], [0.0, 2.0], [0.0, 4.0]]), torch.tensor([0, 1, 1]))
    torch.testing.assert_close(model.prototypes, torch.tensor([[3.0, 0.0], [0.0, 3.0]]))
    torch.testing.assert_close(model(torch.tensor([[3.0, 4.0], [-1.0, 0.0]])), torch.tensor([[0.6, 0.8], [-1.0, 0.0]]))


def test_a_prompt_weighs_less_the_more_shots_its_class_has(table: PromptTable, pictures: PictureSet) -> None:
    network = make_network()
    images, labels = support(pictures, [0, 0, 0, 1]), torch.tensor([0, 0, 0, 1])
    names = pictures.class_names[:2]
    vectors = torch.from_numpy(table.select(names))[labels]
    with torch.no_grad():
        network.strength = 1.0
        prompted, plain = network(images, vectors), network(images)
        network.strength = 0.5
        model = SemanticPromptNetworks(network, prompts=table)
        model.process_support_set(images, labels, names)
    first = 0.25 * prompted[:3].mean(dim=0) + 0.75 * plain[:3].mean(dim=0)
    second = 0.5 * prompted[3] + 0.5 * plain[3]
    torch.testing.assert_close(model.prototypes, torch.stack([first, second]), rtol=1e-4, atol=1e-4)


def test_a_name_weighs_less_the_less_familiar_it_is(table: PromptTable, pictures: PictureSet) -> None:
    network = make_network()
    network.familiarity = Familiarity(table.vector(NAMES[0]), 0.3 * np.eye(8, dtype=np.float32), usual=0.0)
    images, labels, names = support(pictures, [0, 5]), torch.tensor([0, 1]), (NAMES[0], NAMES[5])
    familiar = network.familiarity(table.select(names))
    assert familiar[0] == 1
    assert 0.01 < familiar[1] < 0.9
    vectors = torch.from_numpy(table.select(names))
    with torch.no_grad():
        prompted, plain = network(images, vectors), network(images)
        network.strength = 0.5
        model = SemanticPromptNetworks(network, prompts=table)
        model.process_support_set(images, labels, names)
    shares = torch.tensor(0.5 * familiar, dtype=torch.float32)[:, None]
    torch.testing.assert_close(model.prototypes, shares * prompted + (1 - shares) * plain, rtol=1e-4, atol=1e-4)


def test_a_network_without_prompts_takes_names_and_leaves_them(table: PromptTable, pictures: PictureSet) -> None:
    plain = make_network(interaction="none")
    images, labels = support(pictures, [0, 1]), torch.tensor([0, 1])
    model = SemanticPromptNetworks(plain, prompts=table)
    with torch.no_grad():
        model.process_support_set(images, labels, ["ant", "bee"])
        torch.testing.assert_close(model.prototypes, plain(images))


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_softmax_gives_probabilities_at_the_temperature(temperature: float) -> None:
    model = SemanticPromptNetworks(nn.Identity(), use_softmax=True, temperature=temperature)
    model.process_support_set(torch.eye(2), torch.tensor([0, 1]))
    chances = model(torch.tensor([[3.0, 4.0], [5.0, 12.0]]))
    torch.testing.assert_close(chances.sum(dim=1), torch.ones(2))
    cosines = torch.tensor([[0.6, 0.8], [5 / 13, 12 / 13]])
    exponents = torch.exp(cosines / temperature)
    torch.testing.assert_close(chances, exponents / exponents.sum(dim=1, keepdim=True))


@pytest.mark.parametrize("prompted", [True, False])
def test_centring_and_normalisation_are_easyfsls_for_both_ways(
    network: PromptedNetwork, table: PromptTable, pictures: PictureSet, prompted: bool
) -> None:
    centre = torch.linspace(-1, 1, 192)
    model = SemanticPromptNetworks(network, prompts=table, feature_centering=centre, feature_normalization=2.0)
    images, labels = support(pictures, [0, 1]), torch.tensor([0, 1])
    with torch.no_grad():
        model.process_support_set(images, labels, ["ant", "bee"] if prompted else None)
        vectors = torch.from_numpy(table.select(["ant", "bee"])) if prompted else None
        expected = nn.functional.normalize(network(images, vectors) - centre, dim=1)
    torch.testing.assert_close(model.support_features, expected)


def test_features_of_more_dimensions_are_easyfsls_error() -> None:
    model = SemanticPromptNetworks(nn.Identity())
    with pytest.raises(ValueError, match="Illegal backbone"):
        model.process_support_set(torch.rand(2, 3, 4, 4), torch.tensor([0, 1]))
    model.process_support_set(torch.rand(2, 48), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="Illegal backbone"):
        model(torch.rand(2, 3, 4, 4))


def test_a_support_set_folders_classes_are_names(
    network: PromptedNetwork, table: PromptTable, pictures: PictureSet, tmp_path: Path
) -> None:
    for row, name in [(3, "polar_bear"), (9, "polar_bear"), (0, "ant")]:
        (tmp_path / name).mkdir(exist_ok=True)
        Image.fromarray(pictures.images[row]).save(tmp_path / name / f"{row}.png")
    to_input = transforms.Compose([transforms.PILToTensor(), lambda x: Normalization()(x.permute(1, 2, 0)[None])[0]])
    folder = SupportSetFolder(tmp_path, transform=to_input)
    assert folder.classes == ["ant", "polar_bear"]
    model = SemanticPromptNetworks(network, prompts=table)
    with torch.no_grad():
        model.process_support_set(folder.get_images(), folder.get_labels(), folder.classes)
        vectors = torch.from_numpy(table.select(["ant", "polar bear", "polar bear"]))
        features = network(support(pictures, [0, 3, 9]), vectors)
    expected = torch.stack([features[0], features[1:].mean(0)])
    torch.testing.assert_close(model.prototypes, expected, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        other = SemanticPromptNetworks(network, prompts=table).from_folder(folder)
        torch.testing.assert_close(other.prototypes, expected, rtol=1e-4, atol=1e-4)
        assert other.class_names is None, "the folder's names are not the next support set's"
        with pytest.raises(PromptError, match="no class 'ant'"):
            SemanticPromptNetworks(network, prompts=table.only(["bee", "polar bear"])).from_folder(folder)


# --- state ---


def taught(backbone: nn.Module | None = None, n_way: int = 2) -> SemanticPromptNetworks:
    model = SemanticPromptNetworks(backbone)
    model.process_support_set(torch.arange(1.0, n_way * 3 + 1).reshape(n_way, 3), torch.arange(n_way))
    return model


@pytest.mark.parametrize("n_way", [None, 2, 5])
def test_what_was_taught_is_saved_and_loaded_whatever_was_there(tmp_path: Path, n_way: int | None) -> None:
    model = taught()
    torch.save(model.state_dict(), tmp_path / "model.pth")
    fresh = SemanticPromptNetworks() if n_way is None else taught(n_way=n_way)
    fresh.load_state_dict(torch.load(tmp_path / "model.pth", weights_only=True))
    queries = torch.tensor([[1.0, 0.0, 2.0]])
    torch.testing.assert_close(fresh(queries), model(queries))
    for name in ("prototypes", "support_features", "support_labels"):
        assert torch.equal(getattr(fresh, name), getattr(model, name))
    model.prototypes.zero_()
    assert fresh.prototypes.any(), "a copy"


def test_what_was_taught_is_saved_inside_a_larger_module() -> None:
    model, fresh = nn.ModuleDict({"sp": taught()}), nn.ModuleDict({"sp": SemanticPromptNetworks()})
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh["sp"].prototypes, model["sp"].prototypes)


def test_a_state_of_before_is_told_apart() -> None:
    with pytest.raises(RuntimeError, match="prototypes"):
        SemanticPromptNetworks(nn.Linear(2, 2)).load_state_dict(PrototypicalNetworks(nn.Linear(2, 2)).state_dict())


def test_what_was_taught_moves_with_the_model() -> None:
    model = taught().to(torch.float64)
    assert (model.prototypes.dtype, model.support_features.dtype) == (torch.float64, torch.float64)
    assert model.support_labels.dtype == torch.int64
    assert model(torch.ones(1, 3, dtype=torch.float64)).dtype == torch.float64
    assert taught().to("meta").prototypes.device.type == "meta"
    centred = SemanticPromptNetworks(feature_centering=torch.ones(3)).to(torch.float64)
    assert centred.feature_centering.dtype == torch.float64


def test_gradients_reach_backbone_and_prompt_as_in_easyfsls_training(table: PromptTable, pictures: PictureSet) -> None:
    network = make_network().train()
    model = SemanticPromptNetworks(network, prompts=table)
    model.process_support_set(support(pictures, [0, 1, 6, 7]), torch.tensor([0, 1, 0, 1]), ["ant", "bee"])
    nn.functional.cross_entropy(model(support(pictures, [12, 13])), torch.tensor([0, 1])).backward()
    assert network.prompt is not None
    for part in (network.backbone.stem, network.prompt):
        assert all(value.grad is not None and value.grad.any() for value in part.parameters())
    assert not model.state_dict()["prototypes"].requires_grad


# --- features in the place of pictures ---


def test_easyfsls_features_are_refused(network: PromptedNetwork, table: PromptTable) -> None:
    features = FeaturesDataset([0, 0, 1, 1], torch.rand(4, 192), ["ant", "bee"])
    sampler = TaskSampler(features, n_way=2, n_shot=1, n_query=1, n_tasks=1)
    model = SemanticPromptNetworks(network, prompts=table)
    with pytest.raises(DataError, match="names cannot steer") as raised:
        NamedEpisodes(loader(features, sampler), model, features.class_names)
    assert "data set of pictures" in raised.value.next_step
    with pytest.raises(DataError, match="encodes pictures") as raised:
        easyfsl_evaluate(model, loader(features, sampler), device="cpu", use_tqdm=False)
    assert raised.value.got == "(2, 192)"
    plain = SemanticPromptNetworks()
    assert easyfsl_evaluate(plain, loader(features, sampler), device="cpu", use_tqdm=False) >= 0, "no names, no harm"


def test_before_any_support_set_there_is_nothing_to_compare_with(network: PromptedNetwork, pictures: PictureSet) -> None:
    with pytest.raises(DataError, match="no support set yet"):
        SemanticPromptNetworks()(torch.rand(1, 3))
    batches = DataLoader([(image, 0) for image in support(pictures, [0, 1])], batch_size=2)
    with pytest.raises(DataError, match="no support set yet"):
        predict_embeddings(batches, SemanticPromptNetworks(network))


# --- load ---


def test_a_checkpoint_becomes_a_method(
    network: PromptedNetwork, table: PromptTable, pictures: PictureSet, tmp_path: Path
) -> None:
    model_settings = {"backbone": "visformer_mini", "image_size": 64, "layer": "3-1"}
    settings = Settings.from_mapping({"model": model_settings, "tune": {"temperature": 0.7}})
    path = tmp_path / "checkpoint.safetensors"
    Checkpoint(network, settings, table, "tuned", {"train": NAMES}).save(path)
    model = SemanticPromptNetworks.load(str(path), use_softmax=True)
    assert model.temperature == 0.7
    assert model.use_softmax
    assert not model.training or not model.backbone.training
    assert SemanticPromptNetworks.load(path, temperature=0.1).temperature == 0.1
    images, labels = support(pictures, [0, 1]), torch.tensor([0, 1])
    with torch.no_grad():
        model.process_support_set(images, labels, ["ant", "bee"])
        expected = network(images, torch.from_numpy(table.select(["ant", "bee"])))
    torch.testing.assert_close(model.prototypes, expected)
    with pytest.raises(CheckpointError):
        SemanticPromptNetworks.load(tmp_path / "nowhere")
