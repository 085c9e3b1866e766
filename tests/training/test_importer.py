"""Checkpoints of the authors' form, whose features are known from tests/restated.py."""

from __future__ import annotations

import dataclasses
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor

from restated import State, calibrate, features, random_state, shapes
from sp_edge.errors import CheckpointError, PromptError, SettingsError
from sp_edge.prompts.table import PromptTable, TextSpec
from sp_edge.settings.settings import Settings
from sp_edge.training.checkpoint import Checkpoint
from sp_edge.training.importer import import_checkpoint, read

AT_84 = {"grids": (21, 10, 5), "small_stem": True}
FORMS: dict[str, tuple[dict[str, Any], int, dict[str, Any]]] = {
    # Form of the file, side of the pictures, and what settings have to add.
    "clip at 224": ({}, 224, {}),
    "sbert, mlp3, small stem": ({**AT_84, "text_dim": 768, "projector": "mlp3"}, 84, {"pooling": "head"}),
    "minilm, spatial, mlp": ({**AT_84, "text_dim": 384, "mode": "spatial", "projector": "mlp"}, 84, {"layer": "3-0"}),
    "stage 2, timm's stem": ({"grids": (10, 5, 2), "stage": 2}, 84, {"pooling": "patch", "layer": "2-1"}),
    "channel, raw": ({"grids": (10, 5, 2)}, 84, {"interaction": "channel", "zero_mean": False}),
    "pre-trained": ({**AT_84, "mode": "none", "classes": 351}, 84, {}),
}


def save(path: Path, state: State, **more: Any) -> Path:
    torch.save({"epoch": 99, "state_dict": OrderedDict(state), "optimizer": {"state": {}, "param_groups": []}} | more, path)
    return path


def given_settings(**model: Any) -> Settings:
    return Settings.from_mapping({"data": {"source": "/nowhere"}, "model": model})


@pytest.fixture(scope="module", params=FORMS)
def form(request: pytest.FixtureRequest) -> tuple[str, State, Tensor, Tensor]:
    """Name, state with calibrated BatchNorm, pictures and texts."""
    of, side, _ = FORMS[request.param]
    rng = torch.Generator().manual_seed(1)
    pictures = torch.randn(4, 3, side, side, generator=rng)
    texts = torch.randn(4, of.get("text_dim", 512), generator=rng)
    state = random_state(shapes(**of))
    calibrate(state, pictures)
    return request.param, state, pictures[:2], texts[:2] * 9 / texts[:2].norm(dim=1, keepdim=True)


def close(actual: Tensor, expected: Tensor) -> bool:
    return bool((actual.double() - expected).abs().max() < 1e-5 * expected.abs().max())


@torch.no_grad()
def test_features_are_the_original_networks(form: tuple[str, State, Tensor, Tensor], tmp_path: Path) -> None:
    name, state, pictures, texts = form
    _, side, changes = FORMS[name]
    imported = import_checkpoint(save(tmp_path / "a.pth", state), given_settings(**changes))
    imported.save(tmp_path / "ours.safetensors")
    loaded = Checkpoint.load(tmp_path / "ours.safetensors")
    plain = features(state, pictures)
    assert plain.abs().max() > 0.1
    assert close(loaded.network(pictures), plain)
    model = loaded.settings.model
    assert model.image_size == side
    assert model.backbone == ("visformer_tiny_84" if "small_stem" in FORMS[name][0] else "visformer_tiny")
    if model.interaction == "none":
        assert loaded.network.prompt is None
        assert loaded.stage == "pretrained"
        return
    how = {n: getattr(model, n) for n in ("layer", "interaction", "pooling", "zero_mean")}
    prompted = features(state, pictures, texts, **how)
    assert (prompted - plain).abs().max() > 1e-2 * plain.abs().max(), "the prompt must matter"
    assert close(loaded.network(pictures, texts), prompted)
    assert loaded.stage == "tuned"


SMALL = {"grids": (10, 5, 2)}


@pytest.fixture(scope="module")
def state() -> State:
    """A file for CLIP at 84 pixels; not to be changed."""
    return random_state(shapes(**SMALL))  # type: ignore[arg-type]


def test_what_the_file_does_not_show_is_the_releases_and_noted(state: State, tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {**state, "log_tau": torch.tensor(-1.5)})
    imported = import_checkpoint(path, given_settings())
    model = imported.settings.model
    assert (model.backbone, model.image_size, model.interaction) == ("visformer_tiny", 84, "both")
    assert (model.layer, model.pooling, model.zero_mean, model.projector) == ("3-2", "all", True, "linear")
    noted = imported.record["imported"]
    assert noted["file"] == "a.pth"
    assert len(noted["sha256"]) == 64
    assert (noted["epoch"], noted["head_classes"], noted["log_tau"]) == (99, 64, -1.5)
    assert noted["assumed"] == {"layer": "3-2", "pooling": "all", "zero_mean": True, "interaction": "both"}
    assert imported.settings.tune.temperature == Settings().tune.temperature
    assert imported.classes == {}
    assert not imported.network.training


