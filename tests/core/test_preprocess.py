from __future__ import annotations

import io
import json
import math
import random
import struct
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image, ImageFile

from sp_edge.errors import BundleError, DataError, ImageError, SettingsError
from sp_edge.picture_files import EXTENSIONS, image_files, pictures_at
from sp_edge.pictures import load_image
from sp_edge.preprocess import Preprocess

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


# --- Preprocess ---


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


# --- load_image: what can be read ---


def encode(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def flat(mode: str, colour: object, size: tuple[int, int] = (5, 4)) -> Image.Image:
    return Image.new(mode, size, colour)  # type: ignore[arg-type]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes, *, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG by hand, for what Pillow does not write."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def palette(alpha: bytes | int) -> bytes:
    image = Image.new("P", (5, 4), 1)
    image.putpalette([0, 0, 0, 200, 100, 50, 0, 0, 0])
    return encode(image, "PNG", transparency=alpha)


def grey16(value: int) -> Image.Image:
    return Image.fromarray(np.full((4, 5), value, np.uint16))


KINDS = {
    "RGB PNG": (encode(flat("RGB", (200, 100, 50)), "PNG"), (200, 100, 50)),
    "RGB BMP": (encode(flat("RGB", (200, 100, 50)), "BMP"), (200, 100, 50)),
    "RGB TIFF": (encode(flat("RGB", (200, 100, 50)), "TIFF"), (200, 100, 50)),
    "RGB PPM": (encode(flat("RGB", (200, 100, 50)), "PPM"), (200, 100, 50)),
    "RGB WebP": (encode(flat("RGB", (200, 100, 50)), "WEBP", lossless=True), (200, 100, 50)),
    "RGB JPEG": (encode(flat("RGB", (200, 100, 50)), "JPEG", quality=95), (200, 100, 50)),
    "one bit": (encode(flat("1", 1), "PNG"), (255, 255, 255)),
    "grey": (encode(flat("L", 77), "PNG"), (77, 77, 77)),
    "grey JPEG": (encode(flat("L", 77), "JPEG", quality=95), (77, 77, 77)),
    "grey with alpha": (encode(flat("LA", (100, 51)), "PNG"), (224, 224, 224)),
    "grey, clear": (encode(flat("LA", (100, 0)), "PNG"), (255, 255, 255)),
    "RGBA, opaque": (encode(flat("RGBA", (200, 100, 50, 255)), "PNG"), (200, 100, 50)),
    "RGBA, half": (encode(flat("RGBA", (200, 100, 50, 102)), "PNG"), (233, 193, 173)),
    "RGBA, clear": (encode(flat("RGBA", (200, 100, 50, 0)), "PNG"), (255, 255, 255)),
    "RGBA WebP": (encode(flat("RGBA", (200, 100, 50, 102)), "WEBP", lossless=True), (233, 193, 173)),
    "RGB with a clear colour": (encode(flat("RGB", (1, 2, 3)), "PNG", transparency=(1, 2, 3)), (255, 255, 255)),
    "grey with a clear value": (encode(flat("L", 9), "PNG", transparency=9), (255, 255, 255)),
    "palette": (encode(flat("RGB", (200, 100, 50)).convert("P", palette=Image.Palette.ADAPTIVE), "PNG"), (200, 100, 50)),
    "palette with alpha": (palette(bytes([0, 102, 255])), (233, 193, 173)),
    "palette with a clear entry": (palette(1), (255, 255, 255)),
    "CMYK JPEG": (encode(flat("CMYK", (0, 128, 255, 0)), "JPEG", quality=95), (255, 127, 0)),
    "CMYK TIFF": (encode(flat("CMYK", (0, 128, 255, 0)), "TIFF"), (255, 127, 0)),
    "16-bit grey": (encode(grey16(100 * 257 + 30), "PNG"), (100, 100, 100)),
    "16-bit white": (encode(grey16(65535), "PNG"), (255, 255, 255)),
    "16-bit grey TIFF": (encode(grey16(100 * 257), "TIFF"), (100, 100, 100)),
    "16-bit night": (encode(grey16(200), "TIFF"), (0, 0, 0)),
    "16-bit RGB": (png(2, 1, b"\0" + struct.pack(">6H", *([200 * 257, 100 * 257, 50 * 257] * 2)), depth=16), (200, 100, 50)),
    "32-bit grey of 16 bits": (encode(flat("I", 100 * 257 + 30), "TIFF"), (100, 100, 100)),
    "32-bit grey of 8 bits": (encode(flat("I", 100), "TIFF"), (100, 100, 100)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_becomes_rgb(kind: str, tmp_path: Path) -> None:
    data, colour = KINDS[kind]
    (tmp_path / "picture").write_bytes(data)
    for source in (data, tmp_path / "picture"):
        image = load_image(source)
        assert image.dtype == np.uint8
        assert image.shape in {(4, 5, 3), (1, 2, 3)}
        assert np.abs(image.astype(int) - colour).max() <= 2, image[0, 0]


@pytest.mark.parametrize(
    "image",
    [flat("F", 0.5), flat("F", 200.0), flat("F", float("nan")), flat("I", 70_000), flat("I", -1)],
    ids=["floats 0..1", "floats 0..255", "nan", "above 16 bits", "negative"],
)
def test_numbers_without_an_agreed_white_are_refused(image: Image.Image) -> None:
    with pytest.raises(ImageError, match="cannot use the picture") as raised:
        load_image(encode(image, "TIFF"))
    assert "8 or 16 bits" in raised.value.expected
    assert image.mode in raised.value.got


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM", "GIF", "JPEG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA"])
def test_a_picture_of_one_pixel_is_a_picture(form: str, mode: str) -> None:
    if (form, mode) in {("JPEG", "P"), ("JPEG", "RGBA"), ("PPM", "P"), ("BMP", "RGBA"), ("PPM", "RGBA")}:
        return
    image = load_image(encode(flat("RGB", 0, (1, 1)).convert(mode), form))
    assert image.shape == (1, 1, 3)
    assert Preprocess(32)(image).shape == (32, 32, 3)


# How a picture is stored so that the tag turns it upright (TIFF 6.0, tag 274).
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", STORED)
def test_a_rotated_picture_comes_upright(orientation: int, form: str) -> None:
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :16], upright[:16, 32:], upright[16:, :16] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = load_image(encode(stored, form, exif=exif))
    assert image.shape == upright.shape
    assert np.abs(image.astype(int) - upright).mean() < 6


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_none(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = noise(6, 9)
    np.testing.assert_array_equal(load_image(encode(Image.fromarray(upright), "PNG", exif=exif)), upright)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_counts(form: str) -> None:
    first, second = flat("RGB", (250, 0, 0)), flat("RGB", (0, 0, 250))
    options = {"lossless": True} if form == "WEBP" else {}
    data = encode(first, form, save_all=True, append_images=[second], **options)
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.n_frames == 2
    image = load_image(data)
    assert image.shape == (4, 5, 3)
    assert np.abs(image.astype(int) - (250, 0, 0)).max() <= 2


def test_colour_order_is_rgb_and_rows_come_first() -> None:
    image = noise(3, 7)
    np.testing.assert_array_equal(load_image(encode(Image.fromarray(image), "PNG")), image)


# --- load_image: what cannot ---


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"just text\n" * 9, b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"P6 0 0 255\n"]
)
@pytest.mark.parametrize("name", ["text.jpg", "text.png", "no suffix"])
def test_what_is_no_picture_is_an_image_error_with_its_name(tmp_path: Path, data: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ImageError) as raised:
        load_image(tmp_path / name)
    assert name in raised.value.what
    assert raised.value.expected
    assert raised.value.got


def test_no_file_and_a_folder_are_image_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.jpg", tmp_path, tmp_path / "a\0b.jpg", tmp_path / ("a" * 300 + ".jpg")):
        with pytest.raises(ImageError, match="cannot read"):
            load_image(path)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
def test_a_truncated_picture_is_an_image_error(form: str) -> None:
    data = encode(Image.fromarray(noise(40, 40)), form)
    for length in range(1, len(data) * 3 // 4, max(1, len(data) // 23)):
        with pytest.raises(ImageError):
            load_image(data[:length])


def loads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Sizes of the pictures whose pixels are asked for from now on."""
    asked = []
    load_prepare = ImageFile.ImageFile.load_prepare

    def record(self: ImageFile.ImageFile) -> None:
        asked.append(self.size)
        load_prepare(self)

    monkeypatch.setattr(ImageFile.ImageFile, "load_prepare", record)
    return asked


@pytest.mark.parametrize("pillows_limit", [Image.MAX_IMAGE_PIXELS, None])
@pytest.mark.parametrize("size", [(50_000, 50_000), (178_957, 1000), (2**31 - 1, 2**31 - 1)])
def test_a_huge_picture_fails_before_memory_is_taken_for_it(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], pillows_limit: int | None
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillows_limit)
    asked = loads(monkeypatch)
    with pytest.raises(ImageError) as raised:
        load_image(png(*size, b""))
    assert asked == []
    assert "pixels" in str(raised.value)


def test_a_large_picture_is_read_and_pillow_does_not_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = loads(monkeypatch)
    load_image(encode(flat("L", 5), "PNG"))
    assert asked == [(5, 4)], "the test above would notice"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 15)  # so that 20 pixels are as suspicious as 100 million
    assert load_image(encode(flat("L", 5), "PNG")).shape == (4, 5, 3)


def corrupt_exif() -> bytes:
    """A sound JPEG with an EXIF block that ends in the middle."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "maker" * 9, 6
    data = exif.tobytes()
    return encode(flat("RGB", (200, 100, 50), (8, 8)), "JPEG", exif=data[: len(data) // 2], quality=95)


def test_odd_metadata_neither_warns_nor_hides_the_picture() -> None:
    data = corrupt_exif()
    with pytest.warns(UserWarning, match="Tag data larger|Truncated"), Image.open(io.BytesIO(data)) as opened:
        opened.getexif().get(0x010F)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        image = load_image(data)
    assert seen == []
    assert np.abs(image.astype(int) - (200, 100, 50)).max() <= 2


def test_other_peoples_warnings_are_heard_after_pictures_were_read_in_threads() -> None:
    data, before = corrupt_exif(), list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        shapes = set(pool.map(lambda _: load_image(data).shape, range(200)))
    assert shapes == {(8, 8, 3)}
    assert list(warnings.filters) == before
    with pytest.raises(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)


def test_one_thread_at_a_time_changes_the_warnings_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    data, within, most = corrupt_exif(), [], []
    open_ = Image.open

    def slow(*args: Any, **options: Any) -> Image.Image:
        within.append(1)
        most.append(len(within))
        time.sleep(0.005)
        within.pop()
        return open_(*args, **options)

    monkeypatch.setattr(Image, "open", slow)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(load_image, [data] * 12))
    assert (len(most), max(most)) == (12, 1)


def test_a_picture_never_starts_ghostscript(monkeypatch: pytest.MonkeyPatch) -> None:
    Image.init()
    started = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args, **options: started.append(args))
    with pytest.raises(ImageError):
        load_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    assert started == []


@pytest.mark.parametrize(
    "error", [MemoryError, struct.error("bad"), KeyError("tag"), RecursionError, NotImplementedError("no")]
)
def test_whatever_a_decoder_raises_is_an_image_error(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def stumble(self: ImageFile.ImageFile) -> None:
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load_prepare", stumble)
    with pytest.raises(ImageError, match="cannot read the picture") as raised:
        load_image(encode(flat("RGB", 0), "PNG"))
    assert raised.value.got


def test_a_user_who_interrupts_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: ImageFile.ImageFile) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ImageFile.ImageFile, "load_prepare", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load_image(encode(flat("RGB", 0), "PNG"))


def sound_pictures() -> dict[str, bytes]:
    image, exif = Image.fromarray(noise(9, 7)), Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    return {
        "jpeg": encode(image, "JPEG", exif=exif),
        "cmyk": encode(image.convert("CMYK"), "JPEG"),
        "png": encode(image, "PNG", exif=exif),
        "rgba": encode(image.convert("RGBA"), "PNG"),
        "grey16": encode(Image.fromarray(np.arange(63, dtype=np.uint16).reshape(9, 7) * 1000), "PNG"),
        "gif": encode(image.convert("P"), "GIF", save_all=True, append_images=[image.convert("P").rotate(90)]),
        "bmp": encode(image, "BMP"),
        "webp": encode(image, "WEBP", exif=exif),
        "tiff": encode(image, "TIFF", exif=exif),
        "ppm": encode(image, "PPM"),
    }


SOUND = sound_pictures()


@given(form=st.sampled_from(sorted(SOUND)), seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=300)
def test_a_damaged_picture_is_a_picture_or_an_image_error(form: str, seed: int) -> None:
    chance, data = random.Random(seed), bytearray(SOUND[form])  # noqa: S311
    for _ in range(chance.choice([1, 1, 2, 8])):
        at = chance.randrange(len(data)) if data else 0
        if chance.random() < 0.7:
            data[at : at + 1] = bytes([chance.choice([0, 1, 128, 255, chance.randrange(256)])])
        elif chance.random() < 0.5:
            del data[at:]
        else:
            data[at:at] = chance.randbytes(chance.randrange(5))
    try:
        image = load_image(bytes(data))
    except ImageError:
        return
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.size


# --- image_files ---


def test_pictures_of_a_folder_are_sorted_and_nothing_else(tmp_path: Path) -> None:
    for name in ["b.JPG", "a.png", "c.Jpeg", ".hidden.png", "notes.txt", "noext", "z.webp"]:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.png" / "inner.png").write_bytes(b"")
    assert [p.name for p in image_files(tmp_path)] == ["a.png", "b.JPG", "c.Jpeg", "z.webp"]


def test_a_link_that_leads_nowhere_is_missed_where_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "broken.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "notes.txt").symlink_to(tmp_path / "nowhere")
    assert [p.name for p in image_files(tmp_path)] == ["broken.png"]
    with pytest.raises(ImageError, match=r"broken\.png"):
        load_image(tmp_path / "broken.png")


def test_pictures_are_named_one_by_one_or_by_their_folder(tmp_path: Path) -> None:
    folder, lone = tmp_path / "folder", tmp_path / "lone.data"
    folder.mkdir()
    for path in (folder / "b.png", folder / "a.jpg", folder / "notes.txt", lone):
        path.write_bytes(b"")
    assert pictures_at([lone, folder]) == [lone, folder / "a.jpg", folder / "b.png"]


def test_pictures_that_are_not_there_are_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_bytes(b"")
    with pytest.raises(DataError, match=r"nothing at .*missing\.png"):
        pictures_at([tmp_path, tmp_path / "missing.png"])
    with pytest.raises(DataError, match="no pictures were named"):
        pictures_at([])
    with pytest.raises(DataError, match=r"no pictures in .*empty"):
        pictures_at([tmp_path / "one.png", tmp_path / "empty"])


def test_every_extension_can_be_read(tmp_path: Path) -> None:
    for extension in EXTENSIONS:
        path = tmp_path / f"a{extension}"
        Image.fromarray(noise(4, 5)).save(path)
        assert load_image(path).shape == (4, 5, 3)
    assert len(image_files(tmp_path)) == len(EXTENSIONS)
    assert {".jfif", ".jpe"} < EXTENSIONS, "browsers save JPEG under them"


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
