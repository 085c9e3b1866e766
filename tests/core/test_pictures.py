from __future__ import annotations

import io
import random
import struct
import sys
import time
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image, ImageFile, features

from sp_edge.colour_profiles import coded_profile
from sp_edge.errors import ImageError
from sp_edge.pictures import load_image
from sp_edge.preprocess import Preprocess


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# --- what can be read ---


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


def bitmap(colour: tuple[int, int, int], fourth: int) -> bytes:
    """A BMP of 32 bits whose header says that the fourth byte is alpha."""
    header = struct.pack("<IiiHHIIiiII", 108, 5, 4, 1, 32, 3, 80, 0, 0, 0, 0)
    header += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    return b"BM" + struct.pack("<IHHI", 122 + 80, 0, 0, 122) + header + bytes([*colour[::-1], fourth]) * 20


def tiff(bits: int, pixels: bytes, *more: tuple[int, int, int, bytes], photometric: int = 1) -> bytes:
    """A grey TIFF of 5x4 by hand, for what Pillow does not write; `more` are tags as (tag, type, count, four bytes)."""
    tags = {256: 5, 257: 4, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 4, 279: len(pixels)}
    every = sorted([*((tag, 4, 1, struct.pack("<I", value)) for tag, value in tags.items()), *more])
    entries = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in every)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + struct.pack("<H", len(every)) + entries + bytes(4)


def several() -> bytes:
    """An MPO, as phones and stereo cameras write it, under the name of a JPEG."""
    options = {"save_all": True, "append_images": [flat("RGB", 0, (8, 8))], "quality": 95}
    return encode(flat("RGB", (200, 100, 50)), "MPO", **options)


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
    "RGBA, opaque": (encode(flat("RGBA", (200, 100, 50, 255)), "PNG"), (200, 100, 50)),
    "RGBA, half": (encode(flat("RGBA", (200, 100, 50, 102)), "PNG"), (233, 193, 173)),
    "RGBA, fourth byte unused": (encode(flat("RGBA", (200, 100, 50, 0)), "PNG"), (200, 100, 50)),
    "RGBA TIFF, fourth byte unused": (encode(flat("RGBA", (200, 100, 50, 0)), "TIFF"), (200, 100, 50)),
    "BMP, fourth byte unused": (bitmap((200, 100, 50), 0), (200, 100, 50)),
    "BMP, opaque": (bitmap((200, 100, 50), 255), (200, 100, 50)),
    "grey with alpha, which is unused": (encode(flat("LA", (100, 0)), "PNG"), (100, 100, 100)),
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
    "16-bit grey PGM, a dark one": (b"P5 5 4 65535\n" + struct.pack(">H", 255) * 20, (0, 0, 0)),
    "14-bit grey PGM": (b"P5 5 4 16383\n" + struct.pack(">H", 16383) * 20, (255, 255, 255)),
    "16-bit grey TIFF, white is 0": (tiff(16, struct.pack("<H", 55 * 257) * 20, photometric=0), (200, 200, 200)),
    "12-bit grey TIFF": (tiff(12, (bytes([0x7F, 0xF7, 0xFF]) * 2 + bytes([0x7F, 0xF0])) * 4), (127, 127, 127)),
    "AVIF": (encode(flat("RGB", (200, 100, 50)), "AVIF", quality=100), (200, 100, 50)),
    "several pictures in a JPEG": (several(), (200, 100, 50)),
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
    [flat("F", 0.5), flat("F", 200.0), flat("F", float("nan")), flat("I", 70_000), flat("I", -1), flat("I", 100)],
    ids=["floats 0..1", "floats 0..255", "nan", "above 16 bits", "negative", "32 bits"],
)
def test_numbers_without_an_agreed_white_are_refused(image: Image.Image) -> None:
    with pytest.raises(ImageError, match="cannot use the picture") as raised:
        load_image(encode(image, "TIFF"))
    assert "8 or 16 bits" in raised.value.expected
    assert "docs/pictures.md" in raised.value.next_step
    assert image.mode in raised.value.got


