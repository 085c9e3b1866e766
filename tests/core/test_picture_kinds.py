from __future__ import annotations

import io

import pytest
from PIL import Image

from sp_edge.picture_kinds import HEAD, READ, kind_of


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM", "AVIF"])
def test_what_pillow_writes_is_known_by_its_first_bytes(form: str) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (5, 4)).save(stream, form)
    assert kind_of(stream.getvalue()[:HEAD]) == form
    assert form in READ


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"P5\n# made by a camera\n640 480", "PPM"),
        (b"P2 3 2 9", "PPM"),
        (b"MM\0*" + bytes(9), "TIFF"),
        (b"II+\0" + bytes(9), "TIFF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf", "HEIC"),
        (b"\0\0\0\x18ftypavis\0\0\0\0avisavif", "AVIF"),
        (b"\0\0\0\x18ftypisom\0\0\x02\0isomavc1", "video"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "video"),
        (b"RIFF\0\0\0\0AVI LIST", "video"),
        (b"\x1aE\xdf\xa3" + bytes(9), "video"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "raw"),
        (b"II*\0\x10\0\0\0CR\2\0", "raw"),
        (b"\xff\x0a\0", "JPEG XL"),
        (b"", ""),
        (b"BM, as in a text that begins so", ""),
        (b"P5 is what I said", ""),
        (b"RIFF\0\0\0\0WAVEfmt ", ""),
        (b"just text", ""),
        (b"\0\0\0\x18ftyp", "video"),
    ],
)
def test_kinds_are_told_apart(head: bytes, kind: str) -> None:
    assert kind_of(head) == kind
