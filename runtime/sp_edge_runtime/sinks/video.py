"""Writes a stream's frames, with what was recognized drawn on them, as a video."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sp_edge.errors import SourceError
from sp_edge.files import atomic_file
from sp_edge.view import Box
from sp_edge_runtime.sinks.overlay import annotate
from sp_edge_runtime.sinks.writing import check_free, unwritable
from sp_edge_runtime.sources.address import redact
from sp_edge_runtime.sources.colour import BT709, SMPTE170M, is_hd
from sp_edge_runtime.sources.pyav import pyav
from sp_edge_runtime.streams.result import FrameResult, StreamEvent

CODECS = {".mp4": ("libx264", "libopenh264", "mpeg4"), ".webm": ("libvpx-vp9", "libvpx")}  # the first that FFmpeg has
OPTIONS = {
    "libx264": {"preset": "superfast", "crf": "23", "bf": "0"},  # B-frames make an MP4 of uneven rate tell a wrong length
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "32", "b": "0"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "4M"},
}
THREADS = 2  # recognition needs the other cores
TICKS = 60000  # a second; MPEG-4 takes no more than 65535
_LEAST = TICKS // 1000  # between two frames


class VideoSink:
    """The frames with what was recognized drawn on them, as a video of the first frame's size; others are fitted into it.

    Each frame is shown at its own time, counted from the first one's: a video of a live source lasts as long as the filming,
    whatever was skipped or dropped. Colours are BT.709 in HD and BT.601 in smaller sizes, limited range, and marked as such.
    The file takes its name when it is complete; without a frame there is none.

    Args:
        path: ends in .mp4 (H.264) or .webm (VP9).
        fps: frames a second where they have no time, as pictures have none; above 0, up to 1000.

    Raises:
        MissingExtraError: PyAV is not installed.
        SourceError: such a video cannot be written; at `write` and `close`, the disk is full.
    """

    def __init__(self, path: Path, fps: float) -> None:
        if path.suffix.lower() not in CODECS or not 0 < fps <= 1000:
            raise SourceError(
                "no such video can be written",
                expected=f"{' or '.join(CODECS)}, 0 to 1000 fps",
                got=f"{redact(str(path))}, {fps} fps",  # a mistyped source may have been taken for it
            )
        check_free(path)
        self._av = pyav("writing a video")
        self._path = path
        self._fps = fps
        self._timeline = _Timeline(fps)
        self._file = ExitStack()
        self._encoder: _Encoder | None = None
        self._broken = False

    def write(self, result: FrameResult) -> None:
        """Adds one frame."""
        image_rgb, prediction = _even(result.frame.image_rgb), result.prediction
        if self._encoder is None:
            self._encoder = self._open((image_rgb.shape[1], image_rgb.shape[0]))
        fitted_rgb = _fitted(image_rgb, self._encoder.size_wh)
        if prediction.view is not None:
            view = _moved(prediction.view, (image_rgb.shape[1], image_rgb.shape[0]), self._encoder.size_wh)
            prediction = replace(prediction, view=view)
        drawn_rgb = annotate(fitted_rgb, prediction, result.smoothed)
        try:
            self._encoder.add(drawn_rgb, self._timeline.place(result.clock))
        except self._av.FFmpegError as cause:
            self._broken = True
            raise self._incomplete(cause) from cause

    def event(self, event: StreamEvent) -> None:
        """Draws nothing: the next frame bears the label."""

    def close(self) -> None:
        """Completes the file, looks whether it can be read, and gives it its name; a second call does nothing."""
        if self._encoder is None:
            return
        encoder, self._encoder = self._encoder, None
        failure = None
        with self._file:
            try:
                encoder.close(self._timeline.place(None))
            except self._av.FFmpegError as cause:
                failure = cause
            if not encoder.is_readable():
                raise SourceError(
                    f"the video {self._path} was not written",
                    expected="a readable video",
                    next_step="look whether the disk is full",
                )
        if failure and not self._broken:  # it plays up to there
            raise self._incomplete(failure) from failure

    def _open(self, size_wh: tuple[int, int]) -> _Encoder:
        with ExitStack() as stack:
            try:
                temporary = stack.enter_context(atomic_file(self._path))
            except OSError as cause:
                raise unwritable(self._path, cause) from cause
            try:
                encoder = _Encoder(self._av, temporary, size_wh, self._fps)
            except (self._av.FFmpegError, ValueError) as cause:
                raise SourceError(
                    f"cannot write the video {self._path}",
                    expected=f"an FFmpeg with {' or '.join(CODECS[self._path.suffix.lower()])} for {size_wh[0]}x{size_wh[1]}",
                    got=str(cause),
                    next_step="the other ending, .mp4 or .webm, needs another encoder",
                ) from cause
            self._file = stack.pop_all()
            return encoder

    def _incomplete(self, cause: Any) -> SourceError:
        return SourceError(f"the video {self._path} is not complete", expected="room on the disk", got=cause.strerror)


class _Timeline:
    """Places frames in a video by the clock of their source, from 0 on, each after the one before."""

    def __init__(self, fps: float) -> None:
        self._step = 1 / fps  # seconds from one frame to the next, as it was last
        self._clock: float | None = None
        self._begins = self._next = 0.0
        self._last = -_LEAST

    def place(self, clock: float | None) -> int:
        """When the frame is shown, ticks.

        Args:
            clock: seconds. Where it is None, or runs back because a file begins again, the frame follows the one before.
        """
        at = self._next
        if clock is not None:
            if self._clock is None or clock <= self._clock:
                self._begins = at - clock
            else:
                self._step = clock - self._clock
            self._clock, at = clock, self._begins + clock
        self._next = at + self._step
        self._last = max(round(at * TICKS), self._last + _LEAST)
        return self._last


class _Encoder:
    """A video file that is being written.

    Args:
        av: the module.
        path: of the file; its ending is the container.
        size_wh: pixels, even.
        fps: frames a second, for the header of containers that tell it.

    Raises:
        av.FFmpegError, ValueError: there is no such encoder, or it does not take this size.
    """

    def __init__(self, av: Any, path: Path, size_wh: tuple[int, int], fps: float) -> None:
        self.size_wh = size_wh
        self._av = av
        self._waiting: Any = None  # the last frame
        self._failed = False
        self._url = f"file:{path}"  # a name may have a colon, which is no protocol
        suffix = path.suffix.lower()
        codec = _first(av, CODECS[suffix])
        # So a file that breaks off can be played up to there; once complete it is an ordinary one.
        options = {"movflags": "hybrid_fragmented"} if suffix == ".mp4" else {}
        self._container = av.open(self._url, "w", format=suffix[1:], options=options)
        try:
            self._stream = self._container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
            self._stream.options = OPTIONS.get(codec, {})
            self._stream.pix_fmt = "yuv420p"
            self._stream.width, self._stream.height = size_wh
            self._matrix = BT709 if is_hd(*size_wh) else SMPTE170M
            context = self._stream.codec_context
            context.time_base, context.thread_count = Fraction(1, TICKS), THREADS
            context.colorspace, context.color_range = self._matrix, av.video.reformatter.ColorRange.MPEG
            context.color_primaries = context.color_trc = BT709
            context.flags |= av.codec.context.Flags.frame_duration
            context.open()
        except BaseException:
            self._container.close()
            raise

    def add(self, image_rgb: NDArray[np.uint8], at: int) -> None:
        """Adds a frame: uint8 (H, W, 3) RGB of the video's size, shown from `at` on, in ticks."""
        self._encode_until(at)
        ranges = self._av.video.reformatter.ColorRange
        frame = self._av.VideoFrame.from_ndarray(image_rgb, "rgb24").reformat(
            format="yuv420p", dst_colorspace=self._matrix, src_color_range=ranges.JPEG, dst_color_range=ranges.MPEG
        )
        frame.pts, frame.time_base = at, Fraction(1, TICKS)
        self._waiting = frame

    def _encode_until(self, at: int) -> None:
        """Encodes the last frame, of which is known now how long it is shown."""
        if self._waiting is not None:
            frame, self._waiting = self._waiting, None
            frame.duration = at - frame.pts
            self._mux(self._stream.encode(frame))

    def close(self, at: int) -> None:
        """Ends the file at a time in ticks; raises av.FFmpegError where that fails."""
        try:
            if not self._failed:
                self._encode_until(at)
                self._mux(self._stream.encode(None))
        finally:
            self._container.close()

    def _mux(self, packets: Any) -> None:
        """Writes packets. After a failure nothing more may be written: FFmpeg would use what it has freed."""
        try:
            self._container.mux(packets)
        except self._av.FFmpegError:
            self._failed = True
            raise

    def is_readable(self) -> bool:
        """Whether the file's first frame can be decoded; FFmpeg does not tell of every write that failed."""
        try:
            with self._av.open(self._url) as written:
                return next(written.decode(video=0), None) is not None
        except self._av.FFmpegError:
            return False


