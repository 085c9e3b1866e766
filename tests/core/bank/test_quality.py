from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageFilter
from sklearn.datasets import load_sample_images

from sp_edge.bank.crops import thumbnail
from sp_edge.bank.quality import (
    BLOCK,
    BLURRED,
    COPY,
    OUTSIDE,
    SIDE,
    WINDOW,
    difference,
    judge,
    outside,
    problems,
    sharpness,
)
from sp_edge.data import scenes
from sp_edge.errors import ImageError
from sp_edge.preprocess import Preprocess
from sp_edge.view import Region, View

DRAWN = scenes.draw_split("val", size=96, per_class=1).images


def what(image: np.ndarray) -> str | None:
    problem = judge(image)
    return None if problem is None else problem.what


NONE = np.zeros((0, 64, 64, 3), np.uint8)
WHOLE = Preprocess(64, 1.0)


def blurred(image: np.ndarray, x: float, y: float) -> np.ndarray:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur((x, y))))


def test_scenes_and_photographs_pass() -> None:
    assert [what(image) for image in DRAWN] == [None] * len(DRAWN)
    assert problems(list(DRAWN[:20]), WHOLE, NONE) == []
    assert [what(image) for image in load_sample_images().images] == [None, None]


@pytest.mark.parametrize(("value", "expected"), [(0, "dark"), (50, "dark"), (252, "overexposed"), (128, "empty")])
def test_nothing_to_be_seen(value: int, expected: str) -> None:
    noise = np.random.default_rng(0).integers(-3, 4, (120, 160, 3))
    assert what(np.clip(value + noise, 0, 255).astype(np.uint8)) == expected


def test_a_thin_drawing_on_white_passes() -> None:
    image = np.full((200, 200, 3), 255, np.uint8)
    image[20:180, 98:102] = 0
    assert what(image) is None


def test_a_deep_blue_is_not_dark() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[20:40, 20:40, 2] = 200
    assert what(image) is None


def test_blur_is_found_and_said_with_its_number() -> None:
    for sigma in (3, 10, 25):  # % of the side; the last leaves little but rounding
        soft = [blurred(image, sigma, sigma) for image in DRAWN[:20]]
        assert [what(image) for image in soft] == ["blurred"] * 20
    problem = problems([DRAWN[0], soft[1]], WHOLE, NONE)
    assert [(p.shot, p.what) for p in problem] == [(1, "blurred")]
    assert str(problem[0]) == f"blurred ({problem[0].value:.3g}, below {BLURRED})"


def test_a_picture_that_moved_is_blurred_and_blinds_are_not() -> None:
    assert [what(blurred(image, 5, 0)) for image in DRAWN[:20]].count("blurred") >= 14
    blinds = np.zeros((64, 64, 3), np.uint8)
    blinds[::8] = blinds[1::8] = 200
    assert what(blinds) is None
    assert what(blinds.transpose(1, 0, 2)) is None


def test_what_is_out_of_focus_behind_a_sharp_thing_does_not_count() -> None:
    rows, columns = np.mgrid[:96, :96] - 48
    thing = (rows**2 + columns**2 < 24**2)[..., None]
    kept = [np.where(thing, image, blurred(image, 4, 4)) for image in DRAWN[:20]]
    assert [what(image) for image in kept].count("blurred") <= 2
    assert [what(blurred(image, 4, 4)) for image in DRAWN[:20]] == ["blurred"] * 20


def test_sharpness_of_an_edge_by_hand() -> None:
    # A step blurred by b and once more by s: away from the borders s takes away what b and sqrt(b^2 + s^2) differ by. A sixth
    # is what rounding may have left of it. The best of three windows counts.
    x = np.arange(SIDE) - 31.5
    for width in (1.0, 3.0):
        edge, fine, coarse = (
            np.array([math.erf(v / math.sqrt(2 * w)) for v in x]) for w in (width**2, width**2 + 1, width**2 + 16)
        )
        narrow, wide = (
            np.array([((edge - soft)[start : start + WINDOW] * 50).var() for start in (0, 16, 32)]) for soft in (fine, coarse)
        )
        expected = ((narrow - 1 / 6) / wide).max()
        assert sharpness(np.tile(100 + 50 * edge, (SIDE, 1))) == pytest.approx(expected, rel=0.01)


