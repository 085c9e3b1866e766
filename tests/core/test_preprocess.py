from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sp_edge.errors import BundleError, ImageError, SettingsError
from sp_edge.preprocess import PADDING, Preprocess
from sp_edge.view import Region, View

Picture = np.ndarray


def noise(height: int, width: int, seed: int = 0) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int, seed: int) -> Picture:
    """The same scene at any size: a few waves of strong contrast."""
    rng = np.random.default_rng(seed)
    y, x = (np.arange(height) + 0.5)[:, None] / height, (np.arange(width) + 0.5)[None] / width
    waves = []
    for _ in range(3):
        (down, across), (p, q) = rng.uniform(0.3, 2, 2), rng.uniform(0, 6, 2)
        waves.append(127.5 + 120 * np.sin(2 * np.pi * down * y + p) * np.cos(2 * np.pi * across * x + q))
    return np.stack(waves, -1).astype(np.uint8)


def reference(image: Picture, image_size: int, ratio: float) -> Picture:
    """What the papers' pipelines do: resize the whole picture, antialiased, then crop its centre."""
    height, width = image.shape[:2]
    scale = image_size * ratio / min(height, width)
    size = max(image_size, round(width * scale)), max(image_size, round(height * scale))
    resized = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    left, top = round((size[0] - image_size) / 2), round((size[1] - image_size) / 2)
    return resized[top : top + image_size, left : left + image_size]


