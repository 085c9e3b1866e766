from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import toy
from sp_edge.matching.decide import match
from sp_edge_runtime.prediction import Prediction
from sp_edge_runtime.sinks import overlay
from sp_edge_runtime.sinks.overlay import annotate
from sp_edge_runtime.streams.smoothing import Smoothed

COSINES = np.array([0.9, 0.5, 0.4, 0.1], np.float32)
NAMES = ("red", "Zürcher Kaffeetasse", "a name that is much too long for any line " * 5, "blue")


def prediction(threshold: float = 0.0, *, cosines: np.ndarray = COSINES, names: tuple[str, ...] = NAMES) -> Prediction:
    thresholds = np.full(len(names), threshold, np.float32)
    found = match(cosines[: len(names)], names, thresholds, temperature=0.2, sharpness=4)
    return Prediction(**vars(found), class_index=0 if names else None, speed={}, bank_version=1)


def changed(image: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    return np.flatnonzero((image != drawn).any(axis=(1, 2)))


def has(image: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((image == colour).all(axis=2).any())


@pytest.mark.parametrize("size_hw", [(120, 160), (720, 1280), (1080, 1920)])
def test_the_band_stands_at_the_foot_and_leaves_the_rest(size_hw: tuple[int, int]) -> None:
    image = np.full((*size_hw, 3), 200, np.uint8)
    before = image.copy()
    drawn = annotate(image, prediction())
    np.testing.assert_array_equal(image, before)
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    rows = changed(image, drawn)
    assert rows[-1] == size_hw[0] - 1
    assert len(rows) == rows[-1] - rows[0] + 1
    assert rows[0] > size_hw[0] * 0.35


def test_known_and_unknown_differ_in_colour() -> None:
    image = np.zeros((240, 320, 3), np.uint8)
    known, unknown = annotate(image, prediction(0.0)), annotate(image, prediction(0.95))
    assert has(known, overlay.KNOWN)
    assert not has(known, overlay.UNKNOWN)
    assert has(unknown, overlay.UNKNOWN)
    assert not has(unknown, overlay.KNOWN)


@pytest.mark.parametrize("confidence", [0.25, 0.5, 1.0])
def test_the_bar_is_as_long_as_the_confidence(confidence: float) -> None:
    image = np.zeros((240, 320, 3), np.uint8)
    shown = Prediction(
        **{**vars(match(COSINES, NAMES, COSINES * 0, temperature=0.2, sharpness=4)), "confidence": confidence},
        class_index=0,
        speed={},
        bank_version=1,
    )
    drawn = annotate(image, shown)
    filled = (drawn == overlay.KNOWN).all(axis=2).sum(axis=1).max()
    track = ((drawn == overlay.KNOWN) | (drawn == overlay.TRACK)).all(axis=2).sum(axis=1).max()
    assert filled / track == pytest.approx(confidence, abs=0.02)


def test_a_long_name_ends_before_the_percentage() -> None:
    font = overlay.font(12)
    short = overlay._shortened("w" * 500, font, 100)
    assert short.endswith("…")
    assert font.getlength(short) <= 100
    assert overlay._shortened("red", font, 100) == "red"


def test_the_three_best_are_listed_and_no_more() -> None:
    image = np.full((240, 320, 3), 200, np.uint8)
    heights = [len(changed(image, annotate(image, prediction(names=NAMES[:count])))) for count in range(1, 5)]
    assert heights[0] < heights[1] < heights[2] == heights[3]


def test_without_classes() -> None:
    drawn = annotate(np.full((120, 160, 3), 200, np.uint8), prediction(names=()))
    assert has(drawn, overlay.UNKNOWN)


@settings(max_examples=30)
@given(height=st.integers(1, 70), width=st.integers(1, 200), confident=st.booleans())
def test_any_size_is_drawn_on(height: int, width: int, confident: bool) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    assert annotate(image, prediction(-1 if confident else 1)).shape == (height, width, 3)


def test_a_read_only_image_is_copied() -> None:
    image = toy.picture("red", side=160)
    image.setflags(write=False)
    assert annotate(image, prediction()).shape == image.shape


def test_the_smoothed_label_is_shown_instead() -> None:
    image = np.full((240, 320, 3), 200, np.uint8)
    shown = annotate(image, prediction(), Smoothed("unknown", 0.0))
    assert has(shown, overlay.UNKNOWN)
    assert not has(shown, overlay.KNOWN)
    known = annotate(image, prediction(0.95), Smoothed("blue", 0.7))
    assert has(known, overlay.KNOWN)
    assert not has(known, overlay.UNKNOWN)
    same = prediction()
    np.testing.assert_array_equal(annotate(image, same, Smoothed(same.label, same.confidence)), annotate(image, same))


def test_names_in_any_script_are_told_apart() -> None:
    image = np.zeros((240, 320, 3), np.uint8)
    drawn = [annotate(image, prediction(names=(name, "dog"), cosines=COSINES[:2])) for name in ("猫", "犬")]
    assert (drawn[0] != drawn[1]).any()


def test_what_was_looked_at_is_framed() -> None:
    image = np.zeros((240, 320, 3), np.uint8)
    shown = annotate(image, replace(prediction(), view=(50, 20, 100, 90)))
    framed = (shown == overlay.QUIET).all(axis=2)[:110]
    rows, columns = np.flatnonzero(framed.any(axis=1)), np.flatnonzero(framed.any(axis=0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (20, 109, 50, 149)
    assert not framed[25:105, 55:145].any()
    for whole in (None, (0, 0, 320, 240)):
        np.testing.assert_array_equal(annotate(image, replace(prediction(), view=whole)), annotate(image, prediction()))
    assert annotate(image[:3, :3], replace(prediction(), view=(1, 1, 1, 1))).shape == (3, 3, 3)
