from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gcompris
from sp_edge.errors import DataError


def archive(files: dict[str, bytes], *, packed: bool = True) -> bytes:
    """A Qt resource archive of version 1 with one folder."""
    names, data, rows = b"", b"", [(0, 2, len(files), 1)]
    for name, content in files.items():
        stored = struct.pack(">I", len(content)) + zlib.compress(content) if packed else content
        rows.append((len(names), int(packed), 0, len(data)))
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
        data += struct.pack(">I", len(stored)) + stored
    tree = b"".join(struct.pack(">IHII", *row) for row in rows)
    starts = (20, 20 + len(tree), 20 + len(tree) + len(data))
    return struct.pack(">4s4I", b"qres", 1, *starts) + tree + data + names


def picture(side: int) -> bytes:
    stored = io.BytesIO()
    Image.fromarray(np.full((side, 2 * side, 3), 90, np.uint8)).save(stored, "WEBP")
    return stored.getvalue()


@pytest.mark.parametrize("packed", [True, False])
def test_an_archive_gives_its_files(tmp_path: Path, packed: bool) -> None:
    files = {"one.webp": b"abc", "two.txt": b"x" * 1000}
    (tmp_path / "a.rcc").write_bytes(archive(files, packed=packed))
    assert dict(gcompris.resources(tmp_path / "a.rcc")) == files


@pytest.mark.parametrize("content", [b"", b"PK\3\4" + b"\0" * 40, archive({"a": b"b"})[:40]])
def test_what_is_no_archive_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.rcc").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.rcc"):
        list(gcompris.resources(tmp_path / "a.rcc"))


def test_the_set_has_a_folder_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / gcompris.PACKAGE[0] / gcompris.PACKAGE[1]
    folder.mkdir(parents=True)
    monkeypatch.setattr(gcompris, "THINGS", {"wind mill": ("toys/a", "toys/b")})
    (folder / "toys.rcc").write_bytes(archive({"a.webp": picture(100), "b.webp": picture(30)}))
    gcompris.write(tmp_path / "out", size=50, cache=tmp_path)
    found = []
    for file in sorted((tmp_path / "out" / "wind_mill").iterdir()):
        with Image.open(file) as image:
            found.append(image.size)
    assert found == [(100, 50), (60, 30)]
    monkeypatch.setattr(gcompris, "THINGS", {"wind mill": ("toys/a", "toys/c")})
    with pytest.raises(DataError, match=r"none named toys/c"):
        gcompris.photographs(tmp_path)


def test_names_have_two_photographs_or_more() -> None:
    assert min(len(files) for files in gcompris.THINGS.values()) >= 2
    files = [file for files in gcompris.THINGS.values() for file in files]
    assert len(files) == len(set(files))
