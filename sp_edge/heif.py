"""Finds what an AVIF or HEIC says of its colors in numbers, which neither Pillow nor pillow-heif applies."""

from __future__ import annotations

import io
import struct
from typing import IO

_MOST = 1 << 20  # bytes of the part that describes the pictures
_BOXES = 64  # parts before it


def coded_colours(stream: IO[bytes]) -> bytes | None:
    """Primaries, transfer, matrix and range of the first picture, a byte each as in a PNG's cICP; None where nothing is said.

    Args:
        stream: at its start; it can seek.
    """
    for _ in range(_BOXES):
        head = stream.read(8)
        if len(head) < 8:
            return None
        size, kind = struct.unpack(">I4s", head)
        if kind == b"meta":
            content = stream.read(min(size, _MOST))
            at = content.find(b"colrnclx") + 8
            numbers = content[at : at + 7]
            if at < 8 or len(numbers) < 7:
                return None
            primaries, transfer, matrix, whole = struct.unpack(">HHHB", numbers)
            return bytes(min(number, 255) for number in (primaries, transfer, matrix, whole >> 7))
        if size < 8:  # to the end of the file, or longer than 4 GB
            return None
        stream.seek(size - 8, io.SEEK_CUR)
    return None
