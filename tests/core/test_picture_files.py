from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from sp_edge.errors import DataError, ImageError
from sp_edge.picture_files import EXTENSIONS, image_files, pictures_at
from sp_edge.pictures import load_image


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
        Image.new("RGB", (5, 4)).save(path)
        assert load_image(path).shape == (4, 5, 3)
    assert len(image_files(tmp_path)) == len(EXTENSIONS)
    assert {".jfif", ".jpe"} < EXTENSIONS, "browsers save JPEG under them"
