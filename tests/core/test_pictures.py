from __future__ import annotations

import io
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


# --- what cannot ---


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
