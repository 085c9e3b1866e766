import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import toy
from sp_edge.errors import SourceError
from sp_edge_runtime.sinks.video import VideoSink
from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.sources.frames import VideoFrame
from sp_edge_runtime.streams.result import FrameResult


@pytest.mark.parametrize("name", ["out.mp4", "out.webm", "OUT.MP4"])
def test_video(found: list[FrameResult], tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    sink = VideoSink(path, fps=12)
    for number, colour in enumerate(toy.COLOURS):
        sink.write(FrameResult(VideoFrame(toy.picture(colour, side=160), number, 0.0), found[0].prediction, 0.0))
    assert not path.exists()
    sink.close()
    sink.close()
    assert [p.name for p in tmp_path.iterdir()] == [name]
    with open_source(str(path)) as source:
        assert source.fps == pytest.approx(12)
        frames = [frame.image_rgb for frame in source]
    assert [frame.shape for frame in frames] == [(160, 160, 3)] * 3
    for frame, rgb in zip(frames, toy.COLOURS.values(), strict=True):
        np.testing.assert_allclose(frame[:60].mean(axis=(0, 1)), rgb, atol=25)
        assert frame[-60:].mean() < frame[:60].mean()  # the band is drawn over the foot


def test_a_video_of_frames_of_different_sizes(found: list[FrameResult], tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4", fps=5)
    for side in (64, 200, 32):
        frame = VideoFrame(toy.picture("red", side=side), 0, 0.0)
        sink.write(FrameResult(frame, found[0].prediction, 0.0))
    sink.close()
    with open_source(str(tmp_path / "out.mp4")) as source:
        assert [frame.image_rgb.shape for frame in source] == [(64, 64, 3)] * 3


def test_a_video_without_frames_is_no_file(tmp_path: Path) -> None:
    VideoSink(tmp_path / "out.mp4", fps=5).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "fps"), [("out.avi", 5.0), ("out", 5.0), ("out.mp4", 0.0), ("out.mp4", float("nan"))])
def test_videos_that_cannot_be(tmp_path: Path, name: str, fps: float) -> None:
    with pytest.raises(SourceError, match="no such video"):
        VideoSink(tmp_path / name, fps)


def test_a_video_in_a_folder_that_cannot_be(found: list[FrameResult], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    sink = VideoSink(tmp_path / "file" / "out.mp4", 5)
    with pytest.raises(SourceError, match="cannot write"):
        sink.write(found[0])
    sink.close()


class DeafWriter:
    """Stands for a cv2.VideoWriter that does not open, or opens and writes nothing."""

    opens = False

    def __init__(self, *_: object) -> None:
        pass

    def isOpened(self) -> bool:  # noqa: N802
        return self.opens

    def write(self, _: np.ndarray) -> None:
        pass

    def release(self) -> None:
        pass


def test_no_encoder_opens(found: list[FrameResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cv2.VideoWriter", DeafWriter)
    sink = VideoSink(tmp_path / "out.webm", 5)
    with pytest.raises(SourceError, match="VP80 or VP90"):
        sink.write(found[0])
    sink.close()
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_writes_nothing(found: list[FrameResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cv2.VideoWriter", DeafWriter)
    monkeypatch.setattr(DeafWriter, "opens", True)
    sink = VideoSink(tmp_path / "out.mp4", 5)
    sink.write(found[0])
    with pytest.raises(SourceError, match="was not written"):
        sink.close()
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_the_stream_keeps_the_video_up_to_it(found: list[FrameResult], tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4", 5)
    try:
        for result in found[:4]:
            sink.write(result)
    finally:
        sink.close()
    with open_source(str(tmp_path / "out.mp4")) as source:
        assert len(list(source)) == 4


def test_a_video_that_a_full_disk_cut_short(found: list[FrameResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "short.webm"
    sink = VideoSink(path, 10)
    for result in found:
        sink.write(result)

    class Short:
        """Stands for a writer whose last writes failed, of which OpenCV says nothing."""

        def __init__(self, writer: Any) -> None:
            self.writer = writer

        def release(self) -> None:
            self.writer.release()
            # In front of the cues and the length, which are written last, when there is no more room.
            content = sink._temporary.read_bytes()
            sink._temporary.write_bytes(content[: content.rindex(bytes.fromhex("1c53bb6b"))].replace(b"\x44\x89", b"\xec\x89"))

    sink._writer = Short(sink._writer)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(SourceError, match="not complete"):
        sink.close()
    assert path.exists(), "it can be played as far as it goes"
