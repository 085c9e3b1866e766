"""Videos as ffmpeg, phones and recorders write them: every frame, in order, at its time, upright and in its colours."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import videos
from sp_edge.errors import SourceError
from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.sources.options import SourceOptions
from sp_edge_runtime.sources.process import CaptureFailedError, CaptureProcess
from sp_edge_runtime.sources.recorded import VideoFileSource
from sp_edge_runtime.sources.request import CaptureRequest
from videos import COUNT, RATE, cut, held, make, number_in

cv2 = pytest.importorskip("cv2")

PLANAR = ("-pix_fmt", "yuv420p")
H264 = ("-c:v", "libx264", *PLANAR)
# B-frames are stored in another order than they are shown in; x264 makes none of pictures that change so abruptly unless told.
REORDERED = (*H264, "-bf", "3", "-b_strategy", "0")
NOISY = ("-vf", "noise=alls=20:allf=t", "-g", "6")  # so that a share of the bytes is a share of the frames


def frames_of(path: Path) -> tuple[list[int], np.ndarray]:
    """The numbers that a video's frames show, and their times from the first on; checks what else goes for every video."""
    with open_source(str(path)) as source:
        frames = list(source)
    assert [frame.frame_id for frame in frames] == list(range(len(frames)))
    assert all(frame.image_rgb.flags.c_contiguous for frame in frames)
    times = np.array([frame.timestamp for frame in frames])
    return [number_in(frame.image_rgb) for frame in frames], times - times[0]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("h264.mp4", REORDERED),
        ("h264.mkv", REORDERED),
        ("h264.ts", REORDERED),
        ("h264.avi", REORDERED),
        ("h265.mp4", ("-c:v", "libx265", "-x265-params", "log-level=error", *PLANAR)),
        ("mpeg4.avi", ("-c:v", "mpeg4", "-q:v", "2", "-bf", "2", *PLANAR)),
        ("mjpeg.avi", ("-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p")),
        ("vp9.webm", ("-c:v", "libvpx-vp9", "-b:v", "1M", "-deadline", "realtime", *PLANAR)),
        ("ten bits.mp4", ("-c:v", "libx264", "-pix_fmt", "yuv420p10le")),
        ("every colour.mp4", ("-c:v", "libx264", "-pix_fmt", "yuv444p")),
        ("fragments.mp4", (*REORDERED, "-g", "8", "-movflags", "frag_keyframe+empty_moov")),
        ("begins late.mkv", (*REORDERED, "-output_ts_offset", "3")),
        ("two frames.mp4", H264),
        ("one frame.mp4", H264),
    ],
)
def test_every_frame_in_order_and_at_its_time(name: str, options: tuple[str, ...], tmp_path: Path) -> None:
    count = {"two frames.mp4": 2, "one frame.mp4": 1}.get(name, COUNT)
    numbers, times = frames_of(make(tmp_path / name, *options, count=count))
    assert numbers == list(range(count))
    np.testing.assert_allclose(times, np.arange(count) / RATE, atol=0.002)  # some containers count milliseconds


def test_a_stream_without_a_container_has_its_rate_for_a_clock(tmp_path: Path) -> None:
    path = make(tmp_path / "raw.h264", *REORDERED)
    numbers, times = frames_of(path)
    assert numbers == list(range(COUNT))
    fps = VideoFileSource(path).fps
    assert fps is not None
    np.testing.assert_allclose(times, np.arange(COUNT) / fps, atol=1e-9)
    with VideoFileSource(path, SourceOptions(vid_stride=5)) as source:
        np.testing.assert_allclose([frame.timestamp for frame in source], np.arange(0, COUNT, 5) / fps, atol=1e-9)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_a_frame_rate_that_changes(name: str, tmp_path: Path) -> None:
    slower = "setpts='if(lt(N,12),N,12+(N-12)*4)/12/TB'"
    numbers, times = frames_of(make(tmp_path / name, *REORDERED, "-vf", slower, "-vsync", "vfr"))
    assert numbers == list(range(COUNT))
    np.testing.assert_allclose(times, [n / 12 if n < 12 else (12 + (n - 12) * 4) / 12 for n in range(COUNT)], atol=0.002)


