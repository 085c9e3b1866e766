import resource
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import toy
from sp_edge.errors import MissingExtraError, SourceError
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.sinks import video
from sp_edge_runtime.sinks.video import VideoSink, _fitted, _moved
from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.sources.frames import VideoFrame
from sp_edge_runtime.sources.options import SourceOptions
from sp_edge_runtime.streams.result import FrameResult
from sp_edge_runtime.streams.stream import run_stream

av = pytest.importorskip("av")


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
        times, frames = zip(*((frame.timestamp, frame.image_rgb) for frame in source), strict=True)
    np.testing.assert_allclose(times, [0, 1 / 12, 2 / 12], atol=0.001)
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


def shown(path: Path) -> tuple[list[float], float]:
    """When a video's frames are shown, and how long it plays, seconds."""
    with av.open(str(path)) as opened:
        times = [round(float(frame.time), 3) for frame in opened.decode(video=0)]
        return times, opened.duration / 1e6


def write(path: Path, result: FrameResult, clocks: list[float | None], fps: float = 25) -> None:
    sink = VideoSink(path, fps)
    for clock in clocks:
        sink.write(replace(result, clock=clock))
    sink.close()


@pytest.mark.parametrize("name", ["out.mp4", "out.webm"])
def test_frames_are_shown_at_their_own_times(result: FrameResult, tmp_path: Path, name: str) -> None:
    """A camera at 4 a second of which some were dropped, whose rate is guessed as 25."""
    write(tmp_path / name, result, [1000.0, 1000.25, 1000.5, 1001.5, 1001.75])
    assert shown(tmp_path / name) == ([0, 0.25, 0.5, 1.5, 1.75], 2.0)


@pytest.mark.parametrize("name", ["out.mp4", "out.webm"])
def test_a_strided_video_plays_as_long_as_the_one_it_was_read_from(
    recognizer: Recognizer, toy_video: Path, tmp_path: Path, name: str
) -> None:
    with open_source(str(toy_video), SourceOptions(vid_stride=4)) as source:
        run_stream(recognizer, source, [VideoSink(tmp_path / name, source.fps or 25)])
    times, seconds = shown(tmp_path / name)
    assert times == [0, 0.4, 0.8]
    assert seconds == pytest.approx(1.2)


def test_frames_without_a_time_follow_at_the_rate(result: FrameResult, tmp_path: Path) -> None:
    write(tmp_path / "out.mp4", result, [None] * 4, fps=2)
    assert shown(tmp_path / "out.mp4") == ([0, 0.5, 1.0, 1.5], 2.0)


def test_a_file_that_begins_again_goes_on_in_the_video(result: FrameResult, tmp_path: Path) -> None:
    write(tmp_path / "out.mp4", result, [0.0, 0.1, 0.2, 0.0, 0.1, 0.2])
    assert shown(tmp_path / "out.mp4") == ([0, 0.1, 0.2, 0.3, 0.4, 0.5], 0.6)


def test_frames_at_nearly_one_moment_are_all_written(result: FrameResult, tmp_path: Path) -> None:
    write(tmp_path / "out.webm", result, [5.0, 5.00001, 5.00002, 6.0])
    assert shown(tmp_path / "out.webm")[0] == [0, 0.001, 0.002, 1.0]


@pytest.mark.parametrize("name", ["out.mp4", "out.webm"])
@pytest.mark.parametrize(("size_wh", "matrix"), [((1280, 720), 1), ((320, 240), 6)])
def test_colours_are_marked_as_they_are_written(
    result: FrameResult, tmp_path: Path, name: str, size_wh: tuple[int, int], matrix: int
) -> None:
    colour = (200, 40, 90)
    image_rgb = np.full((size_wh[1], size_wh[0], 3), colour, np.uint8)
    write(tmp_path / name, replace(result, frame=VideoFrame(image_rgb, 0, 0.0)), [0.0, 0.1])
    with av.open(str(tmp_path / name)) as opened:
        frame = next(opened.decode(video=0))
    assert (frame.colorspace, frame.color_range) == (matrix, 1), "BT.709 is 1, SMPTE 170M 6, limited range 1"
    decoded_rgb = frame.to_ndarray(format="rgb24")
    np.testing.assert_allclose(decoded_rgb[: size_wh[1] // 3].mean(axis=(0, 1)), colour, atol=5)


def test_a_frame_of_odd_sides(result: FrameResult, tmp_path: Path) -> None:
    write(tmp_path / "out.mp4", replace(result, frame=VideoFrame(toy.picture("red", side=61), 0, 0.0)), [0.0, 0.1])
    with open_source(str(tmp_path / "out.mp4")) as source:
        assert [frame.image_rgb.shape for frame in source] == [(62, 62, 3)] * 2


def test_a_name_with_a_colon(result: FrameResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("12:00.mp4"), result, [0.0, 0.1])
    assert [path.name for path in tmp_path.iterdir()] == ["12:00.mp4"]


def test_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match="writing a video needs PyAV"):
        VideoSink(tmp_path / "out.mp4", 25)


def test_without_an_encoder(result: FrameResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(video.CODECS, ".webm", ("no such encoder",))
    sink = VideoSink(tmp_path / "out.webm", 5)
    with pytest.raises(SourceError, match="no such encoder"):
        sink.write(result)
    sink.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.mp4", "out.webm"])
def test_a_full_disk_is_an_error_and_what_was_written_plays(result: FrameResult, tmp_path: Path, name: str) -> None:
    rng, path = np.random.default_rng(1), tmp_path / name
    sink, limits = VideoSink(path, 25), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, limits[1]))
    try:
        with pytest.raises(SourceError, match="not complete"):
            for number in range(1000):
                noise = VideoFrame(rng.integers(0, 255, (120, 160, 3), np.uint8), number, 0.0)
                sink.write(replace(result, frame=noise, clock=number / 25))
        sink.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with av.open(str(path)) as written:
        assert next(written.decode(video=0)).width == 160


@pytest.mark.parametrize("frames", [1, 100])  # of a hundred the header is written, and fails, before the end
@pytest.mark.parametrize("name", ["out.mp4", "out.webm"])
def test_a_disk_that_is_full_at_once_leaves_no_file(result: FrameResult, tmp_path: Path, name: str, frames: int) -> None:
    sink, limits = VideoSink(tmp_path / name, 25), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(SourceError, match=r"not complete|was not written"):
            try:
                for number in range(frames):
                    sink.write(replace(result, clock=number / 25))
            finally:
                sink.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
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


def test_the_frame_around_what_was_looked_at_moves_with_an_image_that_is_fitted() -> None:
    assert _moved((10, 20, 30, 40), (100, 100), (100, 100)) == (10, 20, 30, 40)
    assert _moved((10, 20, 30, 40), (100, 100), (400, 200)) == (120, 40, 60, 80)
    image = np.zeros((100, 300, 3), np.uint8)
    image[20:60, 90:150] = 255
    x, y, width, height = _moved((90, 20, 60, 40), (300, 100), (160, 120))
    bright = (_fitted(image, (160, 120)) > 127).all(axis=2)
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    np.testing.assert_allclose((rows[0], len(rows), columns[0], len(columns)), (y, height, x, width), atol=1)
