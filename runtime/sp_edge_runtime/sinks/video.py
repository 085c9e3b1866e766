"""Writes a stream's frames, with what was recognised drawn on them, as a video."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sp_edge.errors import SourceError
from sp_edge.files import atomic_file
from sp_edge_runtime.sinks.overlay import annotate
from sp_edge_runtime.sinks.writing import check_free, unwritable
from sp_edge_runtime.sources.address import redact
from sp_edge_runtime.sources.opencv import opencv, quiet
from sp_edge_runtime.streams.result import FrameResult, StreamEvent

CODECS = {".mp4": ("mp4v",), ".webm": ("VP80", "VP90")}


class VideoSink:
    """The frames with what was recognised drawn on them, as a video of the first frame's size; others are fitted into it.

    The file takes its name when it is complete; without a frame there is none.

    Args:
        path: ends in .mp4 or .webm.
        fps: frames a second at which the video plays.

    Raises:
        MissingExtraError: OpenCV is not installed.
        SourceError: such a video cannot be written; at `close`, the file turned out broken or cut short.
    """

    def __init__(self, path: Path, fps: float) -> None:
        if path.suffix.lower() not in CODECS or not 0 < fps <= 1000:
            raise SourceError(
                "no such video can be written",
                expected=f"{' or '.join(CODECS)}, 0 to 1000 fps",
                got=f"{redact(str(path))}, {fps} fps",  # a mistyped source may have been taken for it
            )
        check_free(path)
        self._cv2 = opencv("writing a video")
        self._path = path
        self._fps = fps
        self._file = ExitStack()
        self._writer: Any = None
        self._size_wh = (0, 0)

    def write(self, result: FrameResult) -> None:
        """Adds one frame."""
        image_rgb = result.frame.image_rgb
        if self._writer is None:
            self._open((image_rgb.shape[1], image_rgb.shape[0]))
        # OpenCV passes over frames of another size without a word.
        drawn_rgb = annotate(_fitted(image_rgb, self._size_wh), result.prediction, result.smoothed)
        self._writer.write(self._cv2.cvtColor(drawn_rgb, self._cv2.COLOR_RGB2BGR))

    def event(self, event: StreamEvent) -> None:
        """Draws nothing: the next frame bears the label."""

    def close(self) -> None:
        """Completes the file, looks whether it can be read, and gives it its name."""
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        with self._file:
            writer.release()
            written = self._cv2.VideoCapture(str(self._temporary))
            readable, claimed = written.grab(), written.get(self._cv2.CAP_PROP_FRAME_COUNT)
            written.release()
            if not readable:
                raise SourceError(
                    f"the video {self._path} was not written", expected="a readable video", next_step="is the disk full?"
                )
        # OpenCV does not say that a write failed. A .webm that broke off plays up to there, and does not know its length.
        if claimed <= 0 and shutil.disk_usage(self._path.parent).free == 0:
            raise SourceError(f"the video {self._path} is not complete", expected="room on the disk", got="a full disk")

    def _open(self, size_wh: tuple[int, int]) -> None:
        with ExitStack() as stack:
            try:
                temporary = stack.enter_context(atomic_file(self._path))
            except OSError as cause:
                raise unwritable(self._path, cause) from cause
            codecs = CODECS[self._path.suffix.lower()]
            for codec in codecs:
                fourcc = self._cv2.VideoWriter_fourcc(*codec)
                with quiet():
                    writer = self._cv2.VideoWriter(str(temporary), fourcc, self._fps, size_wh)
                if writer.isOpened():
                    self._writer, self._temporary, self._size_wh = writer, temporary, size_wh
                    self._file = stack.pop_all()
                    return
            raise SourceError(
                f"cannot write the video {self._path}",
                expected=f"an OpenCV with {' or '.join(codecs)} for {size_wh[0]}x{size_wh[1]} pixels",
                got="none that opens",
                next_step="the other ending, .mp4 or .webm, needs another encoder",
            )


def _fitted(image_rgb: NDArray[np.uint8], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """The image scaled into a size with black margins: uint8 (H, W, 3) RGB."""
    if (image_rgb.shape[1], image_rgb.shape[0]) == size_wh:
        return image_rgb
    return np.asarray(ImageOps.pad(Image.fromarray(image_rgb), size_wh))
