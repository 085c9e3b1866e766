import importlib
import os
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

from sp_edge.errors import MissingExtraError, SourceError
from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.sources.opencv import opencv, quiet


def test_a_camera_needs_opencv_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A live source's process has modules of its own; it gets this one's path.
    (tmp_path / "cv2.py").write_text("raise ModuleNotFoundError(\"No module named 'cv2'\", name='cv2')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError, match="needs OpenCV") as caught:
        open_source("/dev/video0")
    assert "opencv-python-headless" in caught.value.expected
    assert caught.value.next_step == "pip install 'sp-edge[camera]'"


def test_an_opencv_that_lacks_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> ModuleType:
        raise ImportError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(SourceError, match=r"libGL\.so\.1"):
        opencv("a camera")


def test_two_threads_that_are_quiet_at_once_give_the_terminal_back() -> None:
    before = os.fstat(2)
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with quiet():
            inside.set()
            leave.wait()

    thread = threading.Thread(target=other)
    with quiet():
        thread.start()
        assert not inside.wait(0.1), "the second waits for the first"
    leave.set()
    thread.join()
    assert os.path.samestat(os.fstat(2), before)


def test_a_process_without_stderr_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    before = os.fstat(2)
    with quiet():
        # What has the number 2 is then some file of the application's own.
        assert os.path.samestat(os.fstat(2), before)


def test_a_choice_of_log_level_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cv2")
    monkeypatch.setenv("OPENCV_FFMPEG_LOGLEVEL", "32")
    opencv("a camera")
    assert os.environ["OPENCV_FFMPEG_LOGLEVEL"] == "32"
