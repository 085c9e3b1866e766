import itertools
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import toy
from sp_edge.errors import SourceError
from sp_edge_runtime.sources.options import SourceOptions
from sp_edge_runtime.sources.recorded import VideoFileSource

pytest.importorskip("av")


def colour(image_rgb: np.ndarray) -> str:
    mean = image_rgb.mean(axis=(0, 1))
    return min(toy.COLOURS, key=lambda name: np.abs(mean - toy.COLOURS[name]).sum())


def test_every_frame_of_a_video_in_order_in_rgb(toy_video: Path) -> None:
    with VideoFileSource(toy_video) as source:
        assert (source.live, source.fps, source.dropped) == (False, 10.0, 0)
        frames = list(source)
    assert [frame.frame_id for frame in frames] == list(range(9))
    assert [colour(frame.image_rgb) for frame in frames] == ["red"] * 3 + ["green"] * 3 + ["blue"] * 3
    np.testing.assert_allclose([frame.timestamp for frame in frames], np.arange(9) / 10, atol=1e-6)
    assert all(frame.image_rgb.dtype == np.uint8 and frame.image_rgb.shape == (48, 64, 3) for frame in frames)
    assert not np.shares_memory(frames[0].image_rgb, frames[1].image_rgb)


def test_a_video_can_be_read_twice(toy_video: Path) -> None:
    with VideoFileSource(toy_video, SourceOptions(vid_stride=3)) as source:
        assert [f.frame_id for f in source] == [f.frame_id for f in source] == [0, 3, 6]


def test_loop_counts_on_and_begins_each_lap_at_the_first_frame(toy_video: Path) -> None:
    with VideoFileSource(toy_video, SourceOptions(vid_stride=4, loop=True)) as source:
        frames = list(itertools.islice(source, 5))
    assert [frame.frame_id for frame in frames] == [0, 4, 8, 9, 13]
    assert [round(frame.timestamp, 3) for frame in frames] == [0, 0.4, 0.8, 0, 0.4]


def test_closing_ends_the_iteration(toy_video: Path) -> None:
    source = VideoFileSource(toy_video, SourceOptions(loop=True))
    frames = iter(source)
    next(frames)
    source.close()
    source.close()
    assert next(frames, None) is None


@pytest.mark.skipif(sys.platform != "linux", reason="counts the files under /proc")
def test_the_file_is_given_back_when_the_iteration_stops(toy_video: Path) -> None:
    descriptors = Path("/proc/self/fd")

    def opened() -> int:
        return sum(fd.resolve() == toy_video.resolve() for fd in descriptors.iterdir())

    source = VideoFileSource(toy_video)
    assert opened() == 0
    frames = iter(source)
    next(frames)
    assert opened() == 1
    del frames
    assert opened() == 0


@pytest.mark.parametrize("content", [b"", b"not a video" * 100])
def test_a_file_that_is_no_video(tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"clip\.mp4 is no video") as caught:
        VideoFileSource(path)
    assert "ffmpeg" in caught.value.next_step
    assert capfd.readouterr() == ("", "")


def test_a_looped_video_that_has_become_empty(toy_video: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(toy_video, tmp_path))
    frames = iter(VideoFileSource(path, SourceOptions(loop=True)))
    next(frames)
    path.write_bytes(b"")
    with pytest.raises(SourceError, match="is no video"):
        list(itertools.islice(frames, 20))
