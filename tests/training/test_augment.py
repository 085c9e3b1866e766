from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sp_edge.settings.settings import AugmentSettings
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


# --- policies ---


def coloured(count: int = 60, side: int = 24) -> torch.Tensor:
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_policy_none_changes_nothing_whatever_else_is_set() -> None:
    images = coloured()
    assert torch.equal(run(images, policy="none", flip=True, shift=0.3, brightness=0.5, crop=0.5), images)


@pytest.mark.parametrize("policy", ["standard", "randaugment"])
@pytest.mark.parametrize("crop", [0.3, 1.0])
def test_a_share_of_a_batch_is_changed_as_in_the_whole(policy: str, crop: float) -> None:
    settings = AugmentSettings(policy=policy, crop=crop)
    whole = augment(coloured(), settings, np.random.default_rng(5))
    for share in (slice(0, 20), slice(20, 40), slice(40, 60)):
        assert torch.equal(augment(coloured(), settings, np.random.default_rng(5), share), whole[share])
    assert (whole != coloured()).flatten(1).any(dim=1).float().mean() > 0.9


def test_a_crop_keeps_a_share_of_the_area_and_stays_inside() -> None:
    """Red grows with the row and green with the column, so that a crop's corners tell what it kept."""
    side = 101
    ramp = torch.arange(side, dtype=torch.uint8) * 2
    images = torch.zeros(300, side, side, 3, dtype=torch.uint8)
    images[..., 0], images[..., 1] = ramp[:, None], ramp[None, :]
    result = run(images, crop=0.25).float() / 2 / (side - 1)
    low, high = result[:, 0, 0, :2], result[:, -1, -1, :2]
    tall, wide = (high - low).unbind(dim=1)
    area = tall * wide
    assert 0.2 < area.min() < 0.35
    assert 0.85 < area.max() <= 1
    assert 0.7 < (wide / tall).min() < 0.8
    assert 1.25 < (wide / tall).max() < 1.4
    assert low.min() < 0.02
    assert high.max() > 0.98
    steps = result[:, 1:, 0, 0] - result[:, :-1, 0, 0]
    assert ((steps - tall[:, None] / (side - 1)).abs() < 0.011).all(), "rows are evenly spaced"


def test_randaugment_does_to_each_picture_what_torchvisions_operations_do() -> None:
    """One operation each, at M = 9 of 30; which of the fourteen it was is found by trying all, in both directions."""
    from torchvision.transforms import v2

    images = coloured(200)
    result = run(images, policy="randaugment", operations=1, magnitude=9)
    space = v2.RandAugment._AUGMENTATION_SPACE
    theirs = v2.RandAugment()
    planes = images.permute(0, 3, 1, 2)
    found = [set[str]() for _ in images]
    for name, (magnitudes, signed) in space.items():
        values = magnitudes(31, 24, 24)
        for sign in (1, -1) if signed else (1,):
            value = 0.0 if values is None else float(values[9]) * sign
            expected = theirs._apply_image_or_video_transform(
                planes, name, value, interpolation=v2.InterpolationMode.NEAREST, fill={}
            )
            same = (expected.permute(0, 2, 3, 1).int() - result.int()).abs().flatten(1).amax(dim=1) <= 1  # by rounding
            for index in torch.nonzero(same).flatten().tolist():
                found[index].add(f"{name}{sign}")
    assert all(found), "each is one of them"
    assert len(set.union(*found)) == 23, "all of them happen, in both directions"


def test_operations_follow_one_another() -> None:
    images = coloured(20)
    once, twice = (run(images, policy="randaugment", operations=n) for n in (1, 2))
    assert not torch.equal(once, twice)
    assert torch.equal(twice, run(images, policy="randaugment", operations=2))


@pytest.mark.parametrize("magnitude", [0, 30])
def test_the_ends_of_the_scale_work(magnitude: int) -> None:
    run(coloured(100), policy="randaugment", operations=3, magnitude=magnitude)