@pytest.mark.parametrize(
    ("of", "encoder", "norm"),
    [({"text_dim": 512}, "clip", 0.0), ({"text_dim": 768}, "sbert", 9.0), ({"text_dim": 384}, "minilm", 9.0)],
)
def test_the_text_encoder_is_known_by_its_width(of: dict[str, Any], encoder: str, norm: float, tmp_path: Path) -> None:
    imported = import_checkpoint(save(tmp_path / "a.pth", random_state(shapes(**SMALL, **of))), given_settings())
    assert (imported.settings.text.encoder, imported.settings.text.norm) == (encoder, norm)
    assert imported.prompts.text == TextSpec(encoder, "", "A photo of {name}", norm, of["text_dim"])
    assert imported.prompts.names == ()
    vectors = np.ones((1, of["text_dim"]), np.float32)
    seen = PromptTable(TextSpec(encoder, "abc", "A photo of {name}", norm or 10.1, of["text_dim"]), ("red fox",), vectors)
    assert imported.prompts.with_table(seen) is seen, "the first table tells what the file could not"


@pytest.mark.parametrize("kind", ["vectors", "table"])
def test_a_file_of_vectors_gives_the_checkpoint_all_its_prompts(state: State, tmp_path: Path, kind: str) -> None:
    """Nothing could encode them later, and export refuses a checkpoint without prompts."""
    file = tmp_path / "vectors.npz"
    vectors = {name: np.full(512, number, np.float32) for number, name in enumerate(("red fox", "mug"), start=1)}
    if kind == "vectors":
        np.savez(file, **vectors)
    else:
        file = tmp_path / "table.safetensors"
        PromptTable(TextSpec("file", "", "{name}", 9.0, 512), tuple(vectors), np.stack(list(vectors.values()))).save(file)
    text = {"encoder": "file", "path": str(file), "norm": 9.0}
    settings = Settings.from_mapping({"data": {"source": "x"}, "text": text})
    table = import_checkpoint(save(tmp_path / "a.pth", state), settings, named={"text.encoder", "text.path"}).prompts
    assert table.names == ("red fox", "mug")
    assert (table.text.encoder, table.text.dim) == ("file", 512)
    np.savez(tmp_path / "narrow.npz", mug=np.ones(3, np.float32))
    narrow = Settings.from_mapping({"data": {"source": "x"}, "text": {**text, "path": str(tmp_path / "narrow.npz")}})
    with pytest.raises(CheckpointError, match=r"narrow\.npz is for another network"):
        import_checkpoint(tmp_path / "a.pth", narrow)
    missing = Settings.from_mapping({"data": {"source": "x"}, "text": {**text, "path": str(tmp_path / "no.npz")}})
    with pytest.raises(PromptError, match=r"no\.npz"):
        import_checkpoint(tmp_path / "a.pth", missing)


def test_glove_needs_its_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", random_state(shapes(**SMALL, text_dim=300)))
    with pytest.raises(SettingsError, match=r"text\.path"):
        import_checkpoint(path, given_settings())
    settings = Settings.from_mapping({"data": {"source": "x"}, "text": {"encoder": "glove", "path": "glove.6B.300d.txt"}})
    text = import_checkpoint(path, settings, named={"text.encoder", "text.path"}).prompts.text
    assert (text.encoder, text.dim, text.norm) == ("glove", 300, 9.0)


def test_an_unknown_width_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", random_state(shapes(**SMALL, text_dim=640)))
    with pytest.raises(CheckpointError, match="text encoder") as raised:
        import_checkpoint(path, given_settings())
    assert "640" in raised.value.got
    assert "sbert (768 numbers)" in raised.value.expected


def test_a_prompt_table_says_how_texts_were_encoded(state: State, tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", state)
    spec = TextSpec("clip", "abc", "a drawing of {name}", 10.5, 512)
    table = PromptTable(spec, ("red fox",), np.ones((1, 512), np.float32))
    table.save(tmp_path / "names.safetensors")
    imported = import_checkpoint(path, given_settings(), prompts=tmp_path / "names.safetensors")
    assert (imported.prompts.text, imported.prompts.names) == (spec, ("red fox",))
    text = imported.settings.text
    assert (text.encoder, text.template, text.norm) == ("clip", "a drawing of {name}", 10.5)
    with pytest.raises(SettingsError, match="not both"):
        import_checkpoint(path, given_settings(), named={"text.norm"}, prompts=tmp_path / "names.safetensors")
    dataclasses.replace(table, text=dataclasses.replace(spec, dim=3), vectors=np.ones((1, 3), np.float32)).save(
        tmp_path / "other.safetensors"
    )
    with pytest.raises(CheckpointError, match="for another network"):
        import_checkpoint(path, given_settings(), prompts=tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("layer", "2-1"),
        ("image_size", 96),
        ("backbone", "visformer_tiny_84"),
        ("interaction", "spatial"),
        ("projector", "mlp"),
        ("text_prototype", True),
    ],
)
def test_a_setting_that_was_asked_for_is_not_changed(state: State, tmp_path: Path, setting: str, value: Any) -> None:
    path = save(tmp_path / "a.pth", state)
    settings = given_settings(**{setting: value})
    with pytest.raises(CheckpointError, match=rf"does not fit model\.{setting}") as raised:
        import_checkpoint(path, settings, named={f"model.{setting}"})
    assert raised.value.got == str(value)
    shown = getattr(import_checkpoint(path, settings).settings.model, setting)
    assert shown != value, "a recipe's gives way"
    assert raised.value.expected.startswith(str(shown))


