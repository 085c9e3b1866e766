"""The command around an ablation; trainings are stood in for."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from sp_edge.cli import cli
from sp_edge.cli.common import run
from sp_edge.errors import DataError
from sp_edge.settings.settings import Settings
from sp_edge.training import ablate as module
from sp_edge.training.ablate import Measured, Row
from sp_edge.training.evaluate import WITH, WITHOUT
from sp_edge.training.variants import Variant

Call = Callable[..., tuple[int, str, str]]
SMALL = ["--imgsz", "64", "--set", "eval.episodes=4"]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.chdir(tmp_path)

    def sp_edge(*arguments: object) -> tuple[int, str, str]:
        code = run(cli, ["ablate", *map(str, arguments)])
        return code, *capsys.readouterr()

    return sp_edge


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    def ablate(variants: Sequence[Variant], base: Settings, folder: Path, **options: Any) -> list[Row]:
        seen.update(variants=variants, base=base, folder=folder, **options)
        scores = np.array([0.4, 0.6, 0.5, 0.5])
        runs = [Measured({WITH: {(1, "all"): scores}, WITHOUT: {(1, "all"): scores}}, 1.0, folder)]
        return [Row(variant, runs) for variant in variants]

    monkeypatch.setattr(module, "ablate", ablate)
    return seen


def test_it_prints_and_writes_the_comparison(call: Call, asked: dict[str, Any]) -> None:
    code, out, err = call("scenes", *SMALL, "--vary", "model.interaction=none,both", "--seeds", 2, "--out", "there")
    assert code == 0, err
    assert (asked["folder"], asked["seeds"], asked["base"].model.image_size) == (Path("there"), 2, 64)
    assert "model.interaction=both" in out
    assert "50.0 ± 8.0" in out
    assert "mean of 4 episodes" in out
    assert {path.name for path in Path("there").iterdir()} == {"ablation.md", "ablation.json", "ablation.png"}
    assert json.loads(Path("there/ablation.json").read_text("utf-8"))["reference"] == "model.interaction=none"


def test_the_papers_rows_are_at_full_strength_unless_told_otherwise(call: Call, asked: dict[str, Any]) -> None:
    assert call(*SMALL, "--paper", "--vary", "tune.lr=1e-5")[0] == 0
    assert asked["variants"][0].name == "model.interaction=none"
    assert asked["variants"][-1].name == "tune.lr=1e-5"
    assert not asked["base"].tune.choose_strength
    assert asked["folder"] == Path("runs/1")
    assert call(*SMALL, "--paper", "--set", "tune.choose_strength=true")[0] == 0
    assert asked["base"].tune.choose_strength


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "nothing varies"),
        (("--paper", "--grid"), "one setting at a time"),
        (("--vary", "model.layer"), "not a setting that varies"),
        (("--vary", "model.layer=3-9"), "layer does not exist"),
        (("--paper", "--vary", "model.layer=3-1"), "varies twice"),
        (("nowhere.toml", "--paper"), "cannot read the recipe"),
        (("--set", "model.image_size=96", "--paper"), "say the same thing twice"),
    ],
)
def test_what_cannot_be_is_said_and_leaves_nothing(call: Call, arguments: tuple[str, ...], words: str) -> None:
    code, _, err = call(*arguments, *SMALL)
    assert code == 2
    assert words in err
    assert not Path("runs").exists()


def test_a_folder_in_which_nothing_was_begun_goes_again(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> list[Row]:
        raise DataError("too few pictures")

    monkeypatch.setattr(module, "ablate", fail)
    code, _, err = call(*SMALL, "--vary", "model.layer=3-1,3-2")
    assert (code, "too few pictures" in err) == (2, True)
    assert not list(Path("runs").iterdir())
