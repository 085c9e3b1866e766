from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from sp_edge.errors import DataError, ImageError
from sp_edge.picture_files import EXTENSIONS, Found, chosen, pictures_at, pictures_in, pictures_of_class, why_not
from sp_edge.pictures import load_image

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
VIDEO = b"\0\0\0\x18ftypisom\0\0\x02\0isomavc1"


def picture(path: Path, form: str = "PNG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (5, 4)).save(path, form)
    return path


def names(found: Found, root: Path) -> list[str]:
    return [file.relative_to(root).as_posix() for file in found.files]


def test_pictures_are_known_by_their_content_and_sorted(tmp_path: Path) -> None:
    for name, form in {"z.JPG": "JPEG", "photo": "JPEG", "b.avif": "AVIF", "a.data": "WEBP", "c.jfif": "JPEG"}.items():
        picture(tmp_path / name, form)
    found = pictures_in(tmp_path)
    assert names(found, tmp_path) == ["a.data", "b.avif", "c.jfif", "photo", "z.JPG"]
    assert found.told("here") == ""
    for file in found.files:
        assert load_image(file).shape == (4, 5, 3)


def test_what_is_left_out_is_counted_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    picture(tmp_path / "a.png")
    for name in ("one.heic", "two.HEIC"):
        (tmp_path / name).write_bytes(HEIC)
    (tmp_path / "clip.mp4").write_bytes(VIDEO)
    picture(tmp_path / "raw.dng", "TIFF")
    for name in (".hidden.png", "Thumbs.db", ".DS_Store", "labels.csv", "labels.txt", "manifest.json", "empty"):
        (tmp_path / name).write_bytes(b"P5, BM and so on" if name != "empty" else b"")
    found = pictures_in(tmp_path)
    assert names(found, tmp_path) == ["a.png"]
    assert {file.name: why for file, why in found.left_out.items()} == {
        "clip.mp4": "video",
        "one.heic": "HEIC (pip install pillow-heif reads it)",
        "raw.dng": "raw",
        "two.HEIC": "HEIC (pip install pillow-heif reads it)",
    }
    assert found.told("shots") == (
        f"shots: 1 picture; left out 1 as video (such as {tmp_path}/clip.mp4), "
        f"2 as HEIC (pip install pillow-heif reads it) (such as {tmp_path}/one.heic), 1 as raw (such as {tmp_path}/raw.dng); "
        "passed over 7 other files"
    )


def test_heic_is_taken_where_the_package_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: object())
    (tmp_path / "one.heic").write_bytes(HEIC)
    assert names(pictures_in(tmp_path), tmp_path) == ["one.heic"]


def test_a_file_that_is_called_like_a_picture_is_missed_where_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "cut.jpg").write_bytes(b"")
    (tmp_path / "broken.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "notes").symlink_to(tmp_path / "nowhere")
    found = pictures_in(tmp_path)
    assert names(found, tmp_path) == ["broken.png", "cut.jpg"]
    assert found.passed == 1
    with pytest.raises(ImageError, match=r"broken\.png"):
        load_image(tmp_path / "broken.png")


def test_folders_below_are_read_but_for_those_of_the_system(tmp_path: Path) -> None:
    for name in ("b.png", "2024/a.png", "2024/june/c.png", "g.png/h.png"):
        picture(tmp_path / name)
    for name in ("__MACOSX", "@eaDir", ".thumbnails"):
        picture(tmp_path / name / "d.png")
    found = pictures_in(tmp_path)
    assert names(found, tmp_path) == ["b.png", "2024/a.png", "2024/june/c.png", "g.png/h.png"]
    assert found.told("mug") == "mug: 4 pictures (3 in folders below)"
    assert found.told(*"abcde") == "a b c and 2 more: 4 pictures (3 in folders below)"
    assert names(pictures_in(tmp_path, deep=False), tmp_path) == ["b.png"]


def test_linked_folders_are_read_once(tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere" / "a.png")
    folder = tmp_path / "mug"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(folder)
    assert names(pictures_in(folder), folder) == ["link/a.png"]


def test_what_is_no_file_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.png")
    assert pictures_in(tmp_path) == Found(passed=2)


def test_what_may_not_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photo").write_bytes(HEIC)

    def deny(self: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", deny)
    assert list(pictures_in(tmp_path).left_out.values()) == ["unreadable"]


def test_pictures_are_named_one_by_one_or_by_their_folder(tmp_path: Path) -> None:
    lone = tmp_path / "lone.data"
    lone.write_bytes(b"")
    folder = tmp_path / "folder"
    files = [picture(folder / "a.jpg", "JPEG"), picture(folder / "b.png")]
    (folder / "notes.txt").write_bytes(b"")
    found = pictures_at([lone, folder])
    assert found == Found((lone, *files), passed=1)
    assert chosen([lone, *files]).files == tuple(files)
    assert [why_not(file) for file in (lone, *files)] == ["", None, None]


def test_pictures_that_are_not_there_are_a_data_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    picture(tmp_path / "one.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "photo.heic").write_bytes(HEIC)
    with pytest.raises(DataError, match=r"nothing at .*missing\.png"):
        pictures_at([tmp_path, tmp_path / "missing.png"])
    with pytest.raises(DataError, match="no pictures were named"):
        pictures_at([])
    with pytest.raises(DataError, match=r"no pictures in .*empty") as raised:
        pictures_at([tmp_path / "one.png", tmp_path / "empty"])
    assert "1 as HEIC" in raised.value.got
    assert raised.value.next_step == "pip install pillow-heif"


def test_a_class_may_lie_deeper_but_not_in_several_folders_that_may_be_classes(tmp_path: Path) -> None:
    picture(tmp_path / "mug" / "images" / "a.png")
    assert names(pictures_of_class(tmp_path / "mug", ""), tmp_path) == ["mug/images/a.png"]
    assert pictures_of_class(tmp_path / "mug" / "images", "").deeper == 0
    with pytest.raises(DataError, match="and no picture itself"):
        pictures_of_class(tmp_path / "mug", "", most=0)
    picture(tmp_path / "cup" / "b.png")
    with pytest.raises(DataError, match="holds folders with pictures, and no picture itself") as raised:
        pictures_of_class(tmp_path, "do that")
    assert (raised.value.got, raised.value.next_step) == ("pictures in cup, mug", "do that")
    for number in range(4):
        picture(tmp_path / f"bowl {number}" / "d.png")
    with pytest.raises(DataError) as raised:
        pictures_of_class(tmp_path, "")
    assert raised.value.got == "pictures in bowl 0, bowl 1, bowl 2, bowl 3, cup and 1 more"
    picture(tmp_path / "c.png")
    assert len(pictures_of_class(tmp_path, "").files) == 7


def test_every_extension_can_be_read(tmp_path: Path) -> None:
    for extension in EXTENSIONS:
        path = tmp_path / f"a{extension}"
        Image.new("L" if extension == ".pgm" else "RGB", (5, 4)).save(path)
        assert load_image(path).shape == (4, 5, 3)
    assert len(pictures_in(tmp_path).files) == len(EXTENSIONS)
    assert {".jfif", ".jpe"} < EXTENSIONS, "browsers save JPEG under them"