def _first(av: Any, codecs: tuple[str, ...]) -> str:
    for codec in codecs:
        try:
            av.codec.Codec(codec, "w")
        except ValueError:
            continue
        return codec
    raise ValueError("none of them")


def _even(image_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image with an edge repeated where a side is odd: uint8 (H, W, 3) RGB. Two by two pixels share a colour in a video."""
    height, width = image_rgb.shape[:2]
    if height % 2 or width % 2:
        return np.pad(image_rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return image_rgb


def _fitted(image_rgb: NDArray[np.uint8], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """The image scaled into a size with black margins: uint8 (H, W, 3) RGB."""
    if (image_rgb.shape[1], image_rgb.shape[0]) == size_wh:
        return image_rgb
    return np.asarray(ImageOps.pad(Image.fromarray(image_rgb), size_wh))


def _moved(view: Box, from_wh: tuple[int, int], to_wh: tuple[int, int]) -> Box:
    """Where a box, x, y, width and height, lies in what `_fitted` makes of an image."""
    if from_wh == to_wh:
        return view
    scale = min(to / side for side, to in zip(from_wh, to_wh, strict=True))
    left, top = ((to - side * scale) / 2 for side, to in zip(from_wh, to_wh, strict=True))
    x, y, width, height = view
    return round(left + x * scale), round(top + y * scale), max(round(width * scale), 1), max(round(height * scale), 1)