def test_a_hdr_camera_of_16_bits_is_scaled_by_its_bits_and_never_by_its_values() -> None:
    values = np.linspace(0, 65535, 20).astype(np.uint16).reshape(4, 5)
    for form in ("PNG", "TIFF", "PPM"):
        np.testing.assert_array_equal(load_image(encode(Image.fromarray(values), form))[..., 0], values // 257)
        np.testing.assert_array_equal(load_image(encode(Image.fromarray(values // 2), form))[..., 0], values // 2 // 257)


@pytest.mark.parametrize(("low", "high", "told"), [(7000, 9000, True), (0, 8000, True), (0, 16383, False)])
def test_sixteen_bits_of_which_few_are_used_are_told(
    low: int, high: int, told: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.fromarray(np.linspace(low, high, 20).astype(np.uint16).reshape(4, 5)).save(tmp_path / "thermal.tiff")
    load_image(tmp_path / "thermal.tiff")
    expected = f"thermal.tiff: its values are {low} to {high} of 65535"
    assert [expected in message and "docs/pictures.md" in message for message in caplog.messages] == [True] * told


# --- what stands beside the pixels ---

P3 = coded_profile(12, 13)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP", "AVIF"])
def test_a_profile_is_applied_before_the_picture_is_turned(form: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.fromarray(np.full((16, 32, 3), (60, 180, 80), np.uint8))
    got = load_image(encode(picture, form, icc_profile=P3, exif=exif))
    assert got.shape == (32, 16, 3)
    assert np.abs(got.astype(int) - (0, 183, 64)).max() <= 5


def test_colours_are_converted_before_they_are_laid_on_white() -> None:
    converted = load_image(encode(flat("RGBA", (60, 180, 80, 102)), "PNG", icc_profile=P3))
    assert np.abs(converted.astype(int) - (153, 226, 179)).max() <= 1
    assert np.abs(load_image(encode(flat("LA", (100, 255)), "PNG", icc_profile=P3)).astype(int) - 100).max() <= 1


def test_a_png_may_say_its_colours_in_numbers() -> None:
    picture = encode(flat("RGB", (60, 180, 80)), "PNG")
    for part in (chunk(b"cICP", bytes([12, 13, 0, 1])), chunk(b"gAMA", struct.pack(">I", 100_000))):
        assert (load_image(picture[:33] + part + picture[33:]) != (60, 180, 80)).any()
    srgb = chunk(b"gAMA", struct.pack(">I", 45455))
    np.testing.assert_array_equal(load_image(picture[:33] + srgb + picture[33:]), load_image(picture))


def test_a_profile_that_cannot_be_used_is_told_and_the_numbers_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    flat("RGB", (60, 180, 80)).save(tmp_path / "a.png", icc_profile=b"none" * 99)
    for _ in range(2):
        assert (load_image(tmp_path / "a.png") == (60, 180, 80)).all()
    assert len(caplog.messages) == 2
    assert all("a.png: the color profile cannot be used (cannot open" in message for message in caplog.messages)


def test_a_camera_with_such_a_profile_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    data = encode(flat("RGB", (60, 180, 80)), "JPEG", icc_profile=b"none" * 98)
    for _ in range(3):
        load_image(data)
    assert len(caplog.messages) == 1


def test_a_damaged_or_huge_profile_in_a_png_is_told(caplog: pytest.LogCaptureFixture) -> None:
    picture = encode(flat("RGB", (60, 180, 80)), "PNG")
    content = b"a\0\0" + zlib.compress(bytes(9 << 20))
    for part in (chunk(b"iCCP", content), chunk(b"iCCP", b"a\0\0junk"), chunk(b"iCCP", b"")):
        assert (load_image(picture[:33] + part + picture[33:]) == (60, 180, 80)).all()
    assert caplog.messages
    assert all("it is damaged" in message for message in caplog.messages)


def beside(*parts: bytes) -> bytes:
    """A PNG with these parts before its pixels."""
    picture = encode(Image.fromarray(noise(9, 7)), "PNG")
    return picture[:33] + b"".join(parts) + picture[33:]


def wrong(part: bytes) -> bytes:
    return part[:-1] + bytes([part[-1] ^ 1])


TEXT = b"workflow\0\0" + zlib.compress(b"A" * (3 << 20))
METADATA = {
    "long compressed text": beside(chunk(b"zTXt", TEXT)),
    "long XMP": beside(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"A" * (3 << 20)))),
    "long plain text": beside(chunk(b"tEXt", b"a\0" + b"A" * (9 << 20))),
    "70 long texts": beside(*[chunk(b"zTXt", TEXT)] * 70),
    "a wrong checksum": beside(wrong(chunk(b"tEXt", b"a\0b"))),
    "a wrong checksum of EXIF": beside(wrong(chunk(b"eXIf", b"II*\0"))),
    "EXIF without a header": beside(chunk(b"eXIf", b"\0\x08\0\2\1\x12\0\3")),
    "EXIF in a text": beside(chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n4\nnothing"))),
    "a text that is cut": beside(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1")),
    "an unknown part": beside(chunk(b"vpAg", bytes(9)), chunk(b"iDOT", b"")),
    "a cut text at the end": encode(Image.fromarray(noise(9, 7)), "PNG")[:-12] + chunk(b"tEXt", b"a" * 99)[:40],
}


@pytest.mark.parametrize("what", METADATA)
def test_nothing_beside_the_pixels_makes_a_png_unusable(what: str) -> None:
    np.testing.assert_array_equal(load_image(METADATA[what]), noise(9, 7))


def test_texts_are_never_inflated_without_bound() -> None:
    packed = zlib.compressobj(9)
    text = b"".join(packed.compress(bytes(1 << 20)) for _ in range(64)) + packed.flush()
    exif, xmp = b"Raw profile type exif\0\0", b"XML:com.adobe.xmp\0\1\0\0\0"
    parts = {b"zTXt": exif, b"iTXt": xmp, b"iCCP": b"a\0\0"}
    data = beside(*(chunk(kind, name + text) for kind, name in parts.items()))
    tracemalloc.start()
    try:
        np.testing.assert_array_equal(load_image(data), noise(9, 7))
        assert tracemalloc.get_traced_memory()[1] < 24 << 20, "three times 64 MB are there"
    finally:
        tracemalloc.stop()


def test_the_transparent_value_of_a_png_counts_only_where_it_is_whole() -> None:
    picture = encode(flat("RGB", (1, 2, 3)), "PNG")
    part = chunk(b"tRNS", struct.pack(">3H", 1, 2, 3))
    assert (load_image(picture[:33] + part + picture[33:]) == 255).all()
    assert (load_image(picture[:33] + wrong(part) + picture[33:]) == (1, 2, 3)).all()


def ifd(*entries: tuple[int, int, int, bytes]) -> bytes:
    """EXIF with one directory of (tag, type, count, four bytes)."""
    packed = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(20)


SIX = (0x112, 3, 1, struct.pack("<HH", 6, 0))
ODD = {
    "nothing odd": ifd(SIX),
    "resolution as text": ifd(SIX, (0x11A, 2, 4, b"72\0\0")),
    "width as bytes": ifd(SIX, (0x100, 7, 4, b"abcd")),
    "an unknown type": ifd(SIX, (0x131, 99, 1, bytes(4))),
    "a value far outside": ifd(SIX, (0x131, 2, 1 << 30, b"\xff\xff\xff\x7f")),
    "a negative rational": ifd(SIX, (0x11A, 10, 1, bytes(4)), (0x11B, 10, 1, b"\xff\xff\xff\xff")),
    "twice": ifd(SIX, SIX),
}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("what", ODD)
def test_odd_exif_turns_a_picture_as_it_says(what: str, form: str) -> None:
    upright = smooth_picture(24, 32)
    data = encode(Image.fromarray(upright).transpose(Image.Transpose.ROTATE_90), form, exif=ODD[what], quality=95)
    image = load_image(data)
    assert image.shape == upright.shape
    assert np.abs(image.astype(int) - upright).mean() < 6


@given(
    entries=st.lists(
        st.tuples(
            st.sampled_from([0x100, 0x112, 0x11A, 0x128, 0x8769, 0x8825, 0x2BC]),
            st.integers(0, 20),
            st.integers(0, 2**32 - 1) | st.integers(0, 4),
            st.binary(min_size=4, max_size=4),
        ),
        max_size=6,
    )
)
@settings(deadline=None, max_examples=100)
def test_whatever_exif_says_the_pixels_are_read(entries: list[tuple[int, int, int, bytes]]) -> None:
    for form in ("JPEG", "PNG", "WEBP"):
        image = load_image(encode(flat("RGB", (200, 100, 50), (16, 8)), form, exif=ifd(*entries)))
        assert image.shape in {(8, 16, 3), (16, 8, 3)}


@pytest.mark.parametrize(
    "tag",
    [
        (282, 2, 4, b"72\0\0"),
        (305, 7, 4, b"abcd"),
        (700, 2, 4, b"abc\0"),
        (34665, 4, 1, b"\xff\xff\xff\x7f"),
        (34665, 11, 1, b"\0\0\x80?"),
        (34853, 2, 4, b"abc\0"),
        (34675, 2, 4, b"abc\0"),
        (34675, 3, 2, b"abc\0"),
    ],
)
def test_odd_tags_of_a_tiff_neither_warn_nor_hide_the_picture(tag: tuple[int, int, int, bytes]) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        image = load_image(tiff(8, bytes(range(20)), SIX, tag))
    np.testing.assert_array_equal(image[..., 0], np.rot90(np.arange(20).reshape(4, 5), -1))
    assert [str(each.message) for each in seen] == []


def smooth_picture(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) * 2], -1).astype(np.uint8)


def test_xmp_may_say_how_a_picture_is_turned() -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    for kind in (b"\0\0\0\0" + xmp, b"\1\0\0\0" + zlib.compress(xmp)):
        assert load_image(beside(chunk(b"iTXt", b"XML:com.adobe.xmp\0" + kind))).shape == (7, 9, 3)


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


# --- what cannot ---


def test_heic_is_read_or_says_which_package_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(2000)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError) as raised:
        load_image(data)
    assert raised.value.got.startswith("HEIC")
    assert "pip install pillow-heif" in raised.value.next_step


def test_avif_may_say_its_colours_in_numbers() -> None:
    data = bytearray(encode(flat("RGB", (60, 180, 80), (64, 32)), "AVIF", quality=100))
    at = data.index(b"colrnclx") + 8
    assert np.abs(load_image(bytes(data)).astype(int) - (60, 180, 80)).max() <= 2
    data[at : at + 2] = bytes([0, 12])
    assert np.abs(load_image(bytes(data)).astype(int) - (0, 183, 64)).max() <= 3
    with_profile = bytearray(encode(flat("RGB", (60, 180, 80), (64, 32)), "AVIF", quality=100, icc_profile=P3))
    assert np.abs(load_image(bytes(with_profile)).astype(int) - (0, 183, 64)).max() <= 3


def test_a_huge_heic_fails_before_it_is_decoded() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    pillow_heif.from_pillow(flat("RGB", (60, 180, 80), (64, 32))).save(stream)
    with pytest.raises(ImageError, match="too large") as raised:
        load_image(stream.getvalue(), most=64 * 32 - 1)
    assert raised.value.got == "64x32"


def test_heic_of_a_phone_is_upright_and_in_srgb() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = pillow_heif.from_pillow(flat("RGB", (60, 180, 80), (64, 32)))
    stream = io.BytesIO()
    stored.save(stream, quality=100, exif=exif.tobytes(), icc_profile=P3)
    got = load_image(stream.getvalue())
    assert got.shape == (64, 32, 3)
    assert np.abs(got.astype(int) - (0, 183, 64)).max() <= 5


def test_avif_needs_a_pillow_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda _feature: False)
    with pytest.raises(ImageError) as raised:
        load_image(encode(flat("RGB", 0), "AVIF"))
    assert "pillow>=11.3" in raised.value.next_step


@pytest.mark.parametrize(
    ("start", "got"),
    [
        (b"\xff\x0a", "JPEG XL"),
        (b"8BPS\0\1", "Photoshop"),
        (b"\0\0\0\x20ftypisom", "video, which `sp-edge stream` reads"),
        (b"", "empty"),
    ],
)
def test_another_kind_of_file_is_told_by_its_name(start: bytes, got: str) -> None:
    with pytest.raises(ImageError) as raised:
        load_image(start + bytes(99) * bool(start))
    assert got in raised.value.got


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
    with pytest.raises(ImageError, match="too large") as raised:
        load_image(png(*size, b""))
    assert asked == []
    assert raised.value.expected == "at most 178,956,970 pixels"


@pytest.mark.parametrize("form", ["PNG", "JPEG", "AVIF"])
def test_a_picture_may_have_exactly_the_most_pixels(form: str) -> None:
    data = encode(flat("RGB", 0, (20, 30)), form)
    assert load_image(data, most=600).shape == (30, 20, 3)
    with pytest.raises(ImageError, match="too large") as raised:
        load_image(data, most=599)
    assert raised.value.got == "20x30"


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
