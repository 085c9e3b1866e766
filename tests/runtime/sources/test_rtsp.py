"""Cameras that serve RTSP, on loopback: a real server, real codecs, lost and found again; no frame that was not filmed."""

from __future__ import annotations

import functools
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.sources.frames import Source, State, VideoFrame
from sp_edge_runtime.sources.live import LiveSource
from sp_edge_runtime.sources.options import SourceOptions

pytest.importorskip("av")

PYTHON = shutil.which("/usr/bin/python3") or ""
SERVER = Path(__file__).with_name("rtsp_server.py")
TIMEOUT = 10.0  # seconds; longer than the way to the next key frame, on a machine under load too
BARS = [(255, 255, 255), (255, 255, 0), (0, 255, 255), (0, 255, 0), (255, 0, 255), (255, 0, 0), (0, 0, 255)]
RED = (255, 0, 0)
NEAR = 24  # GStreamer's JPEG keeps a camera's black at 16; grey is farther from every colour of the bars
# How a camera is read: through FFmpeg, and through a pipeline.
WAYS = ["ffmpeg", "gstreamer"]
DECODED = {"h264": "rtph264depay ! avdec_h264", "jpeg": "rtpjpegdepay ! jpegdec"}


@functools.cache
def has(*elements: str) -> bool:
    """Whether the system's Python has GStreamer's RTSP server, and GStreamer these elements."""
    program = (
        "import gi, sys; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer; "
        "Gst.init(None); sys.exit(not all(Gst.ElementFactory.find(name) for name in sys.argv[1:]))"
    )
    return bool(PYTHON) and not subprocess.run([PYTHON, "-c", program, *elements], capture_output=True, check=False).returncode


def needs(*elements: str) -> None:
    if not has(*elements):
        pytest.skip(f"GStreamer's RTSP server (gir1.2-gst-rtsp-server-1.0) or {', '.join(elements)} is not installed")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Camera:
    """The server's process."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self._process = process
        self.address = f"rtsp://127.0.0.1:{port}/cam"

    def turn_red(self, width: int, height: int) -> None:
        """Shows red from now on, at another resolution."""
        assert self._process.stdin
        self._process.stdin.write(f"{width} {height}\n")
        self._process.stdin.flush()

    def asked_for(self) -> str:
        """The transports that clients asked for, one a call, for each of a stream's tracks."""
        assert self._process.stdout
        return self._process.stdout.readline()

    def text(self, way: str, codec: str = "h264") -> str:
        """What a user would name it by."""
        if way == "ffmpeg":
            return self.address
        return f"rtspsrc location={self.address} protocols=tcp latency=0 ! {DECODED[codec]} ! appsink"


@contextmanager
def camera(
    codec: str = "h264", *, port: int | None = None, size_wh: tuple[int, int] = (320, 240), transport: str = "any"
) -> Iterator[Camera]:
    """While it runs; it is killed at the end, as when a camera loses its power."""
    needs({"h264": "x264enc", "h265": "x265enc", "jpeg": "jpegenc"}[codec])
    port = port or free_port()
    command = [PYTHON, str(SERVER), str(port), *(str(side) for side in size_wh), codec, transport]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            yield Camera(process, port)
        finally:
            process.kill()


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    if request.param == "gstreamer":
        request.getfixturevalue("pygobject")
        needs("avdec_h264", "rtspsrc", "videoflip")
    return str(request.param)


def shows(frame: VideoFrame) -> str:
    """What the camera shows, 'bars' or 'red'; fails where it is neither, as a frame decoded without its beginning is."""
    height, width = frame.image_rgb.shape[:2]
    columns = frame.image_rgb.reshape(height, width, 3)[height // 16 : -height // 16].astype(int)
    # The bars stand upright: of a frame that is smeared from some row on, the rows differ.
    assert np.abs(columns - columns.mean(axis=0)).mean() < 2
    shown = [columns[:, (4 * bar + 1) * width // 28 : (4 * bar + 3) * width // 28].mean(axis=(0, 1)) for bar in range(7)]
    if np.abs(np.array(shown) - RED).max() < NEAR:
        return "red"
    np.testing.assert_allclose(shown, BARS, atol=NEAR)
    return "bars"


def look(source: Source, count: int) -> list[VideoFrame]:
    """The next frames, all of which show what the camera shows."""
    seen = []
    for frame in source:
        shows(frame)
        seen.append(frame)
        if len(seen) == count:
            return seen
    raise AssertionError("the source ended")


@pytest.mark.parametrize(("codec", "transport"), [("h264", "tcp"), ("h264", "udp"), ("h265", "tcp"), ("jpeg", "tcp")])
def test_what_cameras_send(codec: str, transport: str) -> None:
    with camera(codec, transport=transport) as served, open_source(served.address, SourceOptions(timeout=TIMEOUT)) as source:
        assert {frame.image_rgb.shape for frame in look(source, 5)} == {(240, 320, 3)}


def test_no_false_frame_before_the_first_key_frame(way: str) -> None:
    # Who comes later gets the stream from where it is: here the second half of two seconds without a key frame, or near it.
    with camera() as served, open_source(served.address, SourceOptions(timeout=TIMEOUT)) as first:
        look(first, 20)
        with open_source(served.text(way), SourceOptions(timeout=TIMEOUT)) as second:
            look(second, 5)


def test_a_camera_that_is_switched_off_and_comes_back_with_another_resolution(way: str) -> None:
    port = free_port()
    with camera(port=port) as served:
        source = open_source(served.text(way), SourceOptions(timeout=TIMEOUT))
        before = look(source, 3)
    assert isinstance(source, LiveSource)
    with source:
        with camera(port=port, size_wh=(640, 480)):
            for frame in source:
                shows(frame)
                if frame.image_rgb.shape == (480, 640, 3):
                    break
            assert frame.image_rgb.shape == (480, 640, 3)
            assert frame.frame_id > before[-1].frame_id
        states = [change.state for change in source.changes()]
    assert states[:3] == [State.INITIALIZING, State.RUNNING, State.RESTARTING]
    assert source.restarts >= 1


def test_the_resolution_changes_while_the_camera_runs(way: str) -> None:
    with camera() as served, open_source(served.text(way), SourceOptions(timeout=TIMEOUT)) as source:
        look(source, 3)
        served.turn_red(160, 120)
        for frame in source:
            if shows(frame) == "red" and frame.image_rgb.shape == (120, 160, 3):
                break
        assert {one.image_rgb.shape for one in look(source, 5)} == {(120, 160, 3)}
        assert isinstance(source, LiveSource)
        assert source.restarts == 0


def test_tcp_is_asked_for_first_and_udp_where_the_address_says_so() -> None:
    with camera() as served:
        with open_source(served.address, SourceOptions(timeout=TIMEOUT)) as source:
            look(source, 1)
        assert "TCP" in served.asked_for()
        assert "TCP" in served.asked_for(), "its sound"
        with open_source(f"{served.address}?udp", SourceOptions(timeout=TIMEOUT)) as source:
            look(source, 1)
        assert "UDP" in served.asked_for()
