"""Where a stream's results go: JSON lines, the terminal, an annotated video."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import weakref
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sp_edge.errors import SourceError
from sp_edge.files import atomic_file, json_text
from sp_edge_runtime.sinks.overlay import annotate
from sp_edge_runtime.sources.address import redact
from sp_edge_runtime.sources.frames import State, StateChange
from sp_edge_runtime.sources.opencv import opencv, quiet
from sp_edge_runtime.streams.result import FrameResult, StreamEvent

CODECS = {".mp4": ("mp4v",), ".webm": ("VP80", "VP90")}


class JsonLinesSink:
    """One JSON object a line and frame, in UTF-8, and one an event, which has the key `event`.

    Lines go one by one to a temporary file beside `path`. The file takes the name `path` at `close`, and also
    when the program ends on an error, so that what was written is kept.

    Raises:
        SourceError: the file cannot be created; at `write`, the disk is full.
    """

    def __init__(self, path: Path) -> None:
        _check_free(path)
        self._path = path
        with ExitStack() as stack:
            try:
                # Without a buffer: after a full disk, closing has nothing left to write that could fail again.
                self._file = stack.enter_context(stack.enter_context(atomic_file(path)).open("wb", buffering=0))
            except OSError as cause:
                raise _unwritable(path, cause) from cause
            # Also runs when the program ends without `close`, and once only.
            self._finish = weakref.finalize(self, stack.pop_all().close)

    def write(self, result: FrameResult) -> None:
        """Writes one line, or nothing."""
        self._line(result.to_json())

    def event(self, event: StreamEvent) -> None:
        """Writes one line, or nothing."""
        self._line(event.to_json())

    def close(self) -> None:
        """Gives the file its name; a second call does nothing."""
        try:
            self._finish()
        except OSError as cause:
            raise _unwritable(self._path, cause) from cause

    def _line(self, value: dict[str, Any]) -> None:
        line = (json_text(value) + "\n").encode()
        whole = self._file.tell()
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as cause:
            self._file.truncate(whole)
            raise _unwritable(self._path, cause) from cause


class JsonStreamSink:
    """The same lines at once to a stream, for a program that reads them.

    Args:
        stream: where to print; standard output by default.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout

    def write(self, result: FrameResult) -> None:
        """Prints one line."""
        self._line(result.to_json())

    def event(self, event: StreamEvent) -> None:
        """Prints one line."""
        self._line(event.to_json())

    def close(self) -> None:
        """Nothing to finish: the stream belongs to the caller."""

    def _line(self, value: dict[str, Any]) -> None:
        print(json_text(value), file=self._stream, flush=True)


class TerminalSink:
    """A line on a terminal whenever a label or a source's state changes.

    Args:
        stream: where to print; standard output by default.
        named: say which source a label is of.
    """

    def __init__(self, stream: TextIO | None = None, *, named: bool = False) -> None:
        self._stream = stream or sys.stdout
        self._named = named
        self._labels: dict[str, str] = {}

    def write(self, result: FrameResult) -> None:
        """Prints the frame's number, label and confidence, if the label is not the source's last one."""
        if result.label != self._labels.get(result.source):
            self._labels[result.source] = result.label
            confidence = (result.smoothed or result.prediction).confidence
            self._line(
                result.source if self._named else "", f"frame {result.frame.frame_id}: {result.label} ({confidence:.0%})"
            )

    def event(self, event: StreamEvent) -> None:
        """Prints a source's new state; what appeared or left is a label that changed, which `write` prints."""
        if isinstance(event, StateChange) and event.state is not State.INITIALISING:
            self._line(event.source, event.state.value + (f" ({event.reason})" if event.reason else ""))
            if event.state is State.RESTARTING:
                self._labels.pop(event.source, None)

    def close(self) -> None:
        """Nothing to finish: the stream belongs to the caller."""

    def _line(self, source: str, text: str) -> None:
        print(f"{source}: {text}" if source else text, file=self._stream, flush=True)


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
        _check_free(path)
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
                raise _unwritable(self._path, cause) from cause
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


def _check_free(path: Path) -> None:
    """Now, and not after a day of results, when the file is to take its name."""
    if path.is_dir():
        raise SourceError(f"cannot write {path}", expected="the name of a file", got="a folder")


def _unwritable(path: Path, cause: OSError) -> SourceError:
    return SourceError(f"cannot write {path}", expected="a folder with room that may be written to", got=str(cause))
