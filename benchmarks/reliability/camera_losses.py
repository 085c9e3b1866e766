"""Takes cameras away and brings them back: how long until frames come again, and whether one of before the loss comes after it.

    python benchmarks/reliability/camera_losses.py --count 50

Ten cameras on loopback at once; every fifth serves RTSP through GStreamer where the system's Python has it, the others MJPEG. A
camera is killed, stalled (SIGSTOP), moved (its address leads to another port), or comes back with another resolution; each time
for half a second to ten seconds, of which one in ten lasts twenty. What a MJPEG camera shows tells which loss it is after. The
goal is a frame within five seconds of the return.
"""

from __future__ import annotations

import http.server
import io
import random
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

import shared
from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.sources.frames import VideoFrame
from sp_edge_runtime.sources.live import LiveSource
from sp_edge_runtime.sources.options import SourceOptions

CAMERAS = 10
TIMEOUT = SourceOptions().timeout
GOAL = 5.0
RTSP_SERVER = Path(__file__).parents[2] / "tests" / "runtime" / "sources" / "rtsp_server.py"
SYSTEM_PYTHON = "/usr/bin/python3"
LEVELS = 12  # brightness tells which one of so many starts of a camera a frame is of
KINDS = ("killed", "stalled", "moved", "other resolution")


def serve(port: int, level: int, width: int, height: int, leads_to: int) -> None:
    """A MJPEG camera of one brightness, or an address that leads to another port."""
    file = io.BytesIO()
    Image.new("L", (width, height), 10 + 20 * level).save(file, "JPEG")
    picture = file.getvalue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if leads_to:
                self.send_response(302)
                self.send_header("Location", f"http://127.0.0.1:{leads_to}/cam")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            while True:
                self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(picture))
                self.wfile.write(picture + b"\r\n")
                time.sleep(0.05)

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with suppress(OSError):  # the client has left
                super().handle()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print("ready", flush=True)
    server.serve_forever()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Camera:
    """One camera's processes: the one at its address, and where it has moved, the other one."""

    def __init__(self, *, rtsp: bool) -> None:
        self.rtsp, self.port = rtsp, free_port()
        self.address = f"{'rtsp' if rtsp else 'http'}://127.0.0.1:{self.port}/cam"
        self.level, self.size_wh = 0, (64, 48)
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *, moved: bool = False) -> None:
        if self.rtsp:
            width, height = (side * 4 for side in self.size_wh)
            self._begin([SYSTEM_PYTHON, str(RTSP_SERVER), str(self.port), str(width), str(height), "h264", "tcp"])
            return
        port = free_port() if moved else self.port
        ours = [sys.executable, __file__, "--serve"]
        self._begin([*ours, str(port), str(self.level), *map(str, self.size_wh), "0"])
        if moved:
            self._begin([*ours, str(self.port), "0", "8", "8", str(port)])

    def _begin(self, command: list[str]) -> None:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes.clear()


class Watched:
    """A source, and the newest frame that came of it."""

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self.source = open_source(camera.address, SourceOptions(timeout=TIMEOUT, wait=True))
        self.news = threading.Condition()
        self.frame: VideoFrame | None = None
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def _look(self) -> None:
        for frame in self.source:
            with self.news:
                self.frame = frame
                self.news.notify_all()

    def next_after(self, moment: float, patience: float) -> VideoFrame | None:
        """The first frame that was captured after a moment of `time.monotonic`."""
        with self.news:
            came = self.news.wait_for(lambda: self.frame is not None and self.frame.captured > moment, patience)
            return self.frame if came else None


def lose(watched: Watched, kind: str, away: float) -> tuple[float, str]:
    """Takes the camera away for some seconds; how long the first frame took after its return, and what was wrong."""
    camera, source = watched.camera, watched.source
    assert isinstance(source, LiveSource)
    if kind == "stalled":
        for process in camera.processes:
            process.send_signal(signal.SIGSTOP)
        time.sleep(max(away, TIMEOUT + 0.5))
        back = time.monotonic()
        for process in camera.processes:
            process.send_signal(signal.SIGCONT)
    else:
        camera.kill()
        time.sleep(away)
        camera.level = (camera.level + 1) % LEVELS
        if kind == "other resolution":
            camera.size_wh = (48, 64) if camera.size_wh == (64, 48) else (64, 48)
        camera.start(moved=kind == "moved" and not camera.rtsp)
        back = time.monotonic()
    frame = watched.next_after(back, 60)
    if frame is None:
        return 60.0, "no frame within a minute"
    took = frame.captured - back
    if not camera.rtsp:
        shown = round((float(np.mean(frame.image_rgb)) - 10) / 20)
        if shown != camera.level or frame.image_rgb.shape[:2] != camera.size_wh[::-1]:
            return took, f"a frame of before the loss: {frame.image_rgb.shape}, level {shown} in place of {camera.level}"
    return took, ""


def has_rtsp() -> bool:
    program = (
        "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer; Gst.init(None); "
        "raise SystemExit(not Gst.ElementFactory.find('x264enc'))"
    )
    try:
        return not subprocess.run([SYSTEM_PYTHON, "-c", program], capture_output=True, check=False).returncode
    except FileNotFoundError:
        return False


def main() -> None:
    options = shared.arguments(__doc__, 50)
    rtsp = has_rtsp()
    took: dict[str, list[float]] = {kind: [] for kind in KINDS}
    wrong: list[str] = []
    lock = threading.Lock()

    def work(number: int) -> None:
        chance = random.Random(f"{options.seed} {number}")
        camera = Camera(rtsp=rtsp and number % 5 == 4)
        camera.start()
        watched = Watched(camera)
        watched.next_after(0, 60)
        for loss in range(options.count // CAMERAS + (number < options.count % CAMERAS)):
            kind = KINDS[(loss + number) % len(KINDS)]
            away = 20.0 if chance.random() < 0.1 else chance.uniform(0.5, 10)
            seconds, said = lose(watched, kind, away)
            with lock:
                took[kind].append(seconds)
                if said or seconds > GOAL:
                    wrong.append(f"{kind} for {away:.1f} s{' (RTSP)' * camera.rtsp}: back after {seconds:.1f} s {said}")
            time.sleep(chance.uniform(0.5, 2))
        watched.source.close()
        camera.kill()

    threads = [threading.Thread(target=work, args=[number]) for number in range(CAMERAS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for kind, seconds in took.items():
        if seconds:
            shared.row(
                f"camera {kind}", len(seconds), [], f"median {statistics.median(seconds):.1f} s, most {max(seconds):.1f} s"
            )
    shared.row("losses, not back within 5 s or with a frame of before", sum(map(len, took.values())), wrong)


if __name__ == "__main__":
    if "--serve" in sys.argv:
        serve(*map(int, sys.argv[2:]))
    else:
        main()
