from __future__ import annotations

import builtins
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import toy
from sp_edge.cli import cli
from sp_edge.cli.common import run

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """`call('bank', 'list')` gives exit code, output and errors."""

    def sp_edge(*arguments: object) -> tuple[int, str, str]:
        code = run(cli, [str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return sp_edge


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_bundle: Path) -> Path:
    """The working directory, with runs/1 and runs/2; the newer one has the bundle."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "1").mkdir(parents=True)
    shutil.copytree(toy_bundle, tmp_path / "runs" / "2" / "model.spedge")
    return tmp_path


@pytest.fixture
def taught(place: Path, call: Call, toy_pictures: Path) -> Path:
    """The working directory with a bank of red, green and blue beside the bundle."""
    for number, name in enumerate(toy.COLOURS):
        assert call("enroll", "--name", name, toy_pictures / f"{number} {name}.png")[0] == 0
    return place


@pytest.fixture
def without_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra that makes ready-made bundles is not installed."""
    original = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "sp_edge_export.ready":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
