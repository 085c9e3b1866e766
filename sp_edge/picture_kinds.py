"""What the first bytes of a file say that it is."""

from __future__ import annotations

import re

HEAD = 64  # bytes that are enough to tell
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PORTABLE = re.compile(rb"P[1-6]\s+(#|\d)")
_STARTS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    **dict.fromkeys(_TIFF, "TIFF"),
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"8BPS": "Photoshop",
    b"\x1aE\xdf\xa3": "video",
}
# Brands of the container that HEIC, AVIF and MP4 share. 'mif1' says no more than that it is a picture.
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_AVIF = {b"avif", b"avis"}

GET_HEIC = "pip install pillow-heif"
READ = frozenset({"JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM", "AVIF", "HEIC"})


def kind_of(head: bytes) -> str:
    """The kind of a file by its first `HEAD` bytes.

    Returns:
        One of `READ`; 'JPEG XL', 'JPEG 2000', 'Photoshop' or 'raw' (of a camera), which are pictures that sp-edge does not
        read; 'video'; or '' for anything else.
    """
    if head[:4] in _TIFF and (head[8:10] == b"CR" or head.startswith(b"IIU\0")):
        return "raw"
    for start, kind in _STARTS.items():
        if head.startswith(start):
            return kind
    if head.startswith(b"RIFF"):
        return {b"WEBP": "WEBP", b"AVI ": "video"}.get(head[8:12], "")
    if head[4:8] == b"ftyp":
        size = int.from_bytes(head[:4], "big")
        brands = {head[at : at + 4] for at in (8, *range(16, min(size, len(head)), 4))}
        if brands & _AVIF:
            return "AVIF"
        return "HEIC" if brands & (_HEIC | {b"mif1", b"msf1"}) else "raw" if b"crx " in brands else "video"
    if head.startswith(b"BM") and head[15:18] == b"\0\0\0":  # the size of the header behind the file's own
        return "BMP"
    return "PPM" if _PORTABLE.match(head) else ""