@pytest.mark.parametrize(
    ("matrix", "extent", "layout"), [("bt601", "tv", "yuv420p"), ("bt709", "tv", "yuv420p"), ("bt709", "pc", "yuvj420p")]
)
def test_colours_are_those_that_were_filmed(matrix: str, extent: str, layout: str, tmp_path: Path) -> None:
    tags = ("-colorspace", {"bt601": "smpte170m", "bt709": "bt709"}[matrix], "-color_range", extent)
    path = make(
        tmp_path / "clip.mp4",
        *("-c:v", "libx264", "-qp", "10", "-vf", f"scale=out_color_matrix={matrix}:out_range={extent}", "-pix_fmt", layout),
        *tags,
    )
    with open_source(str(path)) as source:
        # By the other matrix the red would be off by up to 20.
        assert [number_in(frame.image_rgb, tolerance=4) for frame in source] == list(range(COUNT))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("every colour.mp4", ("-c:v", "libx264", "-pix_fmt", "yuv444p")),
        ("mjpeg.avi", ("-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p")),
        ("vp9.webm", ("-c:v", "libvpx-vp9", "-b:v", "1M", "-deadline", "realtime", *PLANAR)),
    ],
)
def test_odd_sizes(name: str, options: tuple[str, ...], tmp_path: Path) -> None:
    path = make(tmp_path / name, *options, count=3, size_wh=(321, 241))
    with open_source(str(path)) as source:
        frames = list(source)
    assert {frame.image_rgb.shape for frame in frames} == {(241, 321, 3)}
    assert [number_in(frame.image_rgb) for frame in frames] == [0, 1, 2]


def through_gstreamer(path: Path) -> np.ndarray:
    """The last frame of a file's pipeline: others may be dropped, as of every live source."""
    with open_source(f"filesrc location={path} ! decodebin ! appsink") as source:
        return list(source)[-1].image_rgb


@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
def test_what_a_phone_filmed_is_upright(quarter_turns: int, tmp_path: Path) -> None:
    # Stored the other way round, so that turning it makes it upright.
    stored = ("null", "transpose=cclock", "hflip,vflip", "transpose=clock")[quarter_turns]
    path = held(make(tmp_path / "clip.mp4", *REORDERED, "-vf", stored), quarter_turns)
    with open_source(str(path)) as source:
        frames = list(source)
    assert {frame.image_rgb.shape for frame in frames} == {(64, 96, 3)}
    assert [number_in(frame.image_rgb) for frame in frames] == list(range(COUNT))


@pytest.mark.usefixtures("pygobject")
@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_what_a_phone_filmed_is_upright_through_gstreamer(quarter_turns: int, tmp_path: Path) -> None:
    stored = (None, "transpose=cclock", "hflip,vflip", "transpose=clock")[quarter_turns]
    path = held(make(tmp_path / "clip.mp4", *REORDERED, "-vf", str(stored)), quarter_turns)
    image_rgb = through_gstreamer(path)
    assert image_rgb.shape == (64, 96, 3)
    assert number_in(image_rgb) == COUNT - 1


@pytest.mark.parametrize(("shape", "width"), [("4/3", 128), ("3/4", 72)])
def test_pixels_that_are_not_square(shape: str, width: int, tmp_path: Path) -> None:
    path = make(tmp_path / "clip.mp4", *H264, "-vf", f"setsar={shape}")
    with open_source(str(path)) as source:
        frames = list(source)
    assert {frame.image_rgb.shape for frame in frames} == {(64, width, 3)}
    assert [number_in(frame.image_rgb) for frame in frames] == list(range(COUNT))


@pytest.mark.usefixtures("pygobject")
def test_pixels_that_are_not_square_through_gstreamer(tmp_path: Path) -> None:
    image_rgb = through_gstreamer(make(tmp_path / "clip.mp4", *H264, "-vf", "setsar=3/4"))
    assert image_rgb.shape == (64, 72, 3)
    assert number_in(image_rgb) == COUNT - 1


def test_narrow_pixels_of_a_phone_that_was_held_upright(tmp_path: Path) -> None:
    # Stored 64 wide and 96 high, each pixel three by four; shown 96 wide and 64 high, each four by three.
    path = held(make(tmp_path / "clip.mp4", *H264, "-vf", "transpose=cclock,setsar=3/4"), 1)
    with open_source(str(path)) as source:
        assert {frame.image_rgb.shape for frame in source} == {(64, 128, 3)}


def test_sound_that_comes_before_the_pictures(tmp_path: Path) -> None:
    tone = ("-f", "lavfi", "-i", "sine=duration=2")
    path = make(tmp_path / "clip.mp4", "-map", "0:a", "-map", "1:v", *REORDERED, before=tone)
    assert frames_of(path)[0] == list(range(COUNT))


