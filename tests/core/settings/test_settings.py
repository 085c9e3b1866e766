from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sp_edge.errors import SettingsError
from sp_edge.settings.settings import (
    AugmentSettings,
    DataSettings,
    ModelSettings,
    PretrainSettings,
    Settings,
    TextSettings,
    TuneSettings,
    recipes,
)

positive = st.floats(min_value=1e-12, max_value=1e12)
natural = st.integers(min_value=1, max_value=10**9)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
valid = st.builds(
    Settings,
    data=st.builds(
        DataSettings,
        source=text.filter(bool),
        resize_ratio=st.floats(1, 4),
        per_class=natural,
        test_per_class=natural.map(lambda n: n + 1),
    ),
    model=st.builds(
        ModelSettings,
        backbone=text,
        image_size=st.integers(),
        interaction=st.sampled_from(["both", "spatial", "channel", "none"]),
        layer=st.integers(0, 999).map("3-{}".format),
        pooling=st.sampled_from(["all", "patch", "head"]),
    ),
    text=st.builds(TextSettings, template=st.tuples(text, text).map("{name}".join), norm=positive),
    augment=st.builds(AugmentSettings, flip=st.booleans(), shift=st.floats(0, 0.49), brightness=st.floats(0, 0.99)),
    pretrain=st.builds(
        PretrainSettings, steps=natural, batch_size=natural.map(lambda n: n + 1), lr=positive, weight_decay=positive, group=text
    ),
    tune=st.builds(
        TuneSettings,
        steps=natural,
        n_way=natural.map(lambda n: n + 1),
        n_shot=st.lists(natural, min_size=1, max_size=3).map(tuple),
        n_query=natural,
        lr=st.floats(0, 1e12),
        prompt_lr=positive,
        temperature=positive,
        group=text,
    ),
    seed=st.integers(0, 2**63 - 1),
    precision=st.sampled_from(["auto", "fp32", "bf16"]),
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
TABLES = [f.name for f in dataclasses.fields(Settings)]
NAMES = sorted({f.name for t in (DataSettings, ModelSettings, TuneSettings, TextSettings) for f in dataclasses.fields(t)})


@given(valid)
@hypothesis_settings(deadline=None)
def test_settings_survive_a_checkpoint(settings: Settings) -> None:
    assert Settings.from_mapping(json.loads(json.dumps(settings.to_json()))) == settings


@given(st.dictionaries(st.sampled_from(TABLES) | text, anything | st.dictionaries(st.sampled_from(NAMES) | text, anything)))
@example({"text": {"norm": 10**400}})
@example({"pretrain": {"lr": float("inf")}})
@example({"tune": {"temperature": float("nan")}})
@example({"seed": 2**64})
@example({"seed": True})
@example({"tune": {"lr": True}})
@example({"model": {"layer": "3-٣"}})
@example({"model": {"layer": "3-" + "9" * 5000}})
@hypothesis_settings(deadline=None)
def test_anything_else_is_refused_as_a_setting(values: dict[str, Any]) -> None:
    try:
        settings = Settings.from_mapping(values)
    except SettingsError as error:
        assert error.expected  # noqa: PT017 - any value may be accepted, too
    else:
        json.dumps(settings.to_json(), allow_nan=False)
        assert settings.model.prompt_at is None or settings.model.prompt_at[1] >= 0


def test_nothing_set_gives_the_papers_settings() -> None:
    settings = Settings.from_mapping({})
    assert settings == Settings()
    assert (settings.model.backbone, settings.model.image_size, settings.model.prompt_at) == ("visformer_tiny", 224, (3, 2))
    assert (settings.tune.lr, settings.tune.prompt_lr, settings.tune.temperature) == (1e-6, 5e-4, 0.2)
    assert (settings.tune.n_way, settings.tune.n_shot, settings.tune.n_query) == (5, (1,), 15)
    assert (settings.text.template, settings.text.norm) == ("A photo of {name}", 9.0)
    assert settings.data.resize_ratio == 1.1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"modle": {}}, "data, model, text, augment, pretrain, tune, eval, expected, seed, precision"),
        ({"model": {"size": 64}}, "model.backbone, model.image_size, model.interaction, model.layer, model.zero_mean"),
        ({"tune": {"n-way": 5}}, "tune.n_way"),
    ],
)
def test_an_unknown_name_is_refused_with_those_that_are(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(SettingsError, match="there is no setting") as raised:
        Settings.from_mapping(values)
    assert expected in raised.value.expected


@pytest.mark.parametrize(
    ("values", "name", "kind"),
    [
        ({"model": {"image_size": "64"}}, "model.image_size", "int"),
        ({"model": {"image_size": 64.0}}, "model.image_size", "int"),
        ({"model": {"image_size": True}}, "model.image_size", "int"),
        ({"model": {"layer": 3}}, "model.layer", "str"),
        ({"augment": {"flip": 1}}, "augment.flip", "bool"),
        ({"augment": {"flip": "no"}}, "augment.flip", "bool"),
        ({"tune": {"lr": "small"}}, "tune.lr", "float"),
        ({"tune": {"lr": None}}, "tune.lr", "float"),
        ({"tune": {"lr": False}}, "tune.lr", "float"),
        ({"tune": 3}, "tune", "table"),
        ({"seed": 0.5}, "seed", "int"),
        ([], "recipe", "table"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(values: Any, name: str, kind: str) -> None:
    with pytest.raises(SettingsError, match=rf"the setting {name} is of the wrong kind") as raised:
        Settings.from_mapping(values)
    assert kind in raised.value.expected


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("model", "interaction", "all"),
        ("model", "pooling", "mean"),
        ("model", "layer", "4-1"),
        ("model", "layer", "3-"),
        ("model", "layer", "3--1"),
        ("model", "layer", "3-1\n"),
        ("text", "encoder", "bert"),
        ("text", "template", "a photo"),
        ("text", "norm", -1.0),
        ("text", "norm", -9.0),
        ("text", "norm", float("nan")),
        ("text", "norm", float("inf")),
        ("augment", "shift", 0.5),
        ("augment", "shift", -0.1),
        ("augment", "brightness", 1.0),
        ("augment", "brightness", -0.1),
        ("pretrain", "steps", 0),
        ("pretrain", "batch_size", 1),
        ("pretrain", "lr", 0.0),
        ("pretrain", "lr", float("inf")),
        ("pretrain", "weight_decay", -0.1),
        ("pretrain", "weight_decay", float("nan")),
        ("tune", "steps", 0),
        ("tune", "n_way", 1),
        ("tune", "n_shot", [0]),
        ("tune", "n_shot", []),
        ("tune", "n_shot", [1, 0]),
        ("tune", "n_query", 0),
        ("tune", "lr", -1e-6),
        ("tune", "prompt_lr", 0.0),
        ("tune", "weight_decay", -1.0),
        ("tune", "temperature", 0.0),
        ("tune", "patience", 3),
        ("data", "source", ""),
        ("data", "root", "pictures"),
        ("data", "split", "split.csv"),
        ("data", "names", "names.txt"),
        ("data", "resize_ratio", 0.9),
        ("data", "resize_ratio", 4.1),
        ("data", "interpolation", "nearest"),
        ("model", "mean", [1.0, 2.0]),
        ("model", "std", [1.0, 0.0, 1.0]),
        ("model", "std", [1.0]),
        ("data", "per_class", 0),
        ("data", "test_per_class", 1),
    ],
)
def test_a_value_out_of_range_is_refused(section: str, name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=rf"the setting {section}\.{name} is out of range") as raised:
        Settings.from_mapping({section: {name: value}})
    assert raised.value.expected
    assert raised.value.got == str(value)


@pytest.mark.parametrize(("name", "value"), [("seed", -1), ("seed", 2**63), ("precision", "fp16")])
def test_a_value_of_the_run_out_of_range_is_refused(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=f"the setting {name} is out of range"):
        Settings.from_mapping({name: value})


def test_whole_numbers_count_as_numbers() -> None:
    settings = Settings.from_mapping({"text": {"norm": 5}, "model": {"mean": [127, 127.5, 0]}})
    assert settings.text.norm == 5.0
    assert type(settings.text.norm) is float
    assert settings.model.mean == (127.0, 127.5, 0.0)
    assert {type(number) for number in settings.model.mean} == {float}


def test_nobody_can_change_them() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().seed = 3  # type: ignore[misc]


# --- recipes and overrides ---


def test_every_shipped_recipe_loads_and_its_network_can_be_built() -> None:
    from sp_edge.model import build_network

    assert {"folder", "scenes"} < set(recipes())
    for model in {Settings.load(recipe).model for recipe in recipes()}:
        assert build_network(model, 8).prompt is not None


def test_the_scenes_recipe_is_for_a_cpu() -> None:
    settings = Settings.load("scenes")
    assert settings.data.source == "scenes"
    assert (settings.model.backbone, settings.model.image_size, settings.model.layer) == ("visformer_mini", 96, "3-1")
    assert settings.text == TextSettings()


def test_overrides_are_toml_values_or_bare_words() -> None:
    overrides = [
        "seed=7",
        "model.image_size = 64",
        "data.source=my pictures/of = birds",
        "tune.lr=1e-4",
        "tune.prompt_lr=1",
        "augment.flip=false",
        'text.template="A {name}, drawn"',
        "tune.group=clean",
        "seed=8",
    ]
    settings = Settings.load("scenes", overrides)
    assert (settings.seed, settings.model.image_size, settings.data.source) == (8, 64, "my pictures/of = birds")
    assert (settings.tune.lr, settings.tune.prompt_lr, settings.augment.flip) == (1e-4, 1.0, False)
    assert (settings.text.template, settings.tune.group) == ("A {name}, drawn", "clean")
    assert settings.tune.n_way == Settings.load("scenes").tune.n_way, "what is not named stays"


@pytest.mark.parametrize("override", ["seed", "", "=3", " = 3", "seed.x=3", "pretrain.lr.x=3"])
def test_what_is_no_override_is_refused(override: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.load("scenes", [override, "seed=1"] if override == "seed" else ["seed=1", override])
    assert raised.value.expected == "section.name=value"
    assert raised.value.got == override


@pytest.mark.parametrize(
    "override",
    ["pretrain=3", "tune.lr=", "tune.lr=small", "model.size=3", "tune..lr=3", "seed=1979-05-27", f"seed={9999 * chr(91)}"],
)
def test_an_override_is_checked_as_any_setting(override: str) -> None:
    with pytest.raises(SettingsError):
        Settings.load("scenes", [override])


def test_a_recipe_can_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "réglages.toml"
    file.write_text('seed = 3\n[model]\nlayer = "3-0"\n', encoding="utf-8")
    assert Settings.load(str(file), ["seed=4"]) == Settings(model=ModelSettings(layer="3-0"), seed=4)


@pytest.mark.parametrize("content", [b"seed = ", b"\xff\xfe", b"a = " + b"[" * 9999])
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "recipe.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match="cannot read the recipe") as raised:
        Settings.load(str(file))
    assert raised.value.expected == f"{', '.join(recipes())}, or a TOML file"


@pytest.mark.parametrize("recipe", ["", "scene", "nowhere/recipe.toml", "../settings.py", "\0"])
def test_a_recipe_that_is_not_there_is_refused(recipe: str) -> None:
    with pytest.raises(SettingsError, match="cannot read the recipe"):
        Settings.load(recipe)