def test_it_is_the_crop_that_is_judged() -> None:
    """A sharp frame around a blurred middle, and a blurred frame around a sharp one."""
    sharp = np.asarray(Image.fromarray(DRAWN[0]).resize((192, 192), Image.Resampling.LANCZOS))
    soft = blurred(sharp, 9, 9)
    middle = (slice(48, 144), slice(48, 144))
    framed, cleared = soft.copy(), sharp.copy()
    framed[middle], cleared[middle] = sharp[middle], soft[middle]
    crop = Preprocess(96, 2.0)
    assert judge(cleared) is None
    assert [problem.what for problem in problems([cleared], crop, NONE)] == ["blurred"]
    assert problems([framed], crop, NONE) == []


def test_copies_are_found_among_the_given_and_the_known() -> None:
    large = np.asarray(Image.fromarray(DRAWN[0]).resize((500, 500)))
    found = problems([DRAWN[1], large, DRAWN[1]], WHOLE, thumbnail(DRAWN[0])[None])
    assert [(p.shot, p.what, p.of) for p in found] == [(1, "copy", "shot 0 of the class"), (2, "copy", "picture 1")]
    assert str(found[1]).startswith("copy of picture 1 (")
    assert str(found[1]).endswith(f", below {COPY})")


@pytest.mark.parametrize("shift", [(0, 0), (4, -4), (-1, 3)])
def test_a_shift_and_another_light_leave_a_copy_a_copy(shift: tuple[int, int]) -> None:
    one = thumbnail(DRAWN[0])
    moved = np.roll(one, shift, (0, 1)) * 0.7
    assert difference(one, np.round(moved).astype(np.uint8)[None])[0] < 0.05
    assert difference(one, np.roll(one, (0, 12), (0, 1))[None])[0] > COPY


def test_a_difference_by_hand() -> None:
    # The middle has stripes four pixels wide; the others have the same stripes and as strong ones across, of which r^2 = 1/2.
    stripes = np.where(np.arange(SIDE) % 8 < 4, 50, -50)
    one = np.broadcast_to(100 + stripes[:, None, None], (SIDE, SIDE, 3)).astype(np.uint8)
    both = np.broadcast_to(110 + stripes[:, None, None] + stripes[None, :, None], (SIDE, SIDE, 3)).astype(np.uint8)
    across = one.transpose(1, 0, 2)
    assert difference(one, np.stack([one, both, across])).tolist() == pytest.approx([0, math.sqrt(1 / 2), 1], abs=1e-3)
    # Of one brightness: a mean of 100 against (130, 100, 70), beside a standard deviation of 50 a channel.
    tinted = one + np.array([30, 0, -30])
    assert difference(one, tinted.astype(np.uint8)[None])[0] == pytest.approx(math.sqrt(1800 / 7500), abs=1e-3)
    inverted = np.broadcast_to(np.where(np.arange(SIDE)[:, None, None] < 32, 50, 150), (SIDE, SIDE, 3)).astype(np.uint8)
    assert difference(inverted, (200 - inverted)[None])[0] == pytest.approx(1, abs=1e-6)
    flat = np.full((2, SIDE, SIDE, 3), 90, np.uint8)
    flat[1, 0, 0] = 120
    assert difference(flat[0], flat).tolist() == pytest.approx([0, 0], abs=1e-4)


