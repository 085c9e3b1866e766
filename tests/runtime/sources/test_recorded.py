import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

import toy
from sp_edge.errors import SourceError
from sp_edge_runtime.sources.options import SourceOptions
from sp_edge_runtime.sources.recorded import VideoFileSource

pytest.importorskip("cv2")


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


class Clip:
    """Stands for cv2.VideoCapture: frames, of which some do not decode."""

    def __init__(self, frames: list[np.ndarray | None]) -> None:
        self.frames, self.at, self.released = frames, -1, False

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def grab(self) -> bool:
        self.at += 1
        return self.at < len(self.frames)

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        return self.frames[self.at] is not None, self.frames[self.at]

    def get(self, _: int) -> float:
        return 0.0

    def release(self) -> None:
        self.released = True


def clips(monkeypatch: pytest.MonkeyPatch, *opened: Clip) -> None:
    remaining = list(opened)
    monkeypatch.setattr("cv2.VideoCapture", lambda _: remaining.pop(0))


PLAIN = np.zeros((4, 5, 3), np.uint8)


def test_a_video_that_ends_before_its_first_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = Clip([])
    clips(monkeypatch, empty)
    with pytest.raises(SourceError, match="before its first frame"):
        VideoFileSource(Path("clip.mp4"))
    assert empty.released


def test_a_video_that_claims_no_frame_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    clips(monkeypatch, Clip([PLAIN]))
    assert VideoFileSource(Path("clip.mp4")).fps is None


@pytest.mark.parametrize("bad", [None, np.zeros((4, 5), np.uint8), np.zeros((4, 5, 3), np.uint16)])
def test_a_frame_that_cannot_be_used_is_an_error_and_no_frame(monkeypatch: pytest.MonkeyPatch, bad: np.ndarray | None) -> None:
    clip = Clip([PLAIN, bad, PLAIN])
    clips(monkeypatch, Clip([PLAIN]), clip)
    frames = iter(VideoFileSource(Path("clip.mp4")))
    next(frames)
    with pytest.raises(SourceError, match=r"damaged|not supported"):
        next(frames)
    assert clip.released


def test_a_looped_video_that_has_become_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    clips(monkeypatch, Clip([PLAIN]), Clip([PLAIN]), Clip([]))
    frames = iter(VideoFileSource(Path("clip.mp4"), SourceOptions(loop=True)))
    next(frames)
    with pytest.raises(SourceError, match="no frames any more"):
        next(frames)
