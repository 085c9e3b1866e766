from __future__ import annotations

from pathlib import Path

import pytest
import torch

from restated import random_state, shapes
from sp_edge.cli import cli
from sp_edge.cli.common import run
from sp_edge.training.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the authors' form; not to be changed."""
    path = tmp_path_factory.mktemp("theirs") / "checkpoint_epoch_best.pth"
    torch.save({"epoch": 99, "state_dict": random_state(shapes(grids=(10, 5, 2))), "optimizer": {}}, path)
    return path


def test_a_checkpoint_is_imported_beside_the_file(theirs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["import", str(theirs), "--data", "/nowhere", "--set", "model.layer=3-1"]) == 0
    said = capsys.readouterr().out
    target = theirs.with_suffix(".safetensors")
    assert f"{theirs}: visformer_tiny at 84 px, tuned" in said
    assert "prompts: both at 3-1, linear projector, clip (512)" in said
    assert "assumed: layer 3-1, pooling all, zero_mean True, interaction both" in said
    assert "sp-edge prompts --set text.encoder=clip --set text.norm=0 --names-file" in said
    assert "the data set /nowhere is not here" in said
    assert said.endswith(f"checkpoint: {target}\n")
    checkpoint = Checkpoint.load(target)
    assert checkpoint.settings.model.layer == "3-1"
    assert checkpoint.settings.data.source == "/nowhere"


def test_what_lies_beside_the_file_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"precious")
    assert run(cli, ["import", str(tmp_path / "checkpoint.pth"), "--data", "x"]) == 2
    assert "checkpoint.safetensors would be overwritten" in capsys.readouterr().err
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == b"precious"


@pytest.mark.parametrize("given", [".", "/", "nowhere.pth"])
def test_what_is_no_file_is_refused(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(cli, ["import", given, "--data", "x"]) == 2
    assert f"cannot read {given}" in capsys.readouterr().err


def test_the_scenes_names_are_known(theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "ours.safetensors"
    assert run(cli, ["import", str(theirs), "--data", "scenes", "--out", str(out)]) == 0
    assert "is not here" not in capsys.readouterr().out
    assert Checkpoint.load(out).classes["test"]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ([], "which pictures was the network trained on?"),
        (["--data", "x", "--set", "data.source=y"], "--data and --set data.source say the same thing twice"),
        (["--data", "x", "--root", "y", "--set", "data.root=z"], "--root and --set data.root say the same thing twice"),
        (["--data", "x", "--set", "model.layer=2-0"], "the checkpoint does not fit model.layer"),
        (["--data", "x", "--set", "model.image_size=224"], "the checkpoint does not fit model.image_size"),
        (["--data", "x", "--set", "text.encoder=sbert"], "the checkpoint's text encoder is another one"),
        (["--data", "x", "--prompts", "nowhere.safetensors"], "cannot read nowhere.safetensors"),
        (["--data", "x", "--recipe", "nothing"], "cannot read the recipe nothing"),
    ],
)
def test_what_does_not_fit_is_said_and_nothing_written(
    theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], what: str
) -> None:
    out = tmp_path / "ours.safetensors"
    assert run(cli, ["import", str(theirs), "--out", str(out), *arguments]) == 2
    assert f"error: {what}" in capsys.readouterr().err
    assert not out.exists()


def test_the_file_itself_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "theirs.safetensors"
    path.write_bytes(b"precious")
    assert run(cli, ["import", str(path), "--data", "x"]) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert path.read_bytes() == b"precious"
