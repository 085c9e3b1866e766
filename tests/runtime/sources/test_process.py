"""Captures in processes of their own: started, lost, hanging, killed."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sp_edge.errors import SourceError
from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.sources.frames import State
from sp_edge_runtime.sources.live import Backoff, LiveSource
from sp_edge_runtime.sources.options import SourceOptions
from sp_edge_runtime.sources.process import CaptureProcess
from sp_edge_runtime.sources.request import CaptureRequest
from sp_edge_runtime.sources.scenes import scene
from threads import children


@pytest.fixture(autouse=True)
def _no_pipe_is_left_open() -> Iterator[None]:
    if not Path("/proc/self/fd").exists():
        yield
        return
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    yield
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def request(address: str = "test://", **options: object) -> CaptureRequest:
    return CaptureRequest("test", address, rate=200.0, size_wh=(64, 48), **options)


def test_frames_arrive_as_they_were_captured() -> None:
    process = CaptureProcess(request(stride=2))
    try:
        process.open()
        assert process.fps == 200.0
        before = time.monotonic()
        for number in (0, 2, 4):
            frame = process.read()
            assert frame is not None
            assert frame.frame_id == number
            assert abs(frame.timestamp - time.time()) < 60
            assert frame.captured < time.monotonic()
            np.testing.assert_array_equal(frame.image_rgb, scene(number, (64, 48)))
        assert frame.captured > before - 60
    finally:
        process.release()
    process.close()


def test_the_working_folders_modules_are_not_taken_for_pythons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("random", "numpy", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    process = CaptureProcess(request())
    try:
        process.open()
    finally:
        process.release()


def test_a_source_that_says_that_it_is_over() -> None:
    process = CaptureProcess(request("test://?end=2"))
    try:
        process.open()
        assert [process.read() is None for _ in range(3)] == [False, False, True]
    finally:
        process.release()


def test_a_capture_that_hangs_is_found_and_killed() -> None:
    process = CaptureProcess(request("test://?hang=1", timeout=0.2))
    try:
        process.open()
        assert process.read() is not None
        with pytest.raises(SourceError, match=r"test://\?hang=1 stopped delivering frames") as caught:
            process.read()
        assert "0.2 s" in caught.value.expected
    finally:
        process.release()


def test_a_process_that_dies() -> None:
    process = CaptureProcess(request())
    try:
        process.open()
        process.close()
        with pytest.raises(SourceError, match="was lost") as caught:
            while process.read():
                pass
        assert caught.value.got == "its process ended (-9)"
    finally:
        process.release()


def test_an_error_of_the_capture_arrives_whole_and_without_credentials() -> None:
    address = "rtsp://admin:topsecret@127.0.0.1:9/live"
    process = CaptureProcess(CaptureRequest("stream", address, timeout=2.0))
    try:
        arguments = b"".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children())
        assert b"topsecret" not in arguments
        with pytest.raises(SourceError, match=r"cannot open rtsp://\*\*\*@127.0.0.1:9/live") as caught:
            process.open()
        assert "ffplay" in caught.value.next_step
    finally:
        process.release()


@pytest.mark.parametrize("fault", ["fail=3", "hang=3"])
def test_a_live_source_comes_back_from_a_fault(fault: str) -> None:
    # Not shorter: a machine under load must not take a slow frame for a fault.
    asked = request(f"test://?{fault}", timeout=1.0)
    with LiveSource(lambda: CaptureProcess(asked), "camera", backoff=Backoff(0.01, 0.01)) as source:
        frames = iter(source)
        ids = [next(frames).frame_id for _ in range(2)]
        while ids[-1] < 4:
            ids.append(next(frames).frame_id)
        assert ids == sorted(set(ids))
        states = [change.state for change in source.changes()]
    assert source.restarts >= 1
    assert states[:4] == [State.INITIALIZING, State.RUNNING, State.RESTARTING, State.RUNNING]


def test_closing_does_not_wait_for_a_capture_that_hangs() -> None:
    source = open_source("test://?hang=1", SourceOptions(timeout=3600))
    next(iter(source))
    source.close()


def test_the_process_ends_when_its_program_is_killed(tmp_path: Path) -> None:
    import signal
    import subprocess
    import sys

    program = (
        "import sys\n"
        "from sp_edge_runtime.sources.camera import open_source\n"
        "from sp_edge_runtime.sources.options import SourceOptions\n"
        "source = open_source('test://?hang=1', SourceOptions(timeout=3600))\n"
        "print(source._feed._process.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with running:
        child = int(running.stdout.readline())
        running.send_signal(signal.SIGKILL)
    for _ in range(1000):
        try:
            if Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":
                return
        except OSError:
            return
        time.sleep(0.02)
    raise AssertionError("the capture outlives its program")
