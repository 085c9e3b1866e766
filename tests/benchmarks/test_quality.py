from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

import windows
from sp_edge.data import scenes


@pytest.fixture(scope="module")
def quality(open_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return open_benchmark("quality")


RNG = np.random.default_rng(0)


def test_motion_spreads_a_line_evenly(quality: ModuleType) -> None:
    line = np.zeros((4, 40, 3), np.uint8)
    line[:, 20] = 240
    moved = quality.motion(line, RNG, share=0.1)  # four pixels
    assert sorted(moved[0, :, 0].tolist()) == [0] * 36 + [60] * 4
    assert np.flatnonzero(moved[0, :, 0]).tolist() in ([18, 19, 20, 21], [19, 20, 21, 22])


def test_a_shift_keeps_the_size_and_moves_the_content(quality: ModuleType) -> None:
    image = RNG.integers(0, 256, (50, 50, 3), dtype=np.uint8)
    assert (quality.shift(image, RNG, share=0) == image).all()
    moved = quality.shift(image, RNG, share=0.1)
    assert moved.shape == image.shape
    back = [np.roll(moved, (down, right), (0, 1)) for down in range(-5, 6) for right in range(-5, 6)]
    assert any((one[8:-8, 8:-8] == image[8:-8, 8:-8]).all() for one in back)


def test_what_is_refused_is_counted(quality: ModuleType) -> None:
    drawn = [list(scenes.draw_split("val", size=96, per_class=1, groups=("clean",)).images[:4])]
    assert quality.refused(drawn, quality.SPOILT["as it is"]) == 0
    assert quality.refused(drawn, quality.SPOILT["light x 0"]) == 1
    assert quality.copies(drawn, quality.COPIED["the same"]) == 1
    assert quality.copies(drawn, None) == 0
    assert quality.copies([[drawn[0][0], drawn[0][0], drawn[0][1]]], None) == 0.5  # one of the two that came later


def test_windows_of_photographs_are_square_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = RNG.integers(0, 256, (80, 120, 3), dtype=np.uint8)
    monkeypatch.setattr(windows, "photographs", lambda _cache: [photo, photo])
    found = windows.windows(5, 60)
    assert [[window.shape for window in own] for own in found] == [[(60, 60, 3)] * 5] * 2
    assert len({window.tobytes() for own in found for window in own}) == 10


def test_photographs_of_a_folder_are_taken_as_a_network_sees_them(quality: ModuleType, tmp_path: Path) -> None:
    for name in ("mug", "fork"):
        (tmp_path / name).mkdir()
        for number in range(2):
            Image.fromarray(RNG.integers(0, 256, (300, 400, 3), dtype=np.uint8)).save(tmp_path / name / f"{number}.png")
    (found,) = quality.photographs(tmp_path).values()
    assert [[image.shape for image in own] for own in found] == [[(224, 224, 3)] * 2] * 2