def cosine(a: Picture, b: Picture) -> float:
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@given(k=st.integers(1, 22), j=st.integers(0, 6), upright=st.booleans(), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_it_equals_resize_then_centre_crop_where_that_rounds_nothing(k: int, j: int, upright: bool, seed: int) -> None:
    short, long = 11 * k, (11 + 2 * j) * k  # resized: 88 x (88 + 16 j), so the crop's corner falls on a pixel
    image = noise(long, short, seed) if upright else noise(short, long, seed)
    difference = Preprocess(80, 1.1)(image).astype(int) - reference(image, 80, 1.1)
    assert np.abs(difference).max() <= 1


@given(k=st.integers(23, 60), j=st.integers(0, 3), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_much_larger_pictures_are_reduced_first_and_stay_near(k: int, j: int, seed: int) -> None:
    height, width = 11 * k, (11 + 2 * j) * k
    frame = np.clip(smooth(height, width, seed) + np.random.default_rng(seed).normal(0, 8, (height, width, 3)), 0, 255)
    # Noise alone is the worst case: neighbours have nothing in common.
    for image, least in ((frame.astype(np.uint8), 0.9999), (noise(height, width, seed), 0.998)):
        prepared, expected = Preprocess(80, 1.1)(image), reference(image, 80, 1.1)
        assert cosine(prepared, expected) > least
        assert abs(prepared.mean() - expected.mean()) < 0.5


@given(scale=st.floats(2.8, 5.5), image_size=st.integers(8, 60), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_halving_is_pillows_but_for_rounding(scale: float, image_size: int, seed: int) -> None:
    side = math.ceil(scale * image_size)  # odd or even
    image = noise(side, side, seed)
    halved, box = Image.fromarray(image).reduce(2), (0, 0, side / 2, side / 2)
    expected = np.asarray(halved.resize((image_size, image_size), Image.Resampling.BILINEAR, box=box)).astype(int)
    difference = Preprocess(image_size, 1.0)(image) - expected
    assert np.abs(difference).max() <= 1
    assert abs(difference.mean()) < 0.3


def timms(image: Picture, image_size: int, crop_pct: float) -> Picture:
    """What timm's evaluation transform does: the shorter side to whole pixels, bicubic, then the centre cut on whole pixels."""
    height, width = image.shape[:2]
    short = math.floor(image_size / crop_pct)
    size = short * width // min(height, width), short * height // min(height, width)
    resized = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    left, top = (round((side - image_size) / 2) for side in size)
    return resized[top : top + image_size, left : left + image_size]


@given(
    height=st.integers(20, 300),
    width=st.integers(20, 300),
    image_size=st.sampled_from([80, 81, 112]),
    crop_pct=st.sampled_from([0.875, 0.9, 0.95, 1.0]),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_bicubic_is_timms_own_transform(height: int, width: int, image_size: int, crop_pct: float, seed: int) -> None:
    image = noise(height, width, seed) // 2 + 64  # so grey that no pass clips what the filter overshoots
    result, expected = Preprocess(image_size, 1 / crop_pct, "bicubic")(image), timms(image, image_size, crop_pct)
    assert np.abs(result.astype(int) - expected).max() <= 2  # each rounds to 8 bits between its two passes


def test_bicubic_of_harsh_noise_stays_near_where_pillow_takes_the_other_pass_first() -> None:
    image = noise(81, 73)  # Pillow 13 goes down the columns first for the crop's box, and along the rows for the whole picture
    result, expected = Preprocess(80, 1.0, "bicubic")(image), timms(image, 80, 1.0)
    assert np.abs(result.astype(int) - expected).max() <= 32
    assert cosine(result, expected) > 0.9999


def test_bicubic_halves_only_pictures_of_four_times_the_size() -> None:
    for side, same in ((255, True), (256, False)):
        image = noise(side, side)
        whole = Image.fromarray(image).resize((64, 64), Image.Resampling.BICUBIC)
        assert (np.abs(Preprocess(64, 1.0, "bicubic")(image).astype(int) - np.asarray(whole)).max() <= 1) == same
    frame = smooth(1111, 1501, 3)
    assert cosine(Preprocess(64, 1 / 0.875, "bicubic")(frame), timms(frame, 64, 0.875)) > 0.9999


@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    image_size=st.sampled_from([80, 112]),
    ratio=st.sampled_from([1.0, 1.1, 1.15, 1.25]),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_it_is_resize_then_centre_crop_to_within_half_a_pixel(
    height: int, width: int, image_size: int, ratio: float, seed: int
) -> None:
    if max(height, width) > 20 * min(height, width):
        return
    image = smooth(height, width, seed)
    result, expected = Preprocess(image_size, ratio)(image), reference(image, image_size, ratio)
    assert cosine(result, expected) > 0.999
    assert np.abs(result.astype(int) - expected).mean() < 4


@given(height=st.integers(1, 200), width=st.integers(1, 200), image_size=st.integers(1, 70), ratio=st.floats(1, 4))
@settings(deadline=None, max_examples=80)
def test_any_size_of_picture_gives_the_networks_size(height: int, width: int, image_size: int, ratio: float) -> None:
    image = np.full((height, width, 3), (200, 100, 50), np.uint8)
    result = Preprocess(image_size, ratio)(image)
    assert (result.shape, result.dtype) == ((image_size, image_size, 3), np.uint8)
    assert (result == (200, 100, 50)).all(), "nothing but the picture's own pixels takes part"


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (2, 3001), (3001, 2), (7, 4000)])
def test_extreme_aspect_ratios_give_the_centre(size: tuple[int, int]) -> None:
    height, width = size
    along = np.arange(max(size)) * 255 // max(1, max(size) - 1)
    image = np.broadcast_to((along[:, None] if height > width else along[None])[..., None], (*size, 3)).astype(np.uint8)
    result = Preprocess(32, 1.1)(image)
    assert result.shape == (32, 32, 3)
    if max(size) > 1:
        assert np.abs(result.astype(int) - 127).max() <= 2


def test_it_does_not_turn_or_mirror() -> None:
    image = np.zeros((60, 100, 3), np.uint8)
    image[:30, :50], image[:30, 50:], image[30:, :50] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    result = Preprocess(32, 1.1)(image)
    corners = {
        "top left": result[2, 2],
        "top right": result[2, -3],
        "bottom left": result[-3, 2],
        "bottom right": result[-3, -3],
    }
    assert {k: v.tolist() for k, v in corners.items()} == {
        "top left": [255, 0, 0],
        "top right": [0, 255, 0],
        "bottom left": [0, 0, 255],
        "bottom right": [0, 0, 0],
    }


def test_it_is_antialiased() -> None:
    board = np.where(np.indices((500, 700)).sum(0) % 2, 255, 0).astype(np.uint8)
    result = Preprocess(50, 1.1)(np.repeat(board[..., None], 3, axis=2))
    assert result.std() < 8, "a fine board averages out to grey"
    assert 120 <= result.mean() <= 135


def test_what_lies_outside_the_crop_has_no_part() -> None:
    image = smooth(300, 500, 1)
    edited = image.copy()
    edited[:5], edited[-5:], edited[:, :100], edited[:, -100:] = 255, 0, 255, 0
    np.testing.assert_array_equal(Preprocess(64, 1.1)(image), Preprocess(64, 1.1)(edited))


def test_the_ratio_is_the_margin() -> None:
    image = np.zeros((400, 400, 3), np.uint8)
    image[100:300, 100:300] = 255
    assert (Preprocess(50, 2.0)(image)[1:-1, 1:-1] == 255).all(), "half of the side is left"
    assert Preprocess(50, 1.0)(image).mean() == pytest.approx(255 / 4, abs=2), "everything is left"


def test_a_picture_of_the_networks_size_is_left_alone() -> None:
    image = noise(48, 48)
    np.testing.assert_array_equal(Preprocess(48, 1.0)(image), image)
    assert (Preprocess(48, 1.1)(image) != image).any()


@pytest.mark.parametrize("size", [(40, 90), (120, 191)])
def test_the_picture_is_not_changed_and_any_memory_order_will_do(size: tuple[int, int]) -> None:
    image = noise(*size)
    kept = image.copy()
    turned = np.asfortranarray(image)
    np.testing.assert_array_equal(Preprocess(32)(turned), Preprocess(32)(image))
    for view in (image[:, ::-1], image[::-1], image[..., ::-1], np.broadcast_to(image[:, :1], image.shape)):
        np.testing.assert_array_equal(Preprocess(32)(view), Preprocess(32)(view.copy()))
    np.testing.assert_array_equal(image, kept)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((2, 8, 8, 3), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 0, 3), np.uint8),
        np.zeros((), np.uint8),
    ],
)
def test_what_is_not_an_rgb_picture_is_refused(wrong: Picture) -> None:
    with pytest.raises(ImageError, match="not an RGB picture") as raised:
        Preprocess(32)(wrong)
    assert str(wrong.shape) in raised.value.got


