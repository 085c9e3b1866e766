from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from sp_edge.photographs import photograph


@pytest.fixture(scope="module")
def view(open_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return open_benchmark("view")


def test_shapes_are_cut_around_the_middle(view: ModuleType) -> None:
    image = np.zeros((300, 400, 3), np.uint8)
    assert view.shaped(image, 16 / 9).shape == (225, 400, 3)
    assert view.shaped(image, 3 / 4).shape == (300, 225, 3)
    assert view.shaped(image, 1).shape == (300, 300, 3)


def test_a_thing_is_laid_where_it_is_to_be(view: ModuleType) -> None:
    thing, ground = np.full((50, 50, 3), 255, np.uint8), np.zeros((90, 160, 3), np.uint8)
    for middle, least in ((True, 250), (False, 0)):
        laid = view.laid(thing, ground, 120, np.random.default_rng(0), middle=middle)
        columns = np.flatnonzero((laid == 255).any(axis=(0, 2)))
        assert (columns[0] >= least) == middle or columns[0] > 400
        assert len(columns) == 120 - 1 or len(columns) == 120


def test_what_is_told_is_counted(view: ModuleType) -> None:
    images = [photograph(name).read() for name in ("cat", "coffee", "astronaut")]
    found = dict(view.told_outside(images))
    assert found["photographs, 4:3"] == "0.0"
    assert float(found["a thing at the side, before what is a plain wall"]) > 90
    assert found["a thing in the middle, before what is a plain wall"] == "0.0"
    gray = {row[0]: row[1] for row in view.told_gray(images)}
    assert (gray["photographs"], gray["gray, JPEG quality 30"], gray["gray, H.264 crf 38"]) == ("0.0", "100.0", "100.0")


def test_episodes_count_what_is_nearest(view: ModuleType) -> None:
    labels = np.repeat(np.arange(6), 4)
    features = np.eye(6, dtype=np.float32)[labels]
    assert (view.scores(features, features, labels) == 1).all()
    assert (view.scores(features, np.roll(features, 1, axis=1), labels) < 0.5).mean() > 0.9


def test_a_picture_is_shrunk_to_a_side(view: ModuleType) -> None:
    assert view.shrunk(np.zeros((300, 400, 3), np.uint8), 48).shape == (48, 64, 3)
