from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sp_edge import runs
from sp_edge.cli.training import recipe_and_overrides
from sp_edge.data import sets
from sp_edge.errors import CheckpointError
from sp_edge.model import PromptedPlaces, build_network
from sp_edge.model.ready.weights import PROMPT_LR, Head, ReadyWeights
from sp_edge.prompts.table import PromptTable
from sp_edge.settings.settings import Settings, TuneSettings
from sp_edge.training import places, run, start
from sp_edge.training.checkpoint import Checkpoint
from sp_edge.training.directions import fit_directions
from sp_edge.training.evaluate import evaluate_checkpoint
from sp_edge.training.run import train
from sp_edge.training.start import Known, ready_model, settings_of

Quick = Callable[..., Settings]
PLACED = {"backbone": "timm:resnet10t", "interaction": "spatial", "layer": "last", "text_prototype": True}
STILL = {"steps": 1, "lr": 0.0, "prompt_lr": 1e-30, "channel_lr": 0.0}


def nobody_asks() -> str:
    raise AssertionError("the network itself brings the backbone")


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch) -> ReadyWeights:
    """Stands for any ready-made network."""
    torch.manual_seed(1)
    network = build_network(dataclasses.replace(Settings().model, backbone="timm:resnet10t", interaction="none"), 4)
    weights = ReadyWeights(
        "timm/resnet10t", "resnet10t", network.backbone.state_dict(), 64, 0.875, "bicubic", (127.5,) * 3, (120.0,) * 3,
        None, "here", "MIT",
    )  # fmt: skip
    monkeypatch.setattr(start, "find_weights", lambda _model: weights)
    return weights


@pytest.mark.parametrize(
    ("init", "model"),
    [
        ("ready", "efficientnet_lite0"),
        ("efficientnet_lite1", "efficientnet_lite1"),
        ("timm/resnet10t.c3_in1k", "timm/resnet10t.c3_in1k"),
        ("timm", None),
        ("runs/1/checkpoint.safetensors", None),
    ],
)
def test_a_start_may_name_a_ready_made_network(init: str, model: str | None) -> None:
    assert ready_model(Path(init)) == model


def test_a_ready_made_network_brings_its_settings(ready: ReadyWeights) -> None:
    brought = settings_of(Path("timm/resnet10t"), nobody_asks)
    settings = Settings.load("folder", [*brought, "model.image_size=96", "data.source=x"])
    model, data = settings.model, settings.data
    assert settings.tune.cached_views == 2
    assert (model.backbone, model.interaction, model.prompt_at) == ("timm:resnet10t", "spatial", None)
    assert model.image_size == 96, "what is asked for expressly comes after"
    assert (model.mean, model.std) == (ready.mean, ready.std)
    assert (data.interpolation, data.resize_ratio) == ("bicubic", 1 / 0.875)


