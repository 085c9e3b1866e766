"""Real servers on loopback: RTSP that comes back with another resolution, MJPEG that stalls; and GStreamer pipelines."""

import io
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sp_edge_runtime.camera import open_source
from sp_edge_runtime.frames import State
from sp_edge_runtime.live import LiveSource

pytest.importorskip("cv2")
PYTHON = shutil.which("/usr/bin/python3")
NEEDED = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def rtsp_server(port: int, width: int, height: int) -> Iterator[None]:
    """While it runs; it is killed at the end, as when a camera loses its power."""
    command = [PYTHON, str(Path(__file__).with_name("rtsp_server.py")), str(port), str(width), str(height)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        try:
            assert server.stdout.readline() == b"ready\n"
            yield
        finally:
            server.kill()


def frame_of(source: LiveSource, shape: tuple[int, int, int]) -> int:
    """Waits for a frame of such a shape, and gives its number; frames of before may still come."""
    for frame in source:
        if frame.image_rgb.shape == shape:
            assert frame.image_rgb.max() > 100, "a black frame"
            return frame.frame_id
    raise AssertionError("the source ended")


def test_an_rtsp_camera_that_is_switched_off_and_comes_back_with_another_resolution() -> None:
    if not PYTHON or subprocess.run([PYTHON, "-c", NEEDED], capture_output=True, check=False).returncode:
        pytest.skip("GStreamer's RTSP server (gir1.2-gst-rtsp-server-1.0) is not installed")
    port = free_port()
    with rtsp_server(port, 160, 120):
        source = open_source(f"rtsp://127.0.0.1:{port}/cam", timeout=3.0)
        first = frame_of(source, (120, 160, 3))
    with source:
        with rtsp_server(port, 320, 240):
            assert frame_of(source, (240, 320, 3)) > first
        states = [change.state for change in source.changes()]
    assert isinstance(source, LiveSource)
    assert states[:3] == [State.INITIALISING, State.RUNNING, State.RESTARTING]
    assert source.restarts >= 1


class Mjpeg:
    """A camera's web server. While `stalled` is set it keeps its connections and sends nothing."""

    def __init__(self) -> None:
        self.stalled, self.over = threading.Event(), threading.Event()
        self.colour = 200
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                try:
                    while not camera.over.wait(0.02):
                        if camera.stalled.is_set():
                            continue
                        encoded = io.BytesIO()
                        Image.new("RGB", (64, 48), (camera.colour, 40, 40)).save(encoded, "JPEG")
                        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {encoded.tell()}\r\n\r\n"
                        self.wfile.write(head.encode() + encoded.getvalue() + b"\r\n")
                except OSError:
                    pass  # the one who watched has gone

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=[0.01])
        self.thread.start()

    def close(self) -> None:
        self.over.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def test_an_mjpeg_camera_that_stalls_and_comes_back() -> None:
    camera = Mjpeg()
    try:
        with open_source(f"http://127.0.0.1:{camera.server.server_port}/?token=secret", timeout=2.0) as source:
            frames = iter(source)
            mean = next(frames).image_rgb.mean(axis=(0, 1))
            np.testing.assert_allclose(mean, [200, 40, 40], atol=12)  # JPEG's loss
            camera.stalled.set()
            pause = threading.Event()
            while source.state is State.RUNNING:
                pause.wait(0.02)
            assert source.take() is None  # what was seen before is not shown while nothing comes
            camera.colour = 90
            camera.stalled.clear()
            np.testing.assert_allclose(next(frames).image_rgb.mean(axis=(0, 1)), [90, 40, 40], atol=12)
            changes = source.changes()
        assert State.RESTARTING in [change.state for change in changes]
        assert not any("secret" in change.source + change.reason for change in changes)
    finally:
        camera.close()


@pytest.fixture
def pygobject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's PyGObject for this Python, where it fits: a capture's process gets this one's path."""
    place = Path("/usr/lib/python3/dist-packages/gi")
    if not place.exists():
        pytest.skip("PyGObject (python3-gi) is not installed")
    (tmp_path / "gi").symlink_to(place)
    monkeypatch.syspath_prepend(tmp_path)
    probe = "import gi; gi.require_version('Gst', '1.0'); from gi.repository import Gst; Gst.init(None)"
    import os
    import sys

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    if subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, check=False).returncode:
        pytest.skip("PyGObject is of another Python")


@pytest.mark.usefixtures("pygobject")
@pytest.mark.parametrize("layout", ["RGB", "BGRx"])
def test_a_gstreamer_pipeline(layout: str) -> None:
    # 66 pixels: rows of RGB are padded to whole words.
    text = f"videotestsrc num-buffers=5 pattern=red ! video/x-raw,format={layout},width=66,height=48 ! appsink"
    with open_source(text) as source:
        frames = list(source)
    assert 1 <= len(frames) <= 5
    assert frames[-1].image_rgb.shape == (48, 66, 3)
    np.testing.assert_allclose(frames[-1].image_rgb.mean(axis=(0, 1)), [255, 0, 0], atol=4)


@pytest.mark.usefixtures("pygobject")
def test_pipelines_that_are_none() -> None:
    for text, words in (
        ("nosuchelement ! appsink", "no GStreamer pipeline"),
        ("videotestsrc ! appsink videotestsrc ! appsink", "one appsink"),
        ("filesrc location=/nowhere/secret.h264 ! decodebin ! appsink", "pipeline"),
    ):
        with pytest.raises(Exception, match=words):
            open_source(text, timeout=3.0)
