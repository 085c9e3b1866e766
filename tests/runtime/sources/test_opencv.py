import importlib
import os
from pathlib import Path
from types import ModuleType

import pytest

from sp_edge.errors import MissingExtraError, SourceError
from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.sources.opencv import opencv


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


def test_a_choice_of_log_level_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cv2")
    monkeypatch.setenv("OPENCV_FFMPEG_LOGLEVEL", "32")
    opencv("a camera")
    assert os.environ["OPENCV_FFMPEG_LOGLEVEL"] == "32"
