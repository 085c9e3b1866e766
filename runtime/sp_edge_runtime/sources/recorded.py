"""Reads frames from files, all of them and in order."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sp_edge.errors import SourceError
from sp_edge.preprocess import EXTENSIONS, load_image
from sp_edge_runtime.sources.frames import Flip, Source, VideoFrame, flipped
from sp_edge_runtime.sources.opencv import claimed_fps, opencv, quiet, retrieve_rgb
from sp_edge_runtime.sources.process import CaptureFailedError, CaptureProcess
from sp_edge_runtime.sources.request import CaptureRequest

STILL = 25  # frames that look the same before the video is taken for one that OpenCV does not show


class PictureSource(Source):
    """Picture files, one a frame.

    Args:
        paths: at least one.
        name: what the user asked for.
        vid_stride: take every how manieth, from the first on.
        loop: begin again after the last; the frames' numbers count on.
        flip: how to mirror or turn them.
    """

    def __init__(
        self, paths: Sequence[Path], name: str, *, vid_stride: int = 1, loop: bool = False, flip: Flip = "none"
    ) -> None:
        super().__init__(name, timed=False)
        self._paths = paths
        self._stride = vid_stride
        self._loop = loop
        self._flip: Flip = flip

    def __iter__(self) -> Iterator[VideoFrame]:
        """The pictures in order; one that cannot be read raises ImageError with its path."""
        for lap in itertools.count() if self._loop else range(1):
            for index in range(0, len(self._paths), self._stride):
                if self._closed.is_set():
                    return
                yield VideoFrame(flipped(load_image(self._paths[index]), self._flip), lap * len(self._paths) + index, 0.0)


class VideoFileSource(Source):
    """A video file.

    Args:
        path: of the file.
        vid_stride: take every how manieth frame, from the first on.
        loop: begin again after the last; the frames' numbers count on, the timestamps begin again.
        flip: how to mirror or turn them.

    Raises:
        SourceError: OpenCV cannot read it, or it holds no frame, or it is interlaced and this OpenCV shows no such video.
        MissingExtraError: OpenCV is not installed.
    """

    def __init__(self, path: Path, *, vid_stride: int = 1, loop: bool = False, flip: Flip = "none") -> None:
        super().__init__(str(path))
        self._cv2 = opencv("a video")
        self._path = path
        self._stride = vid_stride
        self._loop = loop
        self._flip: Flip = flip
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
                    if (number - first) % self._stride == 0:
                        yield self._frame(capture, number, position)
                    number += 1
            finally:
                capture.release()
            if self._closed.is_set() or not self._loop:
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
        return VideoFrame(flipped(image_rgb, self._flip), number, position)

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
