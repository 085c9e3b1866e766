"""The command over `make_ready`, which tests/export/ready tests for real."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sp_edge.errors import SettingsError

Call = Callable[..., tuple[int, str, str]]
SOURCE = {"model": "m", "source": "somewhere", "license": "Apache-2.0", "sha256": "ab"}


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path, Any]]:
    """What `make_ready` was asked for, in a working directory of its own."""
    found: list[tuple[str, Path, Any]] = []

    def make(model: str, out: Path, options: Any) -> Any:
        found.append((model, out, options))
        named = {"text_prototype": {}} if model != "timm/nameless" else {}
        return SimpleNamespace(
            path=out, manifest=SimpleNamespace(precision=options.precision, training={"record": {"ready": SOURCE, **named}})
        )

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sp_edge_export.ready.make_ready", make)
    return found


def test_without_arguments_it_makes_the_default_model(asked: list[Any], call: Call) -> None:
    code, out, err = call("ready")
    assert (code, err) == (0, "")
    ((model, path, options),) = asked
    assert (model, path) == ("efficientnet_lite0", Path("ready.spedge"))
    assert (options.precision, options.names, options.data, options.weights) == ("fp32", (), None, None)
    assert "bundle: ready.spedge, fp32" in out
    assert "license of the weights: Apache-2.0" in out
    assert "any name" in out


def test_options_are_handed_on(asked: list[Any], call: Call, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cup\n\nred fox\n")
    options = ["--precision", "int8", "--names", "names.txt", "--data", "photos", "--weights", "w.pth", "--out", "x.spedge"]
    code, _, _ = call("ready", "timm/resnet18", *options, "--json", "made.json")
    assert code == 0
    ((model, path, given),) = asked
    assert (model, path) == ("timm/resnet18", Path("x.spedge"))
    assert (given.precision, given.names) == ("int8", ("cup", "red fox"))
    assert (given.data, given.weights) == (Path("photos"), Path("w.pth"))
    made = json.loads((tmp_path / "made.json").read_text("utf-8"))
    assert (made["bundle"], made["license"], made["source"]) == ("x.spedge", "Apache-2.0", "somewhere")


def test_it_says_where_names_do_not_count(asked: list[Any], call: Call) -> None:
    del asked
    assert "pictures decide alone" in call("ready", "timm/nameless")[1]


def test_the_list_makes_nothing(asked: list[Any], call: Call, tmp_path: Path) -> None:
    code, out, _ = call("ready", "--list", "--json", "list.json")
    assert (code, asked) == (0, [])
    assert "efficientnet_lite0" in out
    models = json.loads((tmp_path / "list.json").read_text("utf-8"))["models"]
    assert models[0]["model"] == "efficientnet_lite0"
    assert set(models[0]) == {"model", "license", "image_size", "parameters", "names", "weights"}


def test_an_unknown_model_is_an_error_of_the_user(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = call("ready", "efficientnet-lite0")
    assert code == 2
    assert "efficientnet_lite0" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("without_export")
def test_without_torch_it_says_to_make_the_bundle_elsewhere(call: Call) -> None:
    code, _, err = call("ready")
    assert code == 2
    assert "the package torch" in err
    assert "sp-edge[ready]" in err
    assert "copy ready.spedge here" in err


def test_errors_of_its_options_are_told(asked: list[Any], call: Call) -> None:
    code, _, err = call("ready", "--names", "none.txt")
    assert (code, asked) == (2, [])
    assert "none.txt" in err


def test_a_refused_model_leaves_no_bundle(monkeypatch: pytest.MonkeyPatch, call: Call, tmp_path: Path) -> None:
    def refuse(*_arguments: Any) -> None:
        raise SettingsError("no such model")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sp_edge_export.ready.make_ready", refuse)
    assert call("ready", "timm/none")[0] == 2
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_is_written_instead_of_a_bundle(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    class Checkpoint:
        record = {"ready": SOURCE, "text_prototype": {}}  # noqa: RUF012

        def save(self, file: Path) -> None:
            file.write_text("weights")

    monkeypatch.setattr("sp_edge_export.ready.prepare", lambda model, _: SimpleNamespace(checkpoint=Checkpoint()))
    code, out, _ = call("ready", "--checkpoint", "ready.safetensors", "--json", "made.json")
    assert (code, (tmp_path / "ready.safetensors").read_text()) == (0, "weights")
    assert "checkpoint: ready.safetensors" in out
    assert json.loads((tmp_path / "made.json").read_text())["checkpoint"] == "ready.safetensors"
    assert not (tmp_path / "ready.spedge").exists()
    code, _, err = call("ready", "--checkpoint", "ready.safetensors", "--precision", "int8")
    assert code == 2
    assert "--precision does nothing with --checkpoint" in err