def test_what_a_classifier_knows_by_name_is_tuned_in_small_steps(
    ready: ReadyWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    head = Head(np.ones((2, 512), np.float32), ("kite", "drum"))
    monkeypatch.setattr(start, "find_weights", lambda _model: dataclasses.replace(ready, head=head))
    (tmp_path / "own.toml").write_text("[tune]\nprompt_lr = 0.25\n")
    for recipe, expected in ((None, PROMPT_LR), (str(tmp_path / "own.toml"), 0.25)):
        given = recipe_and_overrides(recipe, [], data="x", root=None, init=Path("timm/resnet10t"))
        assert Settings.load(*given).tune.prompt_lr == expected
        assert ("own.toml says how to tune" in caplog.text) == (recipe is not None)
    elsewhere = recipe_and_overrides(None, ["model.interaction=channel"], data="x", root=None, init=Path("timm/resnet10t"))
    assert Settings.load(*elsewhere).tune.prompt_lr == TuneSettings().prompt_lr, "its prompt has learned nothing yet"
    monkeypatch.setattr(start, "find_weights", lambda _model: ready)
    given = recipe_and_overrides(None, [], data="x", root=None, init=Path("timm/resnet10t"))
    assert Settings.load(*given).tune.prompt_lr == TuneSettings().prompt_lr, "nothing is known that could be lost"


@pytest.mark.parametrize(
    ("backbone", "mean", "std"),
    [
        ("visformer_tiny", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
        ("timm:vit_small_patch16_224", (127.5,) * 3, (127.5,) * 3),
    ],
)
def test_timms_weights_bring_the_normalization_that_they_have_seen(
    backbone: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    brought = Settings.load("folder", [*settings_of(Path("timm"), lambda: backbone), "data.source=x"])
    assert brought.model.mean == pytest.approx(mean)
    assert brought.model.std == pytest.approx(std)


def test_a_backbone_that_timm_has_no_weights_for_brings_nothing() -> None:
    assert settings_of(Path("timm"), lambda: "visformer_mini") == []


def test_names_are_fitted_before_a_ready_made_network_is_tuned(quick: Quick, tmp_path: Path, ready: ReadyWeights) -> None:
    settings = quick(model=PLACED, tune=STILL)
    checkpoint = train(settings, tmp_path / "run", device="cpu", init=Path("timm/resnet10t"))
    network = checkpoint.network
    assert isinstance(network, PromptedPlaces)
    for name, value in ready.weights.items():  # statistics of BatchNorm, too, which a few episodes would replace
        assert torch.equal(network.backbone.state_dict()[name], value), name
    assert network.prompt.fitted
    assert network.familiarity is not None
    # A run can start from it, too, with its settings and what has been fitted.
    first = tmp_path / "run" / runs.CHECKPOINT
    again = Settings.load("folder", [*settings_of(first, nobody_asks), "data.source=x"])
    for name in ("backbone", "interaction", "layer", "mean", "std", "place_threshold", "image_size"):
        assert getattr(again.model, name) == getattr(settings.model, name)
    second = train(settings, tmp_path / "second", device="cpu", init=first)
    for name, value in second.network.prompt.state_dict().items():  # type: ignore[union-attr]
        torch.testing.assert_close(value, network.prompt.state_dict()[name], rtol=1e-5, atol=1e-20)
    pictures = sets.load_split(settings, "test")
    protocol = dataclasses.replace(settings.eval, n_way=3, n_query=2, n_shot=(1,), episodes=20)
    assert "with prompts" in evaluate_checkpoint(Checkpoint.load(first), pictures, protocol).rows()


@pytest.mark.parametrize(
    ("recipe", "options", "views"), [("", [], 2), ("", ["tune.cached_views=0"], 0), ("[tune]\ncached_views = 3", [], 3)]
)
def test_how_to_tune_is_what_the_user_says(
    ready: ReadyWeights, tmp_path: Path, recipe: str, options: list[str], views: int
) -> None:
    (tmp_path / "own.toml").write_text(recipe)
    given = recipe_and_overrides(str(tmp_path / "own.toml"), options, data="x", root=None, init=Path("timm/resnet10t"))
    settings = Settings.load(*given)
    assert (settings.tune.cached_views, settings.model.backbone) == (views, "timm:resnet10t")


def test_what_is_kept_of_a_ready_made_network_gives_what_it_gives_anew(
    quick: Quick, tmp_path: Path, ready: ReadyWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names, patches and the text prototype are fitted to the kept features; the network does not move."""
    begin, seen = PromptedPlaces.begin, []
    monkeypatch.setattr(PromptedPlaces, "begin", lambda self, image: seen.append(len(image)) or begin(self, image))
    networks = []
    for views in (0, 1):
        seen.clear()
        tune = {**STILL, "cached_views": views, "choose_strength": False}
        init = Path("timm/resnet10t")
        networks.append(train(quick(model=PLACED, tune=tune), tmp_path / str(views), device="cpu", init=init).network)
    assert sum(seen) == 24 + 2, "two empty pictures find what is trained, and every other goes through once"
    anew, kept = (network.state_dict() for network in networks)
    for name, value in ready.weights.items():
        assert torch.equal(kept[f"backbone.{name}"], value), name
    for name, value in anew.items():
        spread = float(value.float().abs().max())
        torch.testing.assert_close(kept[name], value, rtol=0.02, atol=0.02 * spread + 1e-6)
    assert not list((tmp_path / "1").glob("*kept*"))


def test_directions_fitted_to_other_text_vectors_are_not_taken(quick: Quick, tmp_path: Path, ready: ReadyWeights) -> None:
    settings = quick(model=PLACED, tune=STILL)
    first = train(settings, tmp_path / "run", device="cpu", init=Path("timm/resnet10t"))
    network, table = build_network(settings.model, first.prompts.text.dim), first.prompts
    file = tmp_path / "run" / runs.CHECKPOINT
    start.start_from(network, file, settings, dataclasses.replace(table, text=dataclasses.replace(table.text, norm=5.0)))
    assert isinstance(network, PromptedPlaces)
    assert not network.prompt.fitted
    start.start_from(network, file, settings, table)
    assert network.prompt.fitted


def test_what_a_classifier_knows_by_name_outlasts_training(
    quick: Quick, tmp_path: Path, ready: ReadyWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names are fitted to the classifier's classes, and go on from there, also in a run that starts from this run."""
    settings = quick(model=PLACED, tune=STILL)
    names = tuple(f"{kind} {what}" for kind in ("old", "new") for what in ("boat", "kite", "drum", "comb", "lamp", "harp"))
    rows = np.random.default_rng(0).normal(size=(len(names), 512)).astype(np.float32)
    monkeypatch.setattr(start, "extend_table", lambda _table, wanted, settings, given: run.prompt_table(wanted, settings))
    monkeypatch.setattr(start, "find_weights", lambda _model: dataclasses.replace(ready, head=Head(rows, names)))
    first = train(settings, tmp_path / "first", device="cpu", init=Path("timm/resnet10t"))
    assert first.classes["named"] == names
    text = first.prompts.select(names)
    weight, bias = fit_directions(text, rows)
    assert isinstance(first.network, PromptedPlaces)
    direction = first.network.prompt.direction
    np.testing.assert_allclose(direction.weight.detach().numpy(), weight, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(direction.bias.detach().numpy(), bias, rtol=1e-5, atol=1e-6)
    again = train(settings, tmp_path / "again", device="cpu", init=tmp_path / "first" / runs.CHECKPOINT)
    for checkpoint in (first, again, Checkpoint.load(tmp_path / "first" / runs.CHECKPOINT)):
        assert set(names) <= set(checkpoint.classes["named"])
        every = (*names, *checkpoint.classes["train"])
        assert checkpoint.network.familiarity_of(checkpoint.prompts.select(every)) == pytest.approx(1, abs=1e-6)
        assert isinstance(checkpoint.network, PromptedPlaces)
        np.testing.assert_allclose(checkpoint.network.prompt.direction.weight.detach().numpy(), weight, rtol=1e-5, atol=1e-6)


def test_a_run_that_was_begun_on_base_names_alone_claims_no_others(quick: Quick) -> None:
    """As an earlier version began it, whose state knows nothing of the classifier."""
    network = build_network(quick(model=PLACED).model, 8)
    table = run.prompt_table(["kite", "drum", "comb"], Settings().text)
    known = Known(table.names, table, None)
    assert run._named(network, None) == run._named(network, known) == {}
    assert network.text_prototype is not None
    network.text_prototype.set(np.eye(512, 8), np.ones(512), np.ones(512))
    assert run._named(network, known) == {"named": table.names}


def test_known_names_keep_their_descriptions(quick: Quick) -> None:
    text = Settings().text
    own, others = run.prompt_table(["kite"], quick().text), run.prompt_table(["kite", "drum", "comb"], text)
    described = PromptTable(others.text, others.names, others.vectors, {"kite": ("red",), "drum": ("loud", "round")})
    table = Known(("drum", "comb", "kite"), described, None).added_to(own)
    assert dict(table.descriptions) == {"drum": ("loud", "round")}, "what the run itself says of a name counts"
    assert set(table.names) == set(others.names)


def test_a_classifier_whose_names_cannot_be_encoded_is_passed_over(
    quick: Quick, tmp_path: Path, ready: ReadyWeights, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = quick(model=PLACED, tune=STILL)  # whose prompts come from an encoder that is not there any more
    head = Head(np.ones((1, 512), np.float32), ("nothing of ours",))
    monkeypatch.setattr(start, "find_weights", lambda _model: dataclasses.replace(ready, head=head))
    checkpoint = train(settings, tmp_path / "run", device="cpu", init=Path("timm/resnet10t"))
    assert "the classifier's cannot be encoded" in caplog.text
    assert "named" not in checkpoint.classes
    assert checkpoint.network.prompt.fitted  # type: ignore[union-attr]


def test_weights_of_another_network_are_refused(quick: Quick, tmp_path: Path, ready: ReadyWeights) -> None:
    with pytest.raises(CheckpointError, match="are the weights of another network"):
        train(quick(), tmp_path / "run", device="cpu", init=Path("timm/resnet10t"))
    assert not (tmp_path / "run").exists()


def test_closed_form_finds_where_names_lie(quick: Quick) -> None:
    """Scores of places have mean 0 and deviation 1 over the pictures that they were fitted on, for every name."""
    settings = quick(model=PLACED)
    pictures = sets.load_split(settings, "train")
    table = run.prompt_table(pictures.class_names, settings.text)
    torch.manual_seed(0)
    network = build_network(settings.model, table.text.dim).eval()
    assert isinstance(network, PromptedPlaces)
    fit = places.fit_places(network, pictures, table)
    assert fit.classes == len(pictures.class_names)
    with torch.no_grad():
        tokens = network.begin(network.normalise(torch.from_numpy(pictures.images)))
        for vector in torch.from_numpy(table.select(pictures.class_names)):
            scores = network.scores(tokens, vector.expand(len(tokens), -1)).numpy()
            assert abs(scores.mean()) < 0.05
            assert scores.std() == pytest.approx(1, abs=0.1)
    assert np.isfinite(scores).all()
