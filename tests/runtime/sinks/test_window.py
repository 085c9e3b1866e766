"""The window, with a stand-in for OpenCV's."""

import sys
from collections.abc import Iterator

import numpy as np
import pytest

from sp_edge.errors import SourceError
from sp_edge_runtime.prediction import Prediction
from sp_edge_runtime.sinks import window
from sp_edge_runtime.sinks.overlay import annotate
from sp_edge_runtime.sinks.window import WindowSink
from sp_edge_runtime.sources.frames import VideoFrame
from sp_edge_runtime.streams.result import FrameResult
from sp_edge_runtime.streams.smoothing import Smoothed

IMAGE = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)


class Windows:
    """Stands for cv2."""

    COLOR_RGB2BGR, WND_PROP_VISIBLE = 4, 4

    def __init__(self) -> None:
        self.interface, self.key, self.visible = "QT5", -1, 1.0
        self.shown: dict[str, np.ndarray] = {}

    def getBuildInformation(self) -> str:  # noqa: N802
        return f"  GUI:                           {self.interface}"

    def cvtColor(self, image: np.ndarray, code: int) -> np.ndarray:  # noqa: N802
        assert code == self.COLOR_RGB2BGR
        return image[:, :, ::-1]

    def imshow(self, title: str, image: np.ndarray) -> None:
        self.shown[title] = image

    def waitKey(self, milliseconds: int) -> int:  # noqa: N802
        assert milliseconds > 0, "0 waits for ever"
        return self.key

    def getWindowProperty(self, title: str, prop: int) -> float:  # noqa: N802
        assert (title in self.shown, prop) == (True, self.WND_PROP_VISIBLE)
        return self.visible

    def destroyAllWindows(self) -> None:  # noqa: N802
        self.shown.clear()


@pytest.fixture
def cv2(monkeypatch: pytest.MonkeyPatch) -> Iterator[Windows]:
    stand_in = Windows()
    monkeypatch.setattr(window, "opencv", lambda _: stand_in)
    monkeypatch.setenv("DISPLAY", ":0")
    yield stand_in
    assert stand_in.shown == {}, "no window is left"


def result(smoothed: Smoothed | None = None, source: str = "camera") -> FrameResult:
    top = (("red", 0.9), ("blue", 0.1))
    prediction = Prediction("red", "red", 0.9, 0.8, 0.3, top, class_index=0, speed={}, bank_version=1)
    return FrameResult(VideoFrame(IMAGE, 0, 0.0), prediction, 1.0, smoothed=smoothed, source=source)


def test_what_is_shown_is_what_the_stream_shows(cv2: Windows) -> None:
    sink, smoothed = WindowSink(), Smoothed("blue", 0.7)
    sink.write(result(smoothed))
    sink.write(result(source="door"))
    np.testing.assert_array_equal(cv2.shown["sp-edge camera"][:, :, ::-1], annotate(IMAGE, result().prediction, smoothed))
    np.testing.assert_array_equal(cv2.shown["sp-edge door"][:, :, ::-1], annotate(IMAGE, result().prediction))
    sink.close()
    sink.close()


@pytest.mark.parametrize(("key", "visible"), [(27, 1.0), (ord("q"), 1.0), (-1, 0.0)])
def test_a_key_or_closing_the_window_ends_the_stream(cv2: Windows, key: int, visible: float) -> None:
    sink = WindowSink()
    sink.write(result())
    cv2.key, cv2.visible = key, visible
    with pytest.raises(KeyboardInterrupt):
        sink.write(result())
    sink.close()


def test_an_opencv_without_windows(cv2: Windows) -> None:
    cv2.interface = "NONE"
    with pytest.raises(SourceError, match="opens no windows"):
        WindowSink()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a screen")
def test_a_machine_without_a_screen(cv2: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(SourceError, match="no screen"):
        WindowSink()
