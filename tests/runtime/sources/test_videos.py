"""Videos as ffmpeg, phones and recorders write them: every frame, in order, at its time, upright and in its colours."""

from pathlib import Path

import numpy as np
import pytest

import videos
from sp_edge.errors import SourceError
from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.sources.options import SourceOptions
from sp_edge_runtime.sources.recorded import VideoFileSource
from videos import COUNT, RATE, cut, held, keeping_times, make, number_in

pytest.importorskip("av")

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
        ("av1.mkv", ("-c:v", "libaom-av1", "-cpu-used", "8", "-crf", "20", *PLANAR)),
        ("a colon: 10:30.mp4", H264),
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
    numbers, times = frames_of(make(tmp_path / name, *REORDERED, "-vf", slower, *keeping_times()))
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


def whole_and_broken(path: Path) -> tuple[list[int], SourceError]:
    """The numbers of the frames that a broken video still gives, and the error at its end."""
    numbers: list[int] = []
    with open_source(str(path)) as source, pytest.raises(SourceError, match="is damaged or breaks off") as caught:
        for frame in source:
            numbers.append(number_in(frame.image_rgb))  # noqa: PERF401 - those before the error count
    assert f"{len(numbers)} frames" in caught.value.got
    return numbers, caught.value


@pytest.mark.parametrize("name", ["clip.mkv", "clip.avi", "clip.mp4"])
def test_a_recording_that_breaks_off_gives_what_it_has_and_says_so(name: str, tmp_path: Path) -> None:
    header_first = ("-movflags", "faststart") if name == "clip.mp4" else ()
    path = cut(make(tmp_path / name, *H264, *NOISY, *header_first, size_wh=(192, 128)), 0.7)
    numbers, error = whole_and_broken(path)
    assert 5 < len(numbers) < COUNT
    assert numbers == list(range(len(numbers)))
    assert f"{COUNT} frames" in error.expected


@pytest.mark.parametrize("name", ["clip.mkv", "clip.mp4", "clip.ts"])
def test_a_recording_with_a_damaged_middle_gives_its_whole_frames_and_says_so(name: str, tmp_path: Path) -> None:
    path = make(tmp_path / name, *H264, *NOISY, "-movflags", "faststart", size_wh=(192, 128))
    content = bytearray(path.read_bytes())
    begin, end = len(content) * 4 // 10, len(content) // 2
    content[begin:end] = np.random.default_rng(1).bytes(end - begin)
    path.write_bytes(content)
    numbers, _ = whole_and_broken(path)
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 0
    assert numbers[-1] == COUNT - 1
    assert len(numbers) < COUNT


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi", "clip.mov", "clip.ts", "clip.flv"])
def test_a_video_that_was_trimmed_is_whole(name: str, tmp_path: Path) -> None:
    original = make(tmp_path / "original.mp4", *REORDERED, "-g", "8")
    tone = ("-f", "lavfi", "-i", "sine=duration=5")
    videos.run_ffmpeg("-ss", "0.7", "-i", str(original), *tone, "-c:v", "copy", str(tmp_path / name))
    with open_source(str(tmp_path / name)) as source:
        numbers = [number_in(frame.image_rgb) for frame in source]
    assert numbers == list(range(numbers[0], COUNT))
    assert numbers[0] in (8, 9)  # MP4 says that it is to be shown from within a group of pictures on


def test_a_stride_gives_each_frame_its_own_time(tmp_path: Path) -> None:
    slower = "setpts='if(lt(N,12),N,12+(N-12)*4)/12/TB'"
    path = make(tmp_path / "clip.mp4", *REORDERED, "-vf", slower, *keeping_times())
    with open_source(str(path), SourceOptions(vid_stride=5)) as source:
        frames = list(source)
    assert [frame.frame_id for frame in frames] == [number_in(frame.image_rgb) for frame in frames] == [0, 5, 10, 15, 20]
    np.testing.assert_allclose([frame.timestamp for frame in frames], [0, 5 / 12, 10 / 12, 2, 44 / 12], atol=0.002)


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


@pytest.mark.parametrize(("name", "options"), INTERLACED)
def test_interlaced_video_is_deinterlaced(name: str, options: tuple[str, ...], tmp_path: Path) -> None:
    with open_source(str(make(tmp_path / name, *options))) as source:
        assert sorted({number_in(frame.image_rgb) for frame in source}) == list(range(COUNT))


@pytest.mark.parametrize("field", ["tff", "bff"])
def test_two_fields_of_different_times_leave_no_comb(field: str, tmp_path: Path) -> None:
    # Fields of a bar that moves by its own width from one to the next: woven together every other row is wrong.
    moving = "geq=lum='if(between(X,8*N,8*N+8),235,16)':cb=128:cr=128"
    path = make(
        tmp_path / "clip.mp4",
        *("-vf", f"format=yuv420p,{moving},interlace=scan={field}:lowpass=off"),
        *("-c:v", "libx264", "-qp", "4", "-x264-params", f"{field}=1", *PLANAR),
        count=12,
    )
    with open_source(str(path)) as source:
        for frame in list(source)[1:-1]:
            rows = frame.image_rgb[8:-8, :, 1].astype(int)
            assert (np.abs(rows[1:-1] - rows[:-2]) + np.abs(rows[1:-1] - rows[2:])).mean() < 8


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