@pytest.mark.parametrize(
    "values", [(32, 1.1, "nearest"), (0, 1.1), (-3, 1.1), (32, 0.9), (32, 4.1), (32, float("nan")), (32, float("inf"))]
)
def test_settings_out_of_range_are_refused(values: tuple[Any, ...]) -> None:
    with pytest.raises(SettingsError, match="out of range"):
        Preprocess(*values)


def test_the_manifest_records_every_setting() -> None:
    recorded = json.loads(json.dumps(Preprocess(96, 1.25).to_json()))
    assert (recorded["image_size"], recorded["resize_ratio"]) == (96, 1.25)
    assert (recorded["layout"], recorded["colour"], recorded["dtype"], recorded["crop"]) == ("NHWC", "RGB", "uint8", "centre")
    assert recorded["filter"] == "bilinear, antialiased, halved from 2.8 times the size, reducing gap 1.4"
    cubic = Preprocess(96, 1.25, "bicubic")
    recorded = json.loads(json.dumps(cubic.to_json()))
    assert recorded["filter"] == "bicubic, antialiased, on whole pixels, halved from 4 times the size, reducing gap 2"
    assert Preprocess.from_json(recorded) == cubic


def test_pictures_that_were_prepared_in_another_way_are_refused() -> None:
    recorded = Preprocess(96, 1.25).to_json()
    assert Preprocess.from_json(recorded) == Preprocess(96, 1.25)
    for key, other in {"filter": "\ud800", "crop": "left", "layout": "NCHW", "colour": "BGR", "dtype": "float32"}.items():
        with pytest.raises(BundleError, match="in another way") as raised:
            Preprocess.from_json({**recorded, key: other})
        assert (raised.value.expected, raised.value.got) == (f"{key}: {recorded[key]!r}", f"{key}: {other!r}")
        str(raised.value).encode()  # also half a character, which a terminal would refuse
    with pytest.raises(BundleError, match="in another way"):
        Preprocess.from_json({**recorded, "sharpen": 0.5})


