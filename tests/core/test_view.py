from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_edge.errors import SettingsError
from sp_edge.view import Region, View


def test_shares_fit_pictures_of_any_size_and_pixels_stay_where_they_are() -> None:
    assert Region.parse("0.1,0.2,0.5,0.5").box(100, 200) == (20, 20, 100, 50)
    assert Region.parse("0, 0, 1, 1").box(33, 77) == (0, 0, 77, 33)
    assert Region.parse("100,50,640,480").box(720, 1280) == (100, 50, 640, 480)
    assert Region.parse("0.7,0,0.3,1").box(10, 10) == (7, 0, 3, 10), "whose sum is a little more than 1"


@given(
    x=st.floats(0, 1), y=st.floats(0, 1), width=st.floats(1e-6, 1), height=st.floats(1e-6, 1),
    size_hw=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
)  # fmt: skip
def test_shares_give_a_box_within_the_picture(
    x: float, y: float, width: float, height: float, size_hw: tuple[int, int]
) -> None:
    region = Region(x * (1 - width), y * (1 - height), width, height)
    left, top, across, down = region.box(*size_hw)
    assert 0 <= left < left + across <= size_hw[1]
    assert 0 <= top < top + down <= size_hw[0]


@pytest.mark.parametrize(
    "text",
    ["", "1,2,3", "0.1,0.2,0.5,0.5,1", "a,b,c,d", "0.6,0,0.5,1", "0,0.6,1,0.5", "0,0,0,1", "-1,0,5,5", "10,10,0.5,0.5",
     "100,50,640.5,480", "nan,0,1,1", "1e9,0,1,1", "0,0,inf,1", "100 50 640 480"],
)  # fmt: skip
def test_what_is_no_region_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="no part of a picture") as error:
        Region.parse(text)
    assert "0.1,0.2,0.5,0.5, where X + W and Y + H are at most 1" in error.value.expected
    with pytest.raises(SettingsError):
        Region(0, 0, math.nan, 1)


def test_pixels_beyond_a_smaller_picture_say_so() -> None:
    with pytest.raises(SettingsError, match="region 100,50,640,480 leaves the picture") as error:
        Region.parse("100,50,640,480").box(480, 640)
    assert "640x480" in error.value.expected
    assert "shares" in error.value.next_step


def test_a_region_is_cut_without_a_copy() -> None:
    image = np.arange(60 * 80 * 3, dtype=np.uint8).reshape(60, 80, 3)
    cut = View(Region(10, 20, 30, 40)).cut(image)
    assert cut.shape == (40, 30, 3)
    assert np.shares_memory(cut, image)
    np.testing.assert_array_equal(cut, image[20:60, 10:40])
    assert View().cut(image) is image


def test_a_view_is_checked() -> None:
    with pytest.raises(SettingsError, match="fit"):
        View(fit="stretch")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="region"):
        View((0, 0, 1, 1))  # type: ignore[arg-type]
    assert str(Region.parse("0.10, 0.2,0.5,0.5")) == "0.1,0.2,0.5,0.5"