@pytest.mark.parametrize("size", [80, 82, 84, 86])
def test_pictures_of_any_size_with_these_grids_can_be_asked_for(state: State, tmp_path: Path, size: int) -> None:
    path = save(tmp_path / "a.pth", state)
    imported = import_checkpoint(path, given_settings(image_size=size), named={"model.image_size"})
    assert imported.settings.model.image_size == size


# --- what is refused ---


def test_all_that_does_not_fit_is_listed(state: State, tmp_path: Path) -> None:
    broken = {**state, "stage4.0.norm1.bn.weight": torch.ones(3), "norm.bn.bias": torch.ones(4)}
    del broken["stage3.0.attn.qkv.weight"], broken["se_block.2.bias"]
    with pytest.raises(CheckpointError, match="does not fit its network") as raised:
        import_checkpoint(save(tmp_path / "a.pth", broken), given_settings())
    assert raised.value.got == (
        "2 missing: stage3.0.attn.qkv.weight, se_block.2.bias; 1 unexpected: stage4.0.norm1.bn.weight; "
        "1 wrong shape: norm.bn.bias (4,) instead of (384,)"
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_weights_that_are_not_finite_are_refused(state: State, tmp_path: Path, value: float) -> None:
    broken = {**state, "norm.bn.bias": torch.full((384,), value, dtype=torch.float64)}
    with pytest.raises(CheckpointError, match=r"1 not finite: norm\.bn\.bias"):
        import_checkpoint(save(tmp_path / "a.pth", broken), given_settings())


def test_half_precision_is_taken_and_integers_are_not(state: State, tmp_path: Path) -> None:
    half = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    imported = import_checkpoint(save(tmp_path / "a.pth", half), given_settings())
    assert imported.network.backbone.pos_embed1.dtype == torch.float32
    with pytest.raises(CheckpointError, match="of another kind"):
        import_checkpoint(
            save(tmp_path / "b.pth", {**state, "norm.bn.bias": torch.ones(384, dtype=torch.int64)}), given_settings()
        )


def test_a_bare_state_dict_is_taken(state: State, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "a.pth")
    imported = import_checkpoint(tmp_path / "a.pth", given_settings())
    assert "epoch" not in imported.record["imported"]


class Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def test_nothing_in_a_file_is_run(state: State, tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", state, args=Bomb(str(tmp_path / "made")))
    with pytest.raises(CheckpointError, match="cannot read"):
        import_checkpoint(path, given_settings())
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "content",
    [
        [],
        3,
        {},
        torch.ones(3),
        {"state_dict": 3},
        {"state_dict": [torch.ones(3)]},
        {"state_dict": {1: torch.ones(3)}},
        {"state_dict": {"stem.0.weight": 3}},
        {"state_dict": {"stem.0.weight": torch.ones(3)}},
        {"state_dict": {"pos_embed1": torch.ones(2, 2).to_sparse()}},
        {"state_dict": {"pos_embed1": torch.ones(2, 2, dtype=torch.complex64)}},
        {"state_dict": {"pos_embed1": torch.empty(2, 2, device="meta")}},
    ],
    ids=lambda content: str(content)[:40],
)
def test_other_files_of_torch_are_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError):
        import_checkpoint(tmp_path / "a.pth", given_settings())


def test_other_files_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere.pth"):
        with pytest.raises(CheckpointError, match="cannot read"):
            import_checkpoint(path, given_settings())


fuzz = hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FEW = {"pos_embed1": torch.ones(1, 96, 2, 2), "stem.0.weight": torch.ones(2, 3)}


@given(cut=st.integers(0, 2000), flip=st.integers(0, 2000), value=st.integers(0, 255))
@fuzz
def test_a_damaged_file_only_ever_gives_our_error(tmp_path: Path, cut: int, flip: int, value: int) -> None:
    path = tmp_path / "a.pth"
    torch.save({"state_dict": FEW}, path)
    content = bytearray(path.read_bytes())
    content[flip % len(content)] = value
    path.write_bytes(content if cut % 2 else content[: cut % len(content)])
    with pytest.raises(CheckpointError):
        import_checkpoint(path, given_settings())


@given(content=st.binary(max_size=300))
@fuzz
def test_bytes_only_ever_give_our_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(CheckpointError):
        read(tmp_path / "a.pth")
