"""Takes a PNG apart: what its pixels need, and what stands beside them and changes how they look."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, field
from typing import IO, Any

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXELS = (b"IHDR", b"PLTE", b"IDAT")
_BESIDE = (b"tRNS", b"iCCP", b"cICP", b"sRGB", b"gAMA", b"cHRM", b"eXIf", b"iTXt", b"zTXt", b"tEXt")
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Where programs keep a picture's orientation: XMP, and EXIF from the time before PNG had a part for it.
_TEXTS = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
LARGEST = 8 << 20  # bytes of a part beside the pixels, also once it is inflated


@dataclass
class Png:
    """A PNG in parts.

    Attributes:
        pixels: a PNG with the same pixels and nothing beside them but the value that is transparent.
        colour: what says how the numbers look: 'iCCP', inflated and empty where it is damaged; 'cICP', 'sRGB', 'gAMA' and
            'cHRM' as they are.
        info: EXIF and XMP, as Pillow's `Image.info` has them.
    """

    pixels: io.BytesIO
    colour: dict[str, bytes] = field(default_factory=dict)
    info: dict[str | tuple[int, int], Any] = field(default_factory=dict)


def take_apart(stream: IO[bytes], *, most: int) -> Png:
    """Reads a PNG with bounded memory.

    Texts, thumbnails and unknown parts are passed over unread, and so is a part beside the pixels whose checksum is wrong.

    Args:
        stream: at its start; it can seek.
        most: pixels of the largest picture whose pixels are copied.
    """
    stream.seek(len(_SIGNATURE))
    found, room = Png(io.BytesIO(_SIGNATURE)), LARGEST
    out = found.pixels
    out.seek(len(_SIGNATURE))
    while len(start := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        if kind in _PIXELS:
            if length > room:
                break
            content = stream.read(length + 4)
            out.write(start + content)
            if len(content) < length + 4:
                return _ready(found)  # cut: without an end, so that this is noticed
            room = _room(content, most) if kind == b"IHDR" else room - length
        elif kind == b"IEND":
            break
        elif kind in _BESIDE and length <= LARGEST:
            content, checksum = stream.read(length), stream.read(4)
            if checksum == struct.pack(">I", zlib.crc32(kind + content)):
                if kind == b"tRNS":
                    out.write(start + content + checksum)
                _keep(found, kind, content)
            elif kind == b"iCCP":
                found.colour["iCCP"] = b""
        else:
            stream.seek(length + 4, io.SEEK_CUR)
    out.write(struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND")))
    return _ready(found)


def _ready(found: Png) -> Png:
    found.pixels.seek(0)
    return found


def _room(header: bytes, most: int) -> int:
    """Bytes that the compressed pixels of a picture take at most: twice what they are, and a little for each row."""
    if len(header) < 13:
        return 0
    width, height, depth, colour = struct.unpack(">IIBB", header[:10])
    return 0 if width * height > most else height * (width * depth * _CHANNELS.get(colour, 4) // 4 + 64) + LARGEST


def _keep(found: Png, kind: bytes, content: bytes) -> None:
    if kind == b"iCCP":
        _, _, packed = content.partition(b"\0")
        found.colour["iCCP"] = _inflated(packed[1:]) or b""
    elif kind in (b"cICP", b"sRGB", b"gAMA", b"cHRM"):
        found.colour[kind.decode()] = content
    elif kind == b"eXIf":
        found.info["exif"] = content
    elif content.startswith(_TEXTS):
        name, _, rest = content.partition(b"\0")
        text: bytes | None = rest
        if kind == b"zTXt":
            text = _inflated(rest[1:])
        elif kind == b"iTXt":
            _, _, text = rest[2:].split(b"\0", 2) if rest[2:].count(b"\0") > 1 else (b"", b"", b"")
            text = _inflated(text) if rest[:1] == b"\1" else text
        if text:
            found.info[name.decode("latin-1")] = text.decode("utf-8", "replace")


def _inflated(packed: bytes) -> bytes | None:
    """What was compressed; None where it is damaged or larger than `LARGEST`."""
    machine = zlib.decompressobj()
    try:
        content = machine.decompress(packed, LARGEST)
    except zlib.error:
        return None
    return None if machine.unconsumed_tail else content
