from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from load import SETS, load_set
from sp_edge.errors import SettingsError
from sp_edge.settings.settings import Settings

SETTINGS = ("1-shot, clutter", "5-shot, clean")


@pytest.fixture(scope="module")
def prompts(open_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return open_benchmark("prompts")


def run(prompts: ModuleType, plain: list[float], ours: list[float], strength: float) -> object:
    scores = {("ours", row, s): np.array(v) for row, v in ((prompts.PLAIN, plain), ("chosen", ours)) for s in SETTINGS}
    return prompts.Run(scores, {("ours", prompts.PLAIN): (0.0, 0.0), ("ours", "chosen"): (strength, 0.5)}, {"ours": 0.25})


def test_one_seed_has_differences_on_the_same_episodes(prompts: ModuleType) -> None:
    lines = prompts.table([run(prompts, [0.4, 0.6], [0.5, 0.7], 0.3)]).splitlines()
    assert lines[0] == "|  | 1-shot, clutter | 5-shot, clean | strength (of it text) |"
    # 1.96 * standard deviation 0.1414 / sqrt(2) = 0.196
    assert lines[2] == "| ours, without prompts | 50.0 ± 19.6 | 50.0 ± 19.6 |  |"
    assert lines[3] == "| ours, chosen | +10.0 ± 0.0 | +10.0 ± 0.0 | 0.3 (0.5) |"


def test_seeds_are_averaged_episode_by_episode_and_their_spread_is_said(prompts: ModuleType) -> None:
    runs = [run(prompts, [0.4, 0.6], [0.5, 0.7], 0.3), run(prompts, [0.6, 0.4], [0.8, 0.6], 0.4)]
    lines = prompts.table(runs).splitlines()
    # Plain: 0.5 in every episode on average, and for each seed. Ours ahead by 0.1 and 0.2: spread 0.0707.
    assert lines[2] == "| ours, without prompts | 50.0 ± 0.0 [0.0] | 50.0 ± 0.0 [0.0] |  |"
    assert lines[3] == "| ours, chosen | +15.0 ± 0.0 [7.1] | +15.0 ± 0.0 [7.1] | 0.3 (0.5), 0.4 (0.5) |"


def test_a_run_is_read_as_it_was_written(prompts: ModuleType, tmp_path: Path) -> None:
    written = run(prompts, [0.4, 0.6], [0.5, 0.7], 0.3)
    written.save(tmp_path / "scores.safetensors")  # type: ignore[attr-defined]
    read = prompts.Run.load(tmp_path / "scores.safetensors")
    assert prompts.table([read]) == prompts.table([written])
    assert read.explained == {"ours": 0.25}


@pytest.mark.parametrize("change", ["model.interaction=none", "model.text_prototype=false"])
def test_a_study_without_prompts_is_refused_before_any_training(prompts: ModuleType, change: str) -> None:
    with pytest.raises(SettingsError, match="the study is of prompts"):
        prompts.Study.of("scenes", (change,), "cpu")


def test_seeds_of_training_see_the_same_scenes() -> None:
    small = ("data.test_per_class=2", "model.image_size=32")
    first, second = (load_set("scenes", "test", Settings.load("scenes", [*small, f"seed={seed}"])) for seed in (0, 1))
    np.testing.assert_array_equal(first.images, second.images)


def test_every_set_has_a_builder() -> None:
    folder = Path(__file__).parents[2] / "benchmarks" / "sets"
    assert all((folder / f"{name}.py").exists() for name in SETS if name != "scenes")