@pytest.mark.parametrize("name", ["clip.mkv", "clip.avi", "clip.mp4"])
def test_a_recording_that_breaks_off(name: str, tmp_path: Path) -> None:
    header_first = ("-movflags", "faststart") if name == "clip.mp4" else ()
    path = cut(make(tmp_path / name, *H264, *NOISY, *header_first, size_wh=(192, 128)), 0.7)
    numbers, _ = frames_of(path)
    assert 5 < len(numbers) < COUNT
    assert numbers == list(range(len(numbers)))


def test_a_recording_that_begins_between_two_key_frames(tmp_path: Path) -> None:
    path = make(tmp_path / "raw.h264", *H264, "-g", "8", "-bf", "0", "-x264-params", "scenecut=0:repeat-headers=1")
    units = path.read_bytes().split(b"\0\0\1")
    pictures = [place for place, unit in enumerate(units) if unit and unit[0] & 0x1F in (1, 5)]
    path.write_bytes(b"\0\0\1".join([b"", *units[pictures[3] :]]))
    assert frames_of(path)[0] == list(range(8, COUNT))


INTERLACED = [
    ("h264.mp4", ("-c:v", "libx264", "-x264-params", "interlaced=1", *PLANAR)),
    ("mpeg2.ts", ("-c:v", "mpeg2video", "-q:v", "2", "-flags", "+ilme+ildct", "-r", "25", *PLANAR)),
]


# OpenCV from 4.13 on gives what lay in memory for an interlaced frame, and says that all is well.
SHOWS_INTERLACED = tuple(int(part) for part in cv2.__version__.split(".")[:2]) < (4, 13)


@pytest.mark.parametrize(("name", "options"), INTERLACED)
def test_interlaced_video_is_shown_or_refused(name: str, options: tuple[str, ...], tmp_path: Path) -> None:
    path = make(tmp_path / f"mother's {name}", *options)
    if SHOWS_INTERLACED:
        with open_source(str(path)) as source:
            assert sorted({number_in(frame.image_rgb) for frame in source}) == list(range(COUNT))
        return
    with pytest.raises(SourceError, match="is interlaced") as caught:
        open_source(str(path))
    assert f"ffmpeg -i {shlex.quote(str(path))} -vf yadif" in caught.value.next_step


@pytest.mark.skipif(SHOWS_INTERLACED, reason="this OpenCV shows interlaced video")
@pytest.mark.parametrize("choice", ["OPENCV_FFMPEG_DEBUG", "OPENCV_FFMPEG_LOGLEVEL"])
def test_interlaced_video_is_refused_whatever_ffmpeg_is_to_say(choice: str, tmp_path: Path) -> None:
    # OpenCV looks at it when it is first used, so in this process it may be too late.
    path = make(tmp_path / "h264.mp4", *INTERLACED[0][1])
    said = "from sp_edge_runtime.sources.camera import open_source; open_source({!r})"
    ran = subprocess.run(
        [sys.executable, "-c", said.format(str(path))],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), choice: "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "is interlaced" in ran.stderr


@pytest.mark.skipif(SHOWS_INTERLACED, reason="this OpenCV shows interlaced video")
@pytest.mark.parametrize(("name", "options"), INTERLACED)
def test_an_interlaced_stream_is_refused_for_good(name: str, options: tuple[str, ...], tmp_path: Path) -> None:
    process = CaptureProcess(CaptureRequest("stream", str(make(tmp_path / name, *options))))
    try:
        process.open()
        with pytest.raises(CaptureFailedError, match="is interlaced") as caught:
            process.read()
    finally:
        process.release()
    assert caught.value.fatal
    assert "deinterlace" in caught.value.next_step


@pytest.mark.usefixtures("pygobject")
def test_interlaced_video_through_gstreamer(tmp_path: Path) -> None:
    name, options = INTERLACED[0]
    assert number_in(through_gstreamer(make(tmp_path / name, *options))) == COUNT - 1


def test_a_video_that_stands_still_is_one(tmp_path: Path) -> None:
    path = make(tmp_path / "still.mp4", *H264, "-vf", "loop=40:1:0,setpts=N/12/TB", count=2)
    assert frames_of(path)[0] == [0] * 41 + [1]


def test_files_that_hold_no_video(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sound = tmp_path / "sound.mp4"
    videos.run_ffmpeg("-f", "lavfi", "-i", "sine=duration=1", str(sound))
    # An MP4 says at its end what is in it.
    endless = cut(make(tmp_path / "endless.mp4", *H264), 0.7)
    for path in (sound, endless):
        with pytest.raises(SourceError, match="is no video"):
            open_source(str(path))
    headless = cut(make(tmp_path / "headless.mkv", *H264), 0.1)
    with pytest.raises(SourceError, match=r"headless\.mkv"):
        open_source(str(headless))
    assert capfd.readouterr() == ("", "")
