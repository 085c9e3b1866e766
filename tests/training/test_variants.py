from __future__ import annotations

import dataclasses

import pytest

from sp_edge.errors import SettingsError
from sp_edge.settings.settings import Settings
from sp_edge.training import variants as module
from sp_edge.training.variants import PAPER_BASE, backbone_key, folder_name, paper_rows, plan, to_train


@pytest.fixture(autouse=True)
def no_networks(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Building networks takes seconds; that it is done is seen here."""
    built: list[object] = []
    monkeypatch.setattr(module, "build_network", lambda model, _dim: built.append(model))
    return built


def test_one_setting_varies_at_a_time(no_networks: list[object]) -> None:
    found = plan("scenes", ["tune.steps=7"], ["model.interaction=none,both", "model.layer=2-1, 3-2"])
    assert [v.name for v in found] == [
        "model.interaction=none", "model.interaction=both", "model.layer=2-1", "model.layer=3-2",
    ]  # fmt: skip
    assert [(v.settings.model.interaction, v.settings.model.layer) for v in found] == [
        ("none", "3-1"), ("both", "3-1"), ("both", "2-1"), ("both", "3-2"),
    ]  # fmt: skip
    assert {v.settings.tune.steps for v in found} == {7}
    assert len(no_networks) == 4


def test_a_grid_has_every_combination() -> None:
    found = plan("scenes", [], ["model.interaction=spatial,both", "tune.lr=1e-4,3e-4,1e-3"], grid=True)
    assert len(found) == 6
    assert found[1].name == "model.interaction=spatial, tune.lr=3e-4"
    assert (found[5].settings.model.interaction, found[5].settings.tune.lr) == ("both", 1e-3)


def test_lists_and_quoted_texts_keep_their_commas() -> None:
    found = plan("scenes", [], ["tune.n_shot=[1, 5],1,[5]", 'text.template="A photo, {name}",a {name}'])
    assert [v.settings.tune.n_shot for v in found[:3]] == [(1, 5), (1,), (5,)]
    assert [v.settings.text.template for v in found[3:]] == ["A photo, {name}", "a {name}"]


@pytest.mark.parametrize(
    ("vary", "words"),
    [
        ([], "nothing varies"),
        (["model.layer"], "not a setting that varies"),
        (["=1,2"], "not a setting that varies"),
        (["model.layer="], "not a setting that varies"),
        (["model.layer=3-1,"], "not a setting that varies"),
        (["model.layers=3-1,3-2"], "no setting model.layers"),
        (["model.interaction=both,all"], "model.interaction is out of range"),
        (["model.layer=3-1", "model.layer=3-2"], "varies twice"),
        (["eval.n_way=5,10"], "same episodes"),
        (["data.test_per_class=20,30"], "same episodes"),
        (["seed=1,2"], "same episodes"),
        (["model.prompt_strength=0,1"], "training is to choose it"),
        (["model.text_share=0,1"], "training is to choose it"),
    ],
)
def test_what_cannot_vary_is_refused(vary: list[str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        plan("scenes", [], vary)


def test_a_network_that_cannot_be_built_is_refused_before_any_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(SettingsError, match="layer does not exist"):
        plan("scenes", ["model.image_size=64"], ["model.layer=3-2,3-3"])


def test_the_papers_rows_have_every_layer_of_the_backbone() -> None:
    rows = paper_rows(Settings.load("scenes"))
    assert "model.layer=2-0,2-1,3-0,3-1,3-2" in rows
    found = plan("scenes", PAPER_BASE, rows)
    assert found[0].name == "model.interaction=none"
    assert [v.name for v in found].count("eval.classifier=lr") == 1
    assert not any(v.settings.tune.choose_strength for v in found)
    with pytest.raises(SettingsError, match="of a Visformer"):
        paper_rows(Settings.load("scenes", ["model.backbone=resnet12"]))


def test_what_only_measuring_needs_shares_a_run() -> None:
    base = Settings.load("scenes", ["tune.choose_strength=false"])
    found = plan(
        "scenes", ["tune.choose_strength=false"], ["eval.classifier=cosine,lr", "model.prompt_strength=0,0.5,1", "tune.lr=1e-4"]
    )
    trained = [to_train(v.settings) for v in found]
    assert trained[:5] == [base] * 5
    assert trained[5] != base
    validated = ["tune.choose_strength=false", "tune.validate_every=9", "model.prompt_strength=0.5"]
    assert to_train(Settings.load("scenes", validated)).model.prompt_strength == 0.5, "training validates with it"
    longer = Settings.load("scenes", ["eval.episodes=9", "expected.source=paper"])
    assert to_train(longer) == Settings.load("scenes")
    assert to_train(Settings.load("scenes", ["eval.n_shot=3"])).eval.n_shot == (3,), "training validates with it"


@pytest.mark.parametrize(
    ("change", "shared"),
    [
        ("model.layer=2-1", True),
        ("model.interaction=none", True),
        ("tune.lr=1e-4", True),
        ("text.norm=1", True),
        ("pretrain.lr=1e-4", False),
        ("augment.crop=0.5", False),
        ("model.image_size=64", False),
        ("model.drop_path=0.1", False),
        ("data.per_class=3", False),
        ("seed=1", False),
    ],
)
def test_what_pre_training_depends_on(change: str, shared: bool) -> None:
    assert (backbone_key(Settings.load("scenes", [change])) == backbone_key(Settings.load("scenes"))) == shared


def test_a_folder_says_what_the_run_changes() -> None:
    base = Settings.load("scenes")
    assert folder_name(base, base) == "recipe"
    assert folder_name(Settings.load("scenes", ["model.layer=3-2", "tune.lr=1e-4"]), base) == "model.layer=3-2,tune.lr=0.0001"
    odd = dataclasses.replace(base, text=dataclasses.replace(base.text, template="../" * 60 + "{name}"))
    assert "/" not in folder_name(odd, base)
    assert len(folder_name(odd, base)) < 120
