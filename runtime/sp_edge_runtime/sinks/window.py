"""Shows a stream with what is recognized, in a window."""

from __future__ import annotations

import os
import re
import sys

from sp_edge.errors import SourceError
from sp_edge_runtime.sinks.overlay import annotate
from sp_edge_runtime.sources.opencv import opencv
from sp_edge_runtime.streams.result import FrameResult, StreamEvent

ENDING = (27, ord("q"))  # keys: escape, q


class WindowSink:
    """A window a source. Escape, q or closing a window ends the stream as Ctrl-C does.

    Raises:
        SourceError: there is no screen, or this OpenCV opens no windows.
        MissingExtraError: OpenCV is not installed.
    """

    def __init__(self) -> None:
        self._cv2 = opencv("a window")
        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise SourceError(
                "there is no screen for a window",
                expected="a desktop (DISPLAY or WAYLAND_DISPLAY)",
                got="none",
                next_step="an OUTPUT.mp4 shows the same afterwards",
            )
        if re.search(r"GUI:\s+NONE", self._cv2.getBuildInformation()):
            raise SourceError(
                "this OpenCV opens no windows",
                expected="an OpenCV with a user interface",
                got="opencv-python-headless",
                next_step="pip uninstall opencv-python-headless, then pip install opencv-python",
            )
        self._titles: set[str] = set()

    def write(self, result: FrameResult) -> None:
        """Shows the frame."""
        title = f"sp-edge {result.source}"
        drawn_rgb = annotate(result.frame.image_rgb, result.prediction, result.smoothed)
        self._cv2.imshow(title, self._cv2.cvtColor(drawn_rgb, self._cv2.COLOR_RGB2BGR))
        key = self._cv2.waitKey(1)
        closed = title in self._titles and self._cv2.getWindowProperty(title, self._cv2.WND_PROP_VISIBLE) < 1
        self._titles.add(title)
        if key in ENDING or closed:
            raise KeyboardInterrupt

    def event(self, event: StreamEvent) -> None:
        """Shows nothing: the frame itself does."""

    def close(self) -> None:
        """Closes the windows."""
        if self._titles:
            self._titles.clear()
            self._cv2.destroyAllWindows()
