from __future__ import annotations

import ast
import json
import pickle
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

import sp_edge
from sp_edge.errors import CheckpointError
from sp_edge.model import build_network
from sp_edge.prompts.familiarity import Familiarity
from sp_edge.prompts.table import PromptTable, TextSpec
from sp_edge.settings.settings import Settings
from sp_edge.tensors import load_tensors, save_tensors
from sp_edge.training.checkpoint import SCHEMA, Checkpoint, versions

SETTINGS = Settings.from_mapping({"model": {"backbone": "visformer_mini", "image_size": 64, "layer": "3-1"}, "seed": 3})
TEXT = TextSpec("fake", "0", "A photo of {name}", 9.0, 4)
NAMES = ("red fox", "caf\u00e9", "赤い 自転車", "x" * 200)


def checkpoint(settings: Settings = SETTINGS) -> Checkpoint:
    torch.manual_seed(0)
    network = build_network(settings.model, 4)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.num_batches_tracked.fill_(7)
    vectors = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    classes = {"train": NAMES[:2], "test": NAMES[2:]}
    record = {"tune": {"steps": 3, "loss": 0.5}, "init": "pretrained.safetensors"}
    return Checkpoint(network.train(), settings, PromptTable(TEXT, NAMES, vectors), "tuned", classes, record)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed."""
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint.safetensors"
    checkpoint().save(path)
    return path


@pytest.fixture(scope="module")
def content(file: Path) -> bytes:
    return file.read_bytes()


@pytest.fixture(scope="module")
def parts(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors and metadata."""
    return load_tensors(file, CheckpointError)


# --- round trip ---


def test_what_was_saved_is_loaded(file: Path) -> None:
    before, after = checkpoint(), Checkpoint.load(file)
    states = before.network.state_dict(), after.network.state_dict()
    assert set(states[0]) == set(states[1])
    assert all(
        torch.equal(value, states[1][name]) and value.dtype == states[1][name].dtype for name, value in states[0].items()
    )
    assert after.settings == before.settings
    assert (after.prompts.text, after.prompts.names) == (TEXT, NAMES)
    np.testing.assert_array_equal(after.prompts.vectors, before.prompts.vectors)
    assert (after.stage, after.classes, after.record) == (before.stage, before.classes, before.record)
    assert not after.network.training


def test_a_loaded_network_gives_the_same_features(file: Path) -> None:
    network = checkpoint().network.eval()
    images, prompts = torch.randn(2, 3, 64, 64), torch.randn(2, 4)
    with torch.no_grad():
        torch.testing.assert_close(Checkpoint.load(file).network(images, prompts), network(images, prompts), rtol=0, atol=0)


def test_saving_again_gives_the_same_content_whatever_the_memory_layout(file: Path, tmp_path: Path) -> None:
    loaded = Checkpoint.load(file)
    loaded.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loaded.save(tmp_path / "again.safetensors")
    first, again = (path.read_bytes() for path in (file, tmp_path / "again.safetensors"))
    (length,) = struct.unpack("<Q", first[:8])
    assert json.loads(again[8 : 8 + length]) == json.loads(first[8 : 8 + length]), "in any order: safetensors has none"
    assert again[8 + length :] == first[8 + length :]


def test_a_network_without_prompts_round_trips(tmp_path: Path) -> None:
    settings = Settings.from_mapping({"model": {**SETTINGS.to_json()["model"], "interaction": "none"}})
    checkpoint(settings).save(tmp_path / "c.safetensors")
    assert Checkpoint.load(tmp_path / "c.safetensors").network.prompt is None


def test_the_file_says_what_it_is_in_json(content: bytes, parts: tuple[dict[str, Any], dict[str, Any]]) -> None:
    (length,) = struct.unpack("<Q", content[:8])
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    described = {key: json.loads(value) for key, value in metadata.items()}
    assert described == parts[1]
    assert (described["kind"], described["schema"], described["stage"]) == ("checkpoint", SCHEMA, "tuned")
    assert described["names"] == list(NAMES)
    assert described["versions"] == versions()
    assert set(versions()) == {"sp-edge", "torch", "timm", "python"}


def test_weights_keep_timms_names(parts: tuple[dict[str, Any], dict[str, Any]]) -> None:
    import timm.models.visformer

    assert "backbone.stage3.0.attn.qkv.weight" in parts[0]
    from sp_edge.model import build_backbone

    backbone = build_backbone("visformer_mini", 64)
    assert isinstance(backbone, timm.models.visformer.Visformer)
    weights = {n.removeprefix("backbone."): torch.from_numpy(v) for n, v in parts[0].items() if n.startswith("backbone.")}
    backbone.load_state_dict(weights, strict=True)


# --- nothing is pickled ---