def test_many_shots_are_compared_as_few_are() -> None:
    shots = np.random.default_rng(0).integers(0, 256, (2 * BLOCK + 3, SIDE, SIDE, 3), dtype=np.uint8)
    one_by_one = [difference(shots[5], shot[None])[0] for shot in shots]
    assert difference(shots[5], shots).tolist() == pytest.approx(one_by_one, abs=1e-6)
    assert problems([shots[-1]], WHOLE, shots)[0].of == f"shot {len(shots) - 1} of the class"


@pytest.mark.parametrize("image", [DRAWN[0][..., 0], DRAWN[0].astype(np.float32), DRAWN[0][:0], DRAWN[0][..., :2]])
def test_what_is_no_picture_is_not_judged(image: np.ndarray) -> None:
    with pytest.raises(ImageError, match="not an RGB picture"):
        problems([image], WHOLE, NONE)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))))
@settings(deadline=None, max_examples=60)
def test_any_picture_can_be_judged(image: np.ndarray) -> None:
    found = problems([image, image], WHOLE, NONE)
    assert found, "at the latest the second is a copy"
    assert all(np.isfinite(problem.value) for problem in found)


# --- beside what is looked at ---


def wide(x: int, ground: np.ndarray | None = None) -> np.ndarray:
    """Uint8 (180, 320, 3): a drawn thing of 90 pixels with its left edge at x, on a plain wall or a given ground."""
    rng = np.random.default_rng(1)
    image = rng.integers(126, 131, (180, 320, 3)).astype(np.uint8) if ground is None else ground.copy()
    image[45:135, x : x + 90] = np.asarray(Image.fromarray(DRAWN[0]).resize((90, 90)))
    return image


@pytest.mark.parametrize("crop", [Preprocess(96), Preprocess(96, 1 / 0.875, "bicubic")])
def test_a_thing_beside_what_is_looked_at_is_told(crop: Preprocess) -> None:
    for x in (4, 226):
        (problem,) = problems([wide(x)], crop, NONE)
        assert (problem.what, problem.limit) == ("outside", OUTSIDE)
        assert problem.value > OUTSIDE
        assert str(problem).startswith("much of it lies outside of what is looked at (")
        assert str(problem).endswith("above 0.7)")
        for fit in ("squash", "pad"):
            assert problems([wide(x)], crop, NONE, View(fit=fit)) == []
    assert problems([wide(115)], crop, NONE) == []
    assert problems([wide(4)], crop, NONE, View(Region(0, 0, 0.5, 1))) == [], "the region alone counts"
    assert problems([np.ascontiguousarray(wide(4).transpose(1, 0, 2))], crop, NONE)[0].what == "outside"
    assert [p.what for p in problems([wide(4)[:, 100:280]], crop, NONE)] == ["empty"], "nothing is outside either"


def test_what_is_prepared_has_no_outside() -> None:
    assert problems([DRAWN[0]], None, NONE) == []


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))),
    st.floats(0, 1), st.floats(0, 1),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_what_is_outside_is_a_share(image: np.ndarray, across: float, down: float) -> None:
    height, width = image.shape[:2]
    box = (0, 0, max(1, round(across * width)), max(1, round(down * height)))
    assert 0 <= outside(image, box) <= 1
    assert outside(image, (0, 0, width, height)) == 0


def test_what_has_few_pixels_is_told() -> None:
    crop, large = Preprocess(96, 1.0), np.asarray(Image.fromarray(DRAWN[0]).resize((300, 300)))
    assert problems([large], crop, NONE) == []
    (problem,) = problems([large], crop, NONE, View(Region(100, 100, 23, 60)))
    assert (problem.what, problem.value, problem.limit) == ("small", 23, 24)
    assert str(problem) == "few pixels are looked at (23, below 24)"
    assert "small" not in [p.what for p in problems([large], crop, NONE, View(Region(100, 100, 24, 60)))]
    assert "small" not in [p.what for p in problems([large], crop, NONE, View(Region(100, 100, 23, 60), "pad"))]
    assert problems([large[:23]], crop, NONE, View(fit="squash"))[0].what == "small"
