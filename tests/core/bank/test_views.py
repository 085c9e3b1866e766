from __future__ import annotations

import numpy as np
import pytest

from sp_edge.bank.views import views
from sp_edge.errors import SettingsError

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)


def test_the_first_view_is_the_picture_and_the_others_are_crops_of_it() -> None:
    ramp = np.tile(np.arange(0, 240, 10, dtype=np.uint8)[None, :, None], (24, 1, 3))
    found = views(ramp, 20, flip=False)
    assert (found.dtype, found.shape) == (np.uint8, (20, 24, 24, 3))
    np.testing.assert_array_equal(found[0], ramp)
    spans = found[1:, 12, -1, 0].astype(int) - found[1:, 12, 0, 0]
    assert (spans <= 230).all()
    assert (spans > 230 * 0.7**0.5 - 15).all()
    assert len(set(spans.tolist())) > 5


def test_the_same_seed_gives_the_same_views() -> None:
    np.testing.assert_array_equal(views(IMAGE, 5, flip=True, seed=3), views(IMAGE, 5, flip=True, seed=3))
    assert (views(IMAGE, 5, flip=True, seed=3)[1:] != views(IMAGE, 5, flip=True, seed=4)[1:]).any()
    np.testing.assert_array_equal(views(IMAGE, 5, flip=True, seed=3)[:3], views(IMAGE, 3, flip=True, seed=3))


def test_half_of_the_crops_are_mirrored() -> None:
    ramp = np.tile(np.arange(0, 240, 10, dtype=np.uint8)[None, :, None], (24, 1, 3))
    falling = [view[0, 0, 0] > view[0, -1, 0] for view in views(ramp, 50, flip=True)]
    assert 12 < sum(falling) < 38
    assert not any(view[0, 0, 0] > view[0, -1, 0] for view in views(ramp, 50, flip=False))


@pytest.mark.parametrize("count", [0, -1, 51])
def test_too_few_and_too_many(count: int) -> None:
    with pytest.raises(SettingsError, match="number of views"):
        views(IMAGE, count, flip=False)
