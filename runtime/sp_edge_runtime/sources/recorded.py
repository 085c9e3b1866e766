"""Reads the frames of a video file, all of them and in order."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sp_edge.errors import SourceError
from sp_edge.preprocess import EXTENSIONS
from sp_edge_runtime.sources.frames import Source, VideoFrame, flipped
from sp_edge_runtime.sources.opencv import claimed_fps, opencv, quiet, retrieve_rgb
from sp_edge_runtime.sources.options import SourceOptions
from sp_edge_runtime.sources.process import CaptureFailedError, CaptureProcess
from sp_edge_runtime.sources.request import CaptureRequest

STILL = 25  # frames that look the same before the video is taken for one that OpenCV does not show


class VideoFileSource(Source):
    """A video file.

    Args:
        path: of the file.
        options: stride, from the first frame on; flip; loop, in which the frames' numbers count on, and the timestamps begin
            again.

    Raises:
        SourceError: OpenCV cannot read it, or it holds no frame, or it is interlaced and this OpenCV shows no such video.
        MissingExtraError: OpenCV is not installed.
    """

    def __init__(self, path: Path, options: SourceOptions = SourceOptions()) -> None:
        super().__init__(str(path))
        self._cv2 = opencv("a video")
        self._path = path
        self._options = options
        capture = self._open()
        try:
            if not capture.grab():
                raise SourceError(f"the video {path} ends before its first frame", expected="at least one frame")
            self.fps = claimed_fps(capture, self._cv2)
            still = _stands_still(capture)
        finally:
            capture.release()
        if still:
            self._refuse_interlaced()

    def __iter__(self) -> Iterator[VideoFrame]:
        """The frames from the file's first on; one that does not decode raises SourceError."""
        number = 0
        while True:
            first, capture = number, self._open()
            position: float | None = None
            try:
                while not self._closed.is_set() and capture.grab():
                    position = self._position(capture, position)
                    if (number - first) % self._options.vid_stride == 0:
                        yield self._frame(capture, number, position)
                    number += 1
            finally:
                capture.release()
            if self._closed.is_set() or not self._options.loop:
                return
            if number == first:
                raise SourceError(f"the video {self.name} has no frames any more", expected="at least one frame")

    def _position(self, capture: Any, before: float | None) -> float:
        """Seconds into the video, where it was `before` at the frame before; None for the first.

        A frame without a time of its own, for which OpenCV says 0, follows at the video's rate: so all of raw H.264, and the
        last ones of an AVI.
        """
        position: float = capture.get(self._cv2.CAP_PROP_POS_MSEC) / 1000
        if before is None or position > 0:
            return position
        return before + (1 / self.fps if self.fps else 0.0)

    def _frame(self, capture: Any, number: int, position: float) -> VideoFrame:
        image_rgb = retrieve_rgb(capture, self._cv2)
        if image_rgb is None:
            raise SourceError(f"frame {number} of {self.name} is damaged", expected="a frame that decodes")
        return VideoFrame(flipped(image_rgb, self._options.flip), number, position)

    def _refuse_interlaced(self) -> None:
        """Raises where OpenCV repeats what lay in memory instead of converting frames, as a process of its own finds."""
        process = CaptureProcess(CaptureRequest("stream", str(self._path.absolute())))
        try:
            process.open()
            process.read()
        except CaptureFailedError as failure:
            if failure.fatal:
                raise SourceError(
                    f"the video {self.name} is interlaced, of which this OpenCV makes no pictures",
                    expected=failure.expected,
                    got=failure.got,
                    next_step=f"ffmpeg -i {shlex.quote(str(self._path))} -vf yadif -pix_fmt yuv420p readable.mp4",
                ) from failure
        except SourceError:
            pass  # it does not read there, but it does here
        finally:
            process.release()

    def _open(self) -> Any:
        with quiet():
            capture = self._cv2.VideoCapture(str(self._path))
        if not capture.isOpened():
            capture.release()
            raise SourceError(
                f"{self._path} is no video that OpenCV can read",
                expected=f"a video, or a picture ({', '.join(sorted(EXTENSIONS))})",
                next_step=f"ffmpeg -i {shlex.quote(str(self._path))} -pix_fmt yuv420p readable.mp4",
            )
        return capture


def _stands_still(capture: Any) -> bool:
    """Whether the first frames, of which the first is grabbed, are the same to the bit; what a camera films never is."""
    first = capture.retrieve()[1]
    for _ in range(STILL - 1):
        if not capture.grab():
            break
        if not np.array_equal(first, capture.retrieve()[1]):
            return False
    return True
