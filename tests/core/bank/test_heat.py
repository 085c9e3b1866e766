from __future__ import annotations

import numpy as np
import pytest

from sp_edge.bank.heat import DARK, FULL, heat_picture

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("grid", [(1, 1), (7, 7), (3, 5)])
def test_what_looks_like_the_name_stays_and_the_rest_is_dark_grey(grid: tuple[int, int]) -> None:
    image = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    np.testing.assert_array_equal(heat_picture(image, np.full(grid, FULL + 1, np.float32)), image)
    dark = heat_picture(image, np.full(grid, -3, np.float32))
    assert (dark.shape, dark.dtype) == (image.shape, np.uint8)
    assert (np.ptp(dark, axis=2) == 0).all()
    assert dark.max() <= round(255 * DARK)


def test_the_place_is_shown_where_it_is() -> None:
    image = np.full((70, 70, 3), (200, 100, 0), np.uint8)
    scores = np.zeros((7, 7), np.float32)
    scores[1, 5] = 9
    shown = heat_picture(image, scores)
    assert np.unravel_index(shown[..., 0].argmax(), (70, 70)) in [(y, x) for y in range(10, 20) for x in range(50, 60)]
    assert shown[60, 10].tolist() == shown[40, 20].tolist()
