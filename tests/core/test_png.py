from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from sp_edge.png import take_apart

NOISE = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


WHOLE = png(Image.fromarray(NOISE))


def with_parts(*parts: bytes, behind: bytes = b"") -> io.BytesIO:
    return io.BytesIO(WHOLE[:33] + b"".join(parts) + WHOLE[33:-12] + behind + WHOLE[-12:])


def test_pixels_are_kept_and_what_stands_beside_them_is_told_apart() -> None:
    found = take_apart(
        with_parts(
            chunk(b"iCCP", b"name\0\0" + zlib.compress(b"profile")),
            chunk(b"gAMA", b"1234"),
            chunk(b"vpAg", b"odd"),
            chunk(b"tEXt", b"Comment\0nothing"),
            behind=chunk(b"eXIf", b"II*\0") + chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"abc")),
        ),
        most=600,
    )
    assert found.pixels.read() == WHOLE
    assert found.colour == {"iCCP": b"profile", "gAMA": b"1234"}
    assert found.info == {"exif": b"II*\0", "Raw profile type exif": "abc"}


def test_of_a_picture_that_is_too_large_only_the_size_is_read() -> None:
    found = take_apart(io.BytesIO(WHOLE[:33] + chunk(b"IDAT", bytes(9 << 20)) + WHOLE[33:]), most=599)
    with Image.open(found.pixels) as opened:
        assert opened.size == (20, 30)
    assert len(found.pixels.getvalue()) < 100


def test_pixels_far_beyond_a_pictures_size_are_not_read() -> None:
    behind = chunk(b"IDAT", bytes(1 << 20))
    found = take_apart(io.BytesIO(WHOLE[:-12] + behind * 40 + WHOLE[-12:]), most=600)
    assert len(found.pixels.getvalue()) < 18 << 20


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_every_kind_of_pixels_is_kept(mode: str) -> None:
    whole = png(Image.new(mode, (9, 7), 1))
    assert take_apart(io.BytesIO(whole), most=63).pixels.read() == whole


def test_a_cut_png_stays_cut() -> None:
    for length in range(len(WHOLE) - 20):
        with (
            pytest.raises((OSError, SyntaxError)),
            Image.open(take_apart(io.BytesIO(WHOLE[:length]), most=600).pixels) as opened,
        ):
            opened.load()
