import shutil
import sys
from pathlib import Path

import pytest

from sp_edge.errors import SourceError
from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.sources.files import may_be_new
from sp_edge_runtime.sources.options import SourceOptions
from sp_edge_runtime.sources.pictures import PictureSource
from sp_edge_runtime.sources.recorded import VideoFileSource


def test_a_folder(toy_pictures: Path) -> None:
    with open_source(str(toy_pictures)) as source:
        assert isinstance(source, PictureSource)
        assert (source.live, source.fps, source.name, source.dropped) == (False, None, str(toy_pictures), 0)
        assert [frame.frame_id for frame in source] == [0, 1, 2]


def test_one_picture(toy_pictures: Path) -> None:
    with open_source(str(toy_pictures / "1 green.png")) as source:
        frames = list(source)
    assert len(frames) == 1
    assert frames[0].image_rgb.mean(axis=(0, 1)).argmax() == 1


def test_a_glob_takes_its_pictures_sorted(toy_pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_source(f"{toy_pictures}/*") as source:
        assert [frame.image_rgb.mean(axis=(0, 1)).argmax() for frame in source] == [0, 1, 2]
    monkeypatch.chdir(toy_pictures.parent)
    with open_source(f"{toy_pictures.name}/**/[12]*.png") as source:
        assert [frame.image_rgb.mean(axis=(0, 1)).argmax() for frame in source] == [1, 2]


def test_a_file_whose_name_looks_like_a_glob_or_a_camera(
    toy_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(toy_pictures / "0 red.png", tmp_path / "[1]*.png")
    shutil.copytree(toy_pictures, tmp_path / "0")
    monkeypatch.chdir(tmp_path)
    with open_source("[1]*.png") as source:
        assert len(list(source)) == 1
    for text in ("./0", Path("0")):
        with open_source(text) as source:
            assert len(list(source)) == 3


def test_a_video(toy_video: Path) -> None:
    with open_source(toy_video, SourceOptions(vid_stride=4)) as source:
        assert isinstance(source, VideoFileSource)
        assert [frame.frame_id for frame in source] == [0, 4, 8]


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no source at"):
        open_source(str(tmp_path / "nothing.mp4"))
    with pytest.raises(SourceError, match="no pictures in"):
        open_source(str(tmp_path))
    (tmp_path / "notes.txt").write_text("hello")
    for text in (tmp_path, tmp_path / "*", tmp_path / "*.png"):
        with pytest.raises(SourceError, match="no pictures in"):
            open_source(str(text))


def test_a_name_that_is_too_long() -> None:
    with pytest.raises(SourceError, match="cannot look up"):
        open_source("x" * 5000)


def test_what_may_be_a_file_that_is_yet_to_be_written(tmp_path: Path) -> None:
    assert may_be_new(str(tmp_path / "out.mp4"))
    assert not may_be_new(str(tmp_path))
    assert not may_be_new(str(tmp_path / "*.mp4"))


def test_pictures_are_known_by_their_content(toy_pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "below").mkdir()
    shutil.copy(toy_pictures / "0 red.png", tmp_path / "photo")
    shutil.copy(toy_pictures / "1 green.png", tmp_path / "below" / "photo.data")
    (tmp_path / "clip.mov").write_bytes(b"\0\0\0\x14ftypqt  \0\0\0\0qt  ")
    with caplog.at_level("INFO"), open_source(tmp_path) as source:
        assert [frame.image_rgb.mean(axis=(0, 1)).argmax() for frame in source] == [0, 1]
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path}: 2 pictures (1 in folders below); left out 1 as video")
    with open_source(tmp_path / "photo") as source:
        assert isinstance(source, PictureSource)
    with open_source(f"{tmp_path}/p*") as source:
        assert len(list(source)) == 1
    shutil.copy(toy_pictures / "0 red.png", tmp_path / ".hidden.png")
    with open_source(tmp_path / ".hidden.png") as source:
        assert len(list(source)) == 1, "what is named is taken"


def test_a_picture_of_a_kind_that_is_not_read_is_no_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(SourceError, match=r"cannot read .*a\.heic") as raised:
        open_source(tmp_path / "a.heic")
    assert "pip install pillow-heif" in raised.value.got
