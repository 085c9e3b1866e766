"""Network streams through FFmpeg: what arrives late is told to be old, and a stream that breaks off hands out nothing more."""

import functools
import http.server
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from sp_edge.errors import SourceError
from sp_edge_runtime.sources.network import WINDOW, Clock, capture_network
from sp_edge_runtime.sources.request import CaptureRequest
from threads import PATIENCE
from videos import COUNT, make, number_in

pytest.importorskip("av")

H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-bf", "0", "-g", "6")


def test_packets_that_a_stalled_network_held_are_as_old_as_they_are() -> None:
    clock = Clock()
    assert [clock.at(100 + second, second, second) for second in range(3)] == [100, 101, 102]
    # Nothing for four seconds, then all at once.
    assert [clock.at(106, second, second) for second in (3, 4, 5, 6)] == [103, 104, 105, 106]


def test_a_packet_that_comes_quicker_than_those_before_corrects_them() -> None:
    clock = Clock()
    assert [clock.at(100.5, 0, 0), clock.at(101, 1, 1), clock.at(102.2, 2, 2)] == [100.5, 101, 102]


def test_a_stream_whose_time_begins_anew_is_not_old() -> None:
    clock = Clock()
    clock.at(100, 5000, 5000)
    assert clock.at(101, 0, 0) == 101


def test_two_clocks_that_run_apart_are_told_from_a_stall() -> None:
    clock = Clock()
    seconds = [n * WINDOW / 10 for n in range(100)]
    ages = [100 + 1.001 * second - clock.at(100 + 1.001 * second, second, second) for second in seconds]
    assert max(ages) <= 2 * WINDOW * 0.001 + 1e-9


def test_a_packet_without_a_time_was_captured_when_it_arrived() -> None:
    clock = Clock()
    first = clock.captured(SimpleNamespace(pts=None, dts=None, time_base=None))
    assert clock.captured(SimpleNamespace(pts=None, dts=None, time_base=None)) >= first


class Cut(http.server.BaseHTTPRequestHandler):
    """Serves a file, of which it sends a share, and then waits for an event before it hangs up."""

    def __init__(self, *args: object, content: bytes, share: float, leave: threading.Event) -> None:
        self.content, self.share, self.leave = content, share, leave
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "video/mp2t")
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content[: int(len(self.content) * self.share)])
        self.wfile.flush()
        assert self.leave.wait(PATIENCE)

    def log_message(self, *_: object) -> None:
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    pass


@pytest.fixture
def serve() -> Iterator[object]:
    servers: list[tuple[Server, threading.Thread]] = []
    leave = threading.Event()

    def start(path: Path, share: float = 1.0, *, stalls: bool = False) -> str:
        if not stalls:
            leave.set()
        server = Server(("127.0.0.1", 0), functools.partial(Cut, content=path.read_bytes(), share=share, leave=leave))
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}/live"

    yield start
    leave.set()
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_video_over_http_is_shown_whole(serve: object, tmp_path: Path) -> None:
    address = serve(make(tmp_path / "clip.mkv", *H264))  # type: ignore[operator]
    fps, frames = capture_network(CaptureRequest("stream", address))
    assert fps == 12
    assert [number_in(frame.image_rgb) for frame in frames if frame] == list(range(COUNT))


@pytest.mark.parametrize(("name", "share"), [("clip.mkv", 0.6), ("clip.ts", 1.0)])
def test_a_stream_that_ends_has_broken_off(name: str, share: float, serve: object, tmp_path: Path) -> None:
    noisy = ("-vf", "noise=alls=20:allf=t")
    address = serve(make(tmp_path / name, *H264, *noisy, size_wh=(192, 128)), share)  # type: ignore[operator]
    _, frames = capture_network(CaptureRequest("stream", address))
    numbers: list[int] = []
    with pytest.raises(SourceError, match="broke off"):
        for frame in frames:
            assert frame
            numbers.append(number_in(frame.image_rgb))
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 5


def test_a_stream_that_stalls_is_lost_at_its_timeout_and_hands_out_nothing_old(serve: object, tmp_path: Path) -> None:
    path = make(tmp_path / "clip.mkv", *H264, "-vf", "noise=alls=20:allf=t", size_wh=(192, 128))
    _, frames = capture_network(CaptureRequest("stream", serve(path, 0.7, stalls=True), timeout=1.0))  # type: ignore[operator]
    numbers: list[int] = []
    with pytest.raises(SourceError, match="stopped delivering frames") as caught:
        for frame in frames:
            assert frame
            numbers.append(frame.number)
            latest = frame.captured
    assert caught.value.expected == "a frame within 1 s"
    assert len(numbers) > 5
    assert time.monotonic() - latest > 0.9  # the last one came before the wait, none after it


def test_packets_on_the_way_to_a_key_frame_are_signs_of_life(serve: object, tmp_path: Path) -> None:
    path = make(tmp_path / "clip.ts", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-bf", "0", "-g", "18", "-pat_period", "0.1")
    content = path.read_bytes()
    path.write_bytes(content[len(content) // 3 // 188 * 188 :])
    _, frames = capture_network(CaptureRequest("stream", serve(path)))  # type: ignore[operator]
    seen: list[int | None] = []
    with pytest.raises(SourceError, match="broke off"):
        for frame in frames:
            seen.append(frame and number_in(frame.image_rgb))  # noqa: PERF401 - those before the error count
    assert seen[0] is None
    assert next(number for number in seen if number is not None) == 18


def test_frames_that_the_stride_leaves_out_are_signs_of_life(serve: object, tmp_path: Path) -> None:
    address = serve(make(tmp_path / "clip.mkv", *H264))  # type: ignore[operator]
    _, frames = capture_network(CaptureRequest("stream", address, stride=10))
    assert [frame and frame.number for frame in frames] == [n if n % 10 == 0 else None for n in range(COUNT)]
