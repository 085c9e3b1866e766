from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sp_edge.settings import AugmentSettings
from sp_edge.training.augment import augment

NOTHING = AugmentSettings(flip=False, shift=0.0, brightness=0.0)


def pictures(count: int = 64, height: int = 10, width: int = 20) -> torch.Tensor:
    """Every place has its own colour: red says the row, green the column, blue the picture."""
    rows = torch.arange(height)[None, :, None].expand(count, height, width) * 10
    columns = torch.arange(width)[None, None].expand(count, height, width) * 10
    which = torch.arange(count)[:, None, None].expand(count, height, width)
    return torch.stack([rows, columns, which], dim=3).to(torch.uint8)


def run(images: torch.Tensor, seed: int = 0, **settings: object) -> torch.Tensor:
    changed = AugmentSettings(**{**vars(NOTHING), **settings})  # type: ignore[arg-type]
    result = augment(images, changed, np.random.default_rng(seed))
    assert (result.shape, result.dtype) == (images.shape, torch.uint8)
    return result


def test_nothing_set_changes_nothing() -> None:
    images = pictures()
    assert torch.equal(run(images), images)


def test_what_is_given_is_left_alone() -> None:
    images = pictures()
    before = images.clone()
    run(images, flip=True, shift=0.3, brightness=0.5)
    assert torch.equal(images, before)


def test_half_of_the_pictures_are_mirrored_left_to_right() -> None:
    images = pictures(400)
    result = run(images, flip=True)
    mirrored = (result == images.flip(2)).flatten(1).all(1)
    kept = (result == images).flatten(1).all(1)
    assert bool((mirrored ^ kept).all())
    assert 150 < int(mirrored.sum()) < 250


@pytest.mark.parametrize("shift", [0.1, 0.25, 0.49])
def test_a_shift_reflects_what_leaves_and_reaches_as_far_as_is_set(shift: float) -> None:
    moves = []
    for picture in run(pictures(500), shift=shift)[..., :2].numpy() // 10:
        assert (picture[:, :, 0] == picture[:, :1, 0]).all(), "a picture moves as a whole"
        assert (picture[:, :, 1] == picture[:1, :, 1]).all(), "a picture moves as a whole"
        moves.append((_move(picture[:, 0, 0].tolist()), _move(picture[0, :, 1].tolist())))
    down, across = (set(found) for found in zip(*moves, strict=True))
    assert down == set(range(-int(shift * 10), int(shift * 10) + 1))
    assert across == set(range(-int(shift * 20), int(shift * 20) + 1))


def _move(indices: list[int]) -> int:
    """By how many places a row of indices was moved, with what lies beyond an edge reflected at it."""
    length = len(indices)
    return next(d for d in range(-length + 1, length) if [_fold(i + d, length) for i in range(length)] == indices)


def _fold(index: int, length: int) -> int:
    index = abs(index)
    return 2 * length - 2 - index if index >= length else index


def test_brightness_scales_each_channel_of_each_picture_on_its_own() -> None:
    images = torch.full((300, 4, 4, 3), 100, dtype=torch.uint8)
    result = run(images, brightness=0.2)
    assert bool((result == result[:, :1, :1]).all())
    values = result[:, 0, 0]
    assert values.min() >= 79
    assert values.max() <= 120
    assert values.float().std(dim=0).min() > 8
    assert len({tuple(v) for v in values.tolist()}) > 250


def test_bright_pictures_are_cut_at_white() -> None:
    result = run(torch.full((50, 2, 2, 3), 250, dtype=torch.uint8), brightness=0.9)
    assert (result == 255).any()
    assert result.min() < 250


def test_the_same_chance_gives_the_same_pictures() -> None:
    images = pictures(8)
    changes = {"flip": True, "shift": 0.2, "brightness": 0.3}
    assert torch.equal(run(images, 1, **changes), run(images, 1, **changes))
    assert not torch.equal(run(images, 1, **changes), run(images, 2, **changes))


@given(
    st.tuples(st.integers(0, 3), st.integers(1, 9), st.integers(1, 9)),
    st.booleans(),
    st.floats(0, 0.499),
    st.floats(0, 0.99),
    st.integers(0, 1000),
)
@hypothesis_settings(deadline=None)
def test_any_size_is_taken_and_no_value_is_invented(
    shape: tuple[int, int, int], flip: bool, shift: float, brightness: float, seed: int
) -> None:
    images = torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    run(images, seed, flip=flip, shift=shift, brightness=brightness)
    moved = run(images, seed, flip=flip, shift=shift)
    for before, after in zip(images, moved, strict=True):
        assert {tuple(p) for p in after.reshape(-1, 3).tolist()} <= {tuple(p) for p in before.reshape(-1, 3).tolist()}
