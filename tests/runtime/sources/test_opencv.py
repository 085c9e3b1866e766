import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sp_edge.errors import MissingExtraError, SourceError
from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.sources.opencv import capture_device, opencv
from sp_edge_runtime.sources.request import CaptureRequest


@pytest.fixture
def without_opencv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A live source's process has modules of its own; it gets this one's path."""
    (tmp_path / "cv2.py").write_text("raise ModuleNotFoundError(\"No module named 'cv2'\", name='cv2')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cv2", raising=False)


@pytest.mark.usefixtures("without_opencv")
def test_a_camera_needs_opencv_and_says_so() -> None:
    with pytest.raises(MissingExtraError, match="needs OpenCV") as caught:
        capture_device(CaptureRequest("device", "0"))
    assert "opencv-python-headless" in caught.value.expected
    assert caught.value.next_step == "pip install 'sp-edge[camera]'"


@pytest.mark.usefixtures("without_opencv")
def test_a_camera_that_is_not_there_costs_no_import() -> None:
    with pytest.raises(SourceError, match="cannot open /dev/video99") as caught:
        open_source("/dev/video99")
    assert caught.value.got == "no such device"


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