def test_no_pickle_is_read_or_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("pickle")

    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(torch, "save", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    checkpoint().save(tmp_path / "c.safetensors")
    Checkpoint.load(tmp_path / "c.safetensors")


def test_a_pickle_is_not_a_checkpoint(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "checkpoint.pth")
    with pytest.raises(CheckpointError):
        Checkpoint.load(tmp_path / "checkpoint.pth")


def test_the_package_has_no_call_that_could_unpickle() -> None:
    forbidden = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"}
    found = []
    for path in Path(sp_edge.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names: set[str] = set()
            if isinstance(node, ast.Import):
                names = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {(node.module or "").split(".")[0]}
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "torch.save"):
                safe = any(k.arg == "weights_only" and getattr(k.value, "value", None) is True for k in node.keywords)
                names = set() if safe else {"pickle"}
            elif (
                isinstance(node, ast.keyword) and node.arg == "allow_pickle" and getattr(node.value, "value", None) is not False
            ):
                names = {"pickle"}
            if names & forbidden:
                found.append(f"{path}:{getattr(node, 'lineno', 0)}")
    assert not found


# --- what is not a checkpoint ---


def load_or_refuse(path: Path) -> Checkpoint | None:
    """Any other error than the one that is documented comes through."""
    try:
        return Checkpoint.load(path)
    except CheckpointError as error:
        assert str(path) in str(error)  # noqa: PT017 - it may load, too
        return None


fuzz = hypothesis_settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@given(data=st.data())
@fuzz
def test_damaged_bytes_only_ever_give_our_error(content: bytes, tmp_path: Path, data: st.DataObject) -> None:
    (length,) = struct.unpack("<Q", content[:8])
    kind = data.draw(st.sampled_from(["cut", "head", "length", "rubbish"]))
    damaged = bytearray(content)
    if kind == "cut":
        damaged = damaged[: data.draw(st.integers(0, len(content) - 1))]
    elif kind == "head":
        for _ in range(data.draw(st.integers(1, 4))):
            damaged[data.draw(st.integers(8, 8 + length - 1))] = data.draw(st.integers(0, 255))
    elif kind == "length":
        damaged[:8] = struct.pack("<Q", data.draw(st.integers(0, 2**64 - 1)))
    else:
        damaged = bytearray(data.draw(st.binary(max_size=200)))
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(damaged)
    loaded = load_or_refuse(path)
    assert loaded is None or kind in ("head", "length")
    assert kind == "head" or loaded is None or bytes(damaged) == content


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PLACES = [
    ("kind",),
    ("schema",),
    ("settings",),
    ("settings", "model"),
    ("settings", "model", "backbone"),
    ("settings", "model", "image_size"),
    ("settings", "model", "interaction"),
    ("settings", "model", "layer"),
    ("settings", "model", "pooling"),
    ("settings", "text", "norm"),
    ("settings", "tune", "temperature"),
    ("settings", "seed"),
    ("settings", "new"),
    ("text",),
    ("text", "dim"),
    ("text", "norm"),
    ("text", "template"),
    ("names",),
    ("names", 0),
    ("stage",),
    ("classes",),
    ("classes", "train"),
    ("classes", "train", 0),
    ("record",),
]


def changed(metadata: dict[str, Any], place: tuple[Any, ...], value: object) -> dict[str, Any]:
    copy = json.loads(json.dumps(metadata))
    table = copy
    for key in place[:-1]:
        table = table[key]
    table[place[-1]] = value
    return dict(copy)


@given(place=st.sampled_from(PLACES), value=anything)
@example(place=("settings", "model", "image_size"), value=32 * 10**6)
@example(place=("settings", "model", "image_size"), value=32 * 10**30)
@example(place=("settings", "model", "image_size"), value=-64)
@example(place=("settings", "model", "image_size"), value=96)
@example(place=("settings", "model", "backbone"), value="visformer_tiny")
@example(place=("settings", "model", "interaction"), value="none")
@example(place=("settings", "model", "layer"), value="3-999")
@example(place=("settings", "text", "norm"), value=10**400)
@example(place=("settings", "seed"), value=10**400)
@example(place=("text", "dim"), value=10**12)
@example(place=("text", "norm"), value=10**400)
@example(place=("names", 0), value="\ud800")
@example(place=("classes",), value=[["train", ["a"]]])
@example(place=("record",), value=[1, 2])
@fuzz
def test_changed_metadata_only_ever_gives_our_error(
    parts: tuple[dict[str, Any], dict[str, Any]], tmp_path: Path, place: tuple[Any, ...], value: object
) -> None:
    tensors, metadata = parts
    path = tmp_path / "changed.safetensors"
    described = {key: json.dumps(each) for key, each in changed(metadata, place, value).items()}
    path.write_bytes(save(tensors, described))
    load_or_refuse(path)


@pytest.mark.parametrize("key", ["kind", "schema", "settings", "text", "names", "stage", "classes", "record"])
def test_nothing_may_be_missing(parts: tuple[dict[str, Any], dict[str, Any]], tmp_path: Path, key: str) -> None:
    tensors, metadata = parts
    path = tmp_path / "c.safetensors"
    save_tensors(path, tensors, {k: v for k, v in metadata.items() if k != key})
    with pytest.raises(CheckpointError) as raised:
        Checkpoint.load(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("name", ["class_prompts", "backbone.pos_embed1", "prompt.spatial.weight", "backbone.norm.running_var"])
@pytest.mark.parametrize("change", ["missing", "shape", "extra"])
def test_weights_have_to_fit(parts: tuple[dict[str, Any], dict[str, Any]], tmp_path: Path, name: str, change: str) -> None:
    tensors, metadata = dict(parts[0]), parts[1]
    if change == "missing":
        del tensors[name]
    elif change == "shape":
        tensors[name] = tensors[name][..., :-1]
    else:
        tensors[f"{name}2"] = tensors[name]
    path = tmp_path / "c.safetensors"
    save_tensors(path, tensors, metadata)
    with pytest.raises(CheckpointError, match="does not fit together"):
        Checkpoint.load(path)


@pytest.mark.parametrize("schema", [0, SCHEMA + 1, "1", None])
def test_another_schema_is_refused(parts: tuple[dict[str, Any], dict[str, Any]], tmp_path: Path, schema: object) -> None:
    path = tmp_path / "c.safetensors"
    save_tensors(path, parts[0], {**parts[1], "schema": schema})
    with pytest.raises(CheckpointError, match="another schema") as raised:
        Checkpoint.load(path)
    assert (raised.value.expected, raised.value.got) == (str(SCHEMA), repr(schema))
    assert "the version of sp-edge that wrote it" in raised.value.next_step


def test_other_files_of_ours_are_refused(tmp_path: Path) -> None:
    checkpoint().prompts.save(tmp_path / "prompts.safetensors")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        Checkpoint.load(tmp_path / "prompts.safetensors")
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(CheckpointError, match="cannot read"):
            Checkpoint.load(path)


def test_it_is_a_plain_safetensors_file(content: bytes) -> None:
    assert load(content)["backbone.pos_embed3"].shape == (1, 192, 2, 2)


@pytest.mark.parametrize(("prototype", "fitted"), [(True, True), (True, False), (False, True), (False, False)])
def test_text_and_familiarity_count_where_text_was_fitted(tmp_path: Path, prototype: bool, fitted: bool) -> None:
    settings = Settings.from_mapping(
        {**SETTINGS.to_json(), "model": {**SETTINGS.to_json()["model"], "text_prototype": prototype}}
    )
    saved = checkpoint(settings)
    record = {"text_prototype": {"classes": 2, "ridge": 1.0, "explained": 0.5}} if fitted else {}
    replace(saved, record=record).save(tmp_path / "checkpoint.safetensors")
    found = Checkpoint.load(tmp_path / "checkpoint.safetensors").network
    strange = saved.prompts.vectors[2:]
    if not (prototype and fitted):
        assert found.familiarity is None
        assert found.text_share == 0
        assert found.familiarity_of(strange).tolist() == [1, 1]
        return
    assert found.text_share == settings.model.text_share == 0.5
    expected = Familiarity.of(saved.prompts.vectors[:2])(strange)
    np.testing.assert_array_equal(found.familiarity_of(strange), expected)
    assert found.familiarity_of(saved.prompts.vectors[0]) == pytest.approx(1)


def test_names_that_an_earlier_version_stored_as_they_were_written_are_found(tmp_path: Path) -> None:
    """They hold a character that is not seen, which is left out of names today."""
    settings = Settings.from_mapping({**SETTINGS.to_json(), "model": {**SETTINGS.to_json()["model"], "text_prototype": True}})
    saved = checkpoint(settings)
    spelled = ("dog\u200b house", *saved.prompts.names[1:])
    prompts = PromptTable(saved.prompts.text, spelled, saved.prompts.vectors)
    classes = {"train": spelled[:2]}
    record = {"text_prototype": {"classes": 2, "ridge": 1.0, "explained": 0.5}}
    replace(saved, record=record, classes=classes, prompts=prompts).save(tmp_path / "checkpoint.safetensors")
    found = Checkpoint.load(tmp_path / "checkpoint.safetensors")
    assert found.network.familiarity_of(found.prompts.select(spelled[:2])) == pytest.approx(1)


def test_base_names_that_are_too_few_for_a_text_prototype_are_refused(tmp_path: Path) -> None:
    settings = Settings.from_mapping({**SETTINGS.to_json(), "model": {**SETTINGS.to_json()["model"], "text_prototype": True}})
    for classes in ({"test": NAMES}, {"train": NAMES[:1]}, {"train": ("nobody",)}):
        replace(checkpoint(settings), record={"text_prototype": {}}, classes=classes).save(tmp_path / "checkpoint.safetensors")
        with pytest.raises(CheckpointError, match="does not fit together"):
            Checkpoint.load(tmp_path / "checkpoint.safetensors")