# --- what is looked at ---


def test_a_region_counts_as_a_picture_of_its_own() -> None:
    image, region = noise(300, 400), Region(30, 20, 250, 230)
    for preprocess in (Preprocess(80), Preprocess(80, 1 / 0.875, "bicubic")):
        expected = preprocess(np.ascontiguousarray(image[20:250, 30:280]))
        np.testing.assert_array_equal(preprocess(image, View(region)), expected)
        np.testing.assert_array_equal(preprocess(image, View()), preprocess(image))


@pytest.mark.parametrize("preprocess", [Preprocess(80), Preprocess(80, 1 / 0.875, "bicubic")])
def test_squash_takes_the_whole_region(preprocess: Preprocess) -> None:
    image = noise(90, 700)
    how = Image.Resampling.BICUBIC if preprocess.interpolation == "bicubic" else Image.Resampling.BILINEAR
    expected = np.asarray(Image.fromarray(image).resize((80, 80), how))
    result = preprocess(image, View(fit="squash"))
    assert np.abs(result.astype(int) - expected).mean() < 8, "what is reduced first differs a little, in noise most"
    np.testing.assert_array_equal(preprocess(noise(80, 80), View(fit="squash")), noise(80, 80))


def test_pad_takes_the_whole_region_and_keeps_its_shape() -> None:
    wide = np.full((100, 400, 3), 255, np.uint8)
    padded = Preprocess(80)(wide, View(fit="pad"))
    assert padded.shape == (80, 80, 3)
    rows = (padded == 255).all(axis=(1, 2))
    assert rows.sum() == 20
    assert rows[30:50].all()
    assert (padded[:30] == PADDING).all()
    np.testing.assert_array_equal(Preprocess(80)(wide.transpose(1, 0, 2), View(fit="pad")), padded.transpose(1, 0, 2))
    assert Preprocess(80)(np.full((1, 4000, 3), 255, np.uint8), View(fit="pad")).shape == (80, 80, 3)


def test_what_is_seen_is_what_changes_the_result() -> None:
    for view in (View(), View(Region(0.1, 0.3, 0.6, 0.5)), View(fit="squash"), View(Region(7, 9, 100, 60), "pad")):
        for preprocess in (Preprocess(40), Preprocess(40, 1 / 0.875, "bicubic")):
            x, y, width, height = preprocess.seen(120, 160, view)
            image = np.zeros((120, 160, 3), np.uint8)
            image[y : y + height, x : x + width] = 200
            inside = preprocess(image, view)[2:-2, 2:-2]
            shown = (inside != PADDING).any(axis=2)
            assert (inside[shown] > 190).all(), "all that is seen lies in the box"
            image[y + 3 : y + height - 3, x + 3 : x + width - 3] = 0
            assert (preprocess(image, view) > 30).any(), "and its edges are seen"


def test_a_view_does_not_change_the_definition_of_the_network() -> None:
    assert Preprocess.from_json(json.loads(json.dumps(Preprocess(96).to_json()))) == Preprocess(96)
    assert not {"fit", "region"} & set(Preprocess(96).to_json())
