"""Reads a camera or network stream so that always the newest frame is handed on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from sp_edge.errors import SourceError
from sp_edge_runtime.frames import Capture, Source, VideoFrame, claimed_fps, retrieve_rgb
from sp_edge_runtime.opencv import opencv

TIMEOUT = 5.0  # seconds without a frame after which a source counts as lost
RETRY = 0.01  # seconds between attempts to read a camera that gave no frame


class LiveSource(Source):
    """A camera or network stream.

    A thread of its own reads without pause into a mailbox with one place, so that no queue of old frames builds up in the
    driver. That thread owns the capture: it alone reads it and, when it ends, releases it.

    Args:
        capture: an open cv2.VideoCapture; it belongs to this source from now on.
        name: for errors, without credentials.
        vid_stride: hand on every how manieth frame.
        timeout: seconds without a frame after which the iteration raises SourceError.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """

    def __init__(self, capture: Capture, name: str, *, vid_stride: int = 1, timeout: float = TIMEOUT) -> None:
        self._cv2 = opencv("a camera")
        super().__init__(name, live=True, fps=claimed_fps(capture, self._cv2))
        self._capture = capture
        self._stride = vid_stride
        self._timeout = timeout
        self._mailbox: VideoFrame | None = None
        self._failure: Exception | None = None
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, name=f"reader of {name}", daemon=True)
        self._reader.start()

    def __iter__(self) -> Iterator[VideoFrame]:
        """The newest frame each time, waiting for one that was not handed on yet; ends when the source is closed."""
        while (frame := self._take()) is not None:
            yield frame

    def close(self) -> None:
        """Ends the iteration and the reader. A reader that hangs in the driver is left behind after `timeout` seconds."""
        super().close()
        with self._changed:
            self._changed.notify_all()
        self._reader.join(self._timeout)

    def _take(self) -> VideoFrame | None:
        with self._changed:
            self._changed.wait_for(lambda: self._mailbox or self._failure or self._closed.is_set(), self._timeout)
            if self._closed.is_set():
                return None
            if self._mailbox is None:
                raise SourceError(
                    f"{self.name} stopped delivering frames",
                    expected=f"a frame within {self._timeout:g} s",
                    got=str(self._failure or "none"),
                    next_step="check the cable or network, then start again",
                ) from self._failure
            frame, self._mailbox = self._mailbox, None
            return frame

    def _read(self) -> None:
        try:
            number = 0
            while not self._closed.is_set():
                if not self._capture.grab():
                    self._closed.wait(RETRY)  # a hiccup; whether it is more, the waiting side's timeout decides
                    continue
                captured = time.time()
                if number % self._stride == 0:
                    image_rgb = retrieve_rgb(self._capture, self._cv2)
                    if image_rgb is not None:
                        self._put(VideoFrame(image_rgb, number, captured))
                number += 1
        except Exception as cause:  # whatever the driver raises: the side that waits for frames must hear of it
            with self._changed:
                self._failure = cause
                self._changed.notify_all()
        finally:
            self._capture.release()

    def _put(self, frame: VideoFrame) -> None:
        with self._changed:
            self.dropped += self._mailbox is not None
            self._mailbox = frame
            self._changed.notify_all()
