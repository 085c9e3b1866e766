from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sp_edge.settings.settings import EvalSettings, Settings
from sp_edge.training.ablate import Measured, Row
from sp_edge.training.ablation_report import caption, report, table, to_json
from sp_edge.training.evaluate import WITH, WITHOUT
from sp_edge.training.variants import Variant

CLUTTER, CLEAN = (1, "clutter"), (5, "clean")


def row(name: str, *means: float, prompted: bool = True) -> Row:
    """A row whose runs have these accuracies in clutter, on four episodes that differ by 0.1, and 0.9 in the clean."""
    steps = np.array([-0.1, 0.1, -0.1, 0.1])
    runs = []
    for mean in means:
        plain = {CLUTTER: 0.5 + steps, CLEAN: 0.9 + steps}
        scores = {WITH: {CLUTTER: mean + steps, CLEAN: 0.9 + steps}, WITHOUT: plain} if prompted else {WITHOUT: plain}
        runs.append(Measured(scores, 0.7 if prompted else 0.0, Path("runs/1") / name))
    return Row(Variant(name, Settings()), runs)


@pytest.fixture
def rows() -> list[Row]:
    return [
        row("model.interaction=none", 0.5, prompted=False),
        row("model.interaction=both", 0.6),
        row("model.layer=2-1", 0.45),
    ]


def test_the_table_in_numbers(rows: list[Row]) -> None:
    """Four values 0.1 off their mean deviate by 0.2 / sqrt(3): the interval is 1.96 * 0.11547 / 2 = 11.3 points."""
    header, lines = table(rows)
    assert header == ["", "1-shot, clutter", "difference", "5-shot, clean", "difference", "strength"]
    assert lines == [
        ["model.interaction=none", "50.0 ± 11.3", "", "90.0 ± 11.3", "", "0"],
        ["model.interaction=both", "60.0 ± 11.3", "+10.0 ± 0.0", "90.0 ± 11.3", "+0.0 ± 0.0", "0.7"],
        ["model.layer=2-1", "45.0 ± 11.3", "-5.0 ± 0.0", "90.0 ± 11.3", "+0.0 ± 0.0", "0.7"],
    ]


def test_seeds_show_their_spread() -> None:
    several = [row("tune.lr=1", 0.4, 0.6), row("tune.lr=2", 0.5, 0.5)]
    _, lines = table(several)
    assert lines[0][1] == "50.0 ± 11.3 [14.1]"
    assert lines[1][1:3] == ["50.0 ± 11.3 [0.0]", "+0.0 ± 0.0"]
    assert lines[0][-1] == "0.7, 0.7"
    assert "Mean of 2 seeds" in caption(several, EvalSettings())
    assert "seeds" not in caption([row("tune.lr=1", 0.5)], EvalSettings())


def test_everything_is_written(rows: list[Row], tmp_path: Path) -> None:
    protocol = EvalSettings(episodes=4)
    report(rows, protocol, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"ablation.md", "ablation.json", "ablation.png"}
    text = (tmp_path / "ablation.md").read_text("utf-8").splitlines()
    assert text[1] == "| --- | ---: | ---: | ---: | ---: | ---: |"
    assert text[3] == "| model.interaction=both | 60.0 ± 11.3 | +10.0 ± 0.0 | 90.0 ± 11.3 | +0.0 ± 0.0 | 0.7 |"
    assert text[-1] == caption(rows, protocol)
    found = json.loads((tmp_path / "ablation.json").read_text("utf-8"))
    assert found == json.loads(json.dumps(to_json(rows, protocol)))
    assert found["reference"] == "model.interaction=none"
    cell = found["rows"][1]["figures"]["1-shot"]["clutter"]
    assert cell["accuracy"]["mean"] == pytest.approx(0.6)
    assert cell["difference"]["mean"] == pytest.approx(0.1)
    assert cell["without prompts"]["mean"] == pytest.approx(0.5)
    assert found["rows"][2]["runs"] == [{"folder": "runs/1/model.layer=2-1", "strength": 0.7}]
    assert found["rows"][0]["settings"] == Settings().to_json()


def test_the_plot_has_a_mark_for_every_row_and_setting(rows: list[Row], tmp_path: Path) -> None:
    report(rows, EvalSettings(), tmp_path)
    pixels = np.asarray(Image.open(tmp_path / "ablation.png").convert("RGB")).astype(int)
    assert pixels.shape[1] > pixels.shape[0]
    blue = (np.abs(pixels - (0x2A, 0x6F, 0xB0)).max(axis=2) < 3).any(axis=1)
    red = (np.abs(pixels - (0xC8, 0x55, 0x3D)).max(axis=2) < 3).any(axis=1)
    assert blue.any()
    assert red.any()
    assert np.flatnonzero(blue).max() < np.flatnonzero(red).min(), "the rows are drawn from above, as in the table"
