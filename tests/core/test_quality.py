from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageFilter
from sklearn.datasets import load_digits

from sp_edge.bank import thumbnail
from sp_edge.data import scenes
from sp_edge.quality import COPY, SIDE, difference, judge, problems

DRAWN = scenes.draw_split("val", size=96, per_class=1).images


def what(image: np.ndarray) -> str | None:
    problem = judge(image)
    return None if problem is None else problem.what


def test_scenes_and_digits_pass() -> None:
    assert [what(image) for image in DRAWN] == [None] * len(DRAWN)
    digits = (255 - load_digits().images[:200] * (255 / 16)).clip(0, 255).astype(np.uint8)
    large = [np.asarray(Image.fromarray(d).resize((96, 96), Image.Resampling.BICUBIC).convert("RGB")) for d in digits]
    assert [what(image) for image in large] == [None] * 200
    assert problems(large[:20], np.zeros((0, 64, 64, 3), np.uint8)) == []


@pytest.mark.parametrize(("value", "expected"), [(0, "black"), (20, "black"), (252, "overexposed"), (128, "empty")])
def test_nothing_to_be_seen(value: int, expected: str) -> None:
    noise = np.random.default_rng(0).integers(-3, 4, (120, 160, 3))
    assert what(np.clip(value + noise, 0, 255).astype(np.uint8)) == expected


def test_a_thin_drawing_on_white_passes() -> None:
    image = np.full((200, 200, 3), 255, np.uint8)
    image[20:180, 98:102] = 0
    assert what(image) is None


def test_blur_is_found_and_said_with_its_number() -> None:
    blurred = [np.asarray(Image.fromarray(i).filter(ImageFilter.GaussianBlur(14))) for i in DRAWN[:20]]
    assert [what(image) for image in blurred].count("blurred") >= 18
    problem = problems([DRAWN[0], blurred[1]], np.zeros((0, 64, 64, 3), np.uint8))
    assert [(p.shot, p.what) for p in problem] == [(1, "blurred")]
    assert str(problem[0]) == f"blurred ({problem[0].value:.3g}, below 0.0018)"


def test_copies_are_found_among_the_given_and_the_known() -> None:
    large = np.asarray(Image.fromarray(DRAWN[0]).resize((500, 500)))
    found = problems([DRAWN[1], large, DRAWN[1]], thumbnail(DRAWN[0])[None])
    assert [(p.shot, p.what, p.of) for p in found] == [(1, "copy", "shot 0 of the class"), (2, "copy", "picture 1")]
    assert str(found[1]) == "copy of picture 1 (0, below 0.15)"


def test_a_difference_by_hand() -> None:
    # Halves of 100 and 200 have contrast 50; 10 brighter everywhere is a fifth of it.
    one = np.full((SIDE, SIDE, 3), 100, np.uint8)
    one[:32] = 200
    assert difference(one, (one + 10)[None]).tolist() == pytest.approx([0.2])
    assert difference(one, one[None]).tolist() == [0]
    assert COPY < 0.2


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))))
@settings(deadline=None, max_examples=60)
def test_any_picture_can_be_judged(image: np.ndarray) -> None:
    found = problems([image, image], np.zeros((0, 64, 64, 3), np.uint8))
    assert found, "at the latest the second is a copy"
    assert all(np.isfinite(problem.value) for problem in found)
