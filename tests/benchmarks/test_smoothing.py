from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner

import toy
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.sources.frames import VideoFrame


@pytest.fixture(scope="module")
def benchmark(open_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return open_benchmark("smoothing")


def test_changes_and_delays_by_hand(benchmark: ModuleType) -> None:
    assert benchmark.changes("aabba") == 2
    times = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert benchmark.delays(times, "aabbcc", "aaabbb") == [0.5, 0.5]  # 'c' is never shown: until its end
    assert benchmark.delays(times, "aaaaaa", "abcabc") == []


def test_noise_comes_in_squares(benchmark: ModuleType) -> None:
    frame = VideoFrame(np.full((20, 30, 3), 128, np.uint8), 0, 0.0)
    seen = benchmark.noisy(frame, 30.0, np.random.default_rng(0)).astype(int)
    assert seen.shape == (20, 30, 3)
    assert len(np.unique(seen[:8, :8].reshape(-1, 3), axis=0)) == 1
    assert len(np.unique(seen[::8, ::8].reshape(-1, 3), axis=0)) == 12
    np.testing.assert_array_equal(benchmark.noisy(frame, 0.0, np.random.default_rng(0)), frame.image_rgb)


def test_the_command(benchmark: ModuleType, toy_bundle: Path, toy_video: Path, tmp_path: Path) -> None:
    with Recognizer.load(toy_bundle, bank=tmp_path / "bank", device="cpu") as recognizer:
        for name in toy.COLOURS:
            recognizer.enroll(name, [toy.picture(name)])
    options = ["--bank", str(tmp_path / "bank"), "--noise", "0", "--stride", "1", "--json", str(tmp_path / "rows.json")]
    result = CliRunner().invoke(benchmark.smoothing, [str(toy_bundle), str(toy_video), *options], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.output.startswith("9 frames, 150 changes a minute without noise")
    first = json.loads((tmp_path / "rows.json").read_text())[0]
    assert first == {
        "noise": 0,
        "stride": 1,
        "smoothing": "each frame",
        "changes_a_minute": pytest.approx(150),
        "right": 1,
        "delay_s": 0,
    }
