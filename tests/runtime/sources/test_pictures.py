import itertools
import logging
import shutil
from pathlib import Path

import pytest
from PIL import Image

from sp_edge_runtime.sources.options import SourceOptions
from sp_edge_runtime.sources.pictures import PictureSource


def test_loop_counts_on(toy_pictures: Path) -> None:
    paths = sorted(toy_pictures.glob("*.png"))
    with PictureSource(paths, "shots", SourceOptions(vid_stride=2, loop=True)) as pictures:
        frames = list(itertools.islice(pictures, 4))
    assert [frame.frame_id for frame in frames] == [0, 2, 3, 5]
    assert [frame.image_rgb.mean(axis=(0, 1)).argmax() for frame in frames] == [0, 2, 0, 2]
    assert {frame.timestamp for frame in frames} == {0.0}


def test_closing_ends_the_iteration(toy_pictures: Path) -> None:
    source = PictureSource(sorted(toy_pictures.glob("*.png")), "shots", SourceOptions(loop=True))
    frames = iter(source)
    next(frames)
    source.close()
    assert next(frames, None) is None


def test_pictures_may_differ_in_size(tmp_path: Path) -> None:
    for name, size in (("a", (7, 5)), ("b", (6, 8))):
        Image.new("L", size).save(tmp_path / f"{name}.png")
    shapes = [frame.image_rgb.shape for frame in PictureSource(sorted(tmp_path.iterdir()), "shots")]
    assert shapes == [(5, 7, 3), (8, 6, 3)]


def test_pictures_that_cannot_be_read_are_passed_over_and_named_once(
    toy_pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [tmp_path / name for name in ("a.png", "b.png", "c.png", "d.png")]
    shutil.copy(toy_pictures / "0 red.png", paths[0])
    paths[1].write_bytes(paths[0].read_bytes()[:100])
    shutil.copy(toy_pictures / "2 blue.png", paths[3])  # nothing is at c.png
    source = PictureSource(paths, "shots", SourceOptions(loop=True))
    with caplog.at_level(logging.WARNING):
        frames = list(itertools.islice(source, 4))
    assert [frame.frame_id for frame in frames] == [0, 3, 4, 7]
    assert list(source.unreadable) == [str(paths[1]), str(paths[2])]
    assert [Path(record.getMessage().split(": ")[0]).name for record in caplog.records] == ["b.png", "c.png"]


def test_pictures_none_of_which_can_be_read_end(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    source = PictureSource([tmp_path / "a.png"], "shots", SourceOptions(loop=True))
    assert list(source) == []
    assert len(source.unreadable) == 1
