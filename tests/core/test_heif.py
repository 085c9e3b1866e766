from __future__ import annotations

import io
import struct

import pytest

from sp_edge.heif import coded_colours


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


TYPE = box(b"ftyp", b"avif" + bytes(4) + b"avifmif1")
COLOURS = box(b"colr", b"nclx" + struct.pack(">HHHB", 12, 13, 300, 0x80))


def test_the_numbers_of_the_first_picture_are_found() -> None:
    meta = box(b"meta", bytes(4) + box(b"iprp", box(b"ipco", COLOURS + box(b"colr", b"nclx" + bytes(7)))))
    assert coded_colours(io.BytesIO(TYPE + box(b"free", bytes(99)) + meta)) == bytes([12, 13, 255, 1])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        TYPE,
        TYPE + box(b"meta", bytes(4)),
        TYPE + box(b"meta", bytes(4) + COLOURS[:-4]),
        TYPE + box(b"mdat", COLOURS),
        TYPE + struct.pack(">I4s", 0, b"mdat") + box(b"meta", COLOURS),
        box(b"free", b"") * 99 + box(b"meta", COLOURS),
    ],
)
def test_where_nothing_is_said_nothing_is_found(content: bytes) -> None:
    assert coded_colours(io.BytesIO(content)) is None
