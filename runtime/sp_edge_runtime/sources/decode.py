"""Makes RGB images of a video's packets: whole frames only, deinterlaced, in sRGB, upright, with square pixels."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.errors import SourceError
from sp_edge_runtime.sources import colour
from sp_edge_runtime.sources.h264 import Gaps
from sp_edge_runtime.sources.pyav import is_last, pyav

MOST_HELD = 64  # packets that a decoder may hold
MOST_STRETCH = 4.0  # a pixel's longer side by its shorter; a claim beyond it cannot be


class Decoder:
    """Decodes one video stream. Damaged frames are left out and counted, with all that are built on them.

    Args:
        stream: of PyAV; the decoder configures it.
        name: of the source, for errors.
        live: decode each frame at once. Else several frames are decoded side by side, which is faster, and a frame is held
            back for each of them.

    Attributes:
        damaged: frames and packets that were left out, so far.
    """

    def __init__(self, stream: Any, name: str, *, live: bool = False) -> None:
        self._av = pyav("a video")
        self._stream = stream
        self._name = name
        self._progressive: _Graph | None = None
        self._standard: _Graph | None = None
        self._reformatter = self._av.video.reformatter.VideoReformatter()
        self._packets = self._shown = 0
        # Of packets whose frame has not come out: pts -> number, arrived.
        self._sent: dict[int | None, tuple[int, float]] = {}
        self._held: deque[float] = deque()
        # The first and the last packet of which something was lost: frames are whole again from the next key frame on.
        self._lost: tuple[int, int] | None = None
        self._shape: Fraction | None = None
        self.damaged = 0
        self._gaps = Gaps(stream.codec_context.extradata) if stream.codec_context.name == "h264" else None
        stream.thread_type = "SLICE" if live else "AUTO"
        if stream.codec_context.name == "mjpeg":  # else it fills a JPEG that was cut with the one before
            stream.codec_context.options = {"err_detect": "explode"}

    def frames(self, packet: Any, arrived: float = 0.0) -> Iterator[tuple[Any, float]]:
        """The frames that are complete with this packet, in the order of showing, each with when its own packet arrived.

        Args:
            packet: of the stream; the last one too, which is empty.
            arrived: handed back with the packet's frame.
        """
        last = is_last(packet)
        if not packet.size and not last:
            return
        if self._gaps and packet.size and self._gaps.before(bytes(packet)):
            self._packets += 1
            self._left_out(self._packets)
        self._packets += 1
        if packet.is_corrupt:
            self._left_out(self._packets)
            return
        self._sent[packet.pts] = self._packets, arrived
        try:
            decoded = packet.decode()
        except (self._av.FFmpegError, ValueError):
            self._left_out(self._shown)  # decoders hold frames back: it is one after the latest that came out
            return
        self._shape = self._stream.sample_aspect_ratio
        for frame in decoded:
            self._shown, at = self._sent.pop(frame.pts, (self._shown + 1, arrived))
            if frame.is_corrupt:
                self._left_out(self._shown)
            elif self._lost and not frame.key_frame and self._shown > self._lost[0]:
                self.damaged += 1
            else:
                if self._lost and self._shown > self._lost[1]:
                    self._lost = None
                yield from self._deinterlaced(frame, at)
        self._sent = {pts: sent for pts, sent in self._sent.items() if sent[0] > self._packets - MOST_HELD}
        if last and self._progressive:
            yield from self._timed(self._progressive.rest())

    def rgb(self, frame: Any) -> NDArray[np.uint8]:
        """A frame as uint8 (H, W, 3) sRGB, upright, with square pixels.

        Raises:
            SourceError: its pixels have a form that FFmpeg cannot convert.
        """
        try:
            signs = _display_signs(frame)
            return _turned(self._converted(frame, sideways=not signs[0, 0]), signs)
        except (self._av.FFmpegError, ValueError) as cause:
            raise SourceError(
                f"the frames of {self._name} have a form that is not supported",
                expected="a pixel format that FFmpeg converts to RGB",
                got=f"{frame.format.name}, color space {frame.colorspace}: {cause}",
                next_step="ffmpeg -i VIDEO -pix_fmt yuv420p readable.mp4",
            ) from cause

    def _left_out(self, packet: int) -> None:
        self.damaged += 1
        first, latest = self._lost or (packet, packet)
        self._lost = min(first, packet), max(latest, packet)

    def _deinterlaced(self, frame: Any, arrived: float) -> Iterator[tuple[Any, float]]:
        if self._progressive is None and not frame.interlaced_frame:
            yield frame, arrived
            return
        if self._progressive is None or not self._progressive.fits(frame):
            if self._progressive:
                yield from self._timed(self._progressive.rest())
            # One frame of two fields, as it came; frames that are not interlaced stay as they are.
            self._progressive = _Graph(self._av, frame, "bwdif", "mode=send_frame:deint=interlaced")
        self._held.append(arrived)
        yield from self._timed(self._progressive(frame))

    def _timed(self, frames: Iterator[Any]) -> Iterator[tuple[Any, float]]:
        return ((frame, self._held.popleft()) for frame in frames)

    def _converted(self, frame: Any, *, sideways: bool) -> NDArray[np.uint8]:
        source = {"src_colorspace": colour.matrix_of(frame), "src_color_range": frame.color_range or None}
        width, height = _size_wh(frame, self._shape, sideways)
        if colour.is_hdr(frame):
            wide = self._reformatter.reformat(frame, format="gbrp16le", **source)
            if self._standard is None or not self._standard.fits(wide):
                self._standard = _table_graph(self._av, wide, frame.color_trc)
            (frame,) = self._standard(wide)
            source = {}
        image = self._reformatter.reformat(frame, width, height, format="rgb24", **source)
        return np.asarray(image.to_ndarray())


class _Graph:
    """One of FFmpeg's filters, for frames of one form."""

    def __init__(self, av: Any, first: Any, name: str, arguments: str) -> None:
        self._form = _form(first)
        self._graph = av.filter.Graph()
        base = first.time_base or Fraction(1, 1000)
        nodes = [
            self._graph.add_buffer(width=first.width, height=first.height, format=first.format, time_base=base),
            self._graph.add(name, arguments),
            self._graph.add("buffersink"),
        ]
        self._graph.link_nodes(*nodes)
        self._graph.configure()

    def fits(self, frame: Any) -> bool:
        return self._form == _form(frame)

    def __call__(self, frame: Any) -> Iterator[Any]:
        self._graph.vpush(frame)
        yield from self._ready()

    def rest(self) -> Iterator[Any]:
        """What is held back; nothing can be put in afterwards."""
        self._graph.vpush(None)
        yield from self._ready()

    def _ready(self) -> Iterator[Any]:
        with suppress(BlockingIOError, EOFError):  # PyAV's own are of these kinds
            while True:
                yield self._graph.vpull()


def _form(frame: Any) -> tuple[Any, ...]:
    return frame.width, frame.height, frame.format.name, frame.color_trc


def _table_graph(av: Any, first: Any, transfer: int) -> _Graph:
    # FFmpeg reads the table when the graph is made, and from a file only.
    with tempfile.TemporaryDirectory(prefix="sp-edge-") as folder:
        file = Path(folder) / "table.cube"
        file.write_text(colour.cube(colour.hdr_table(transfer)))
        return _Graph(av, first, "lut3d", f"file={file}:interp=tetrahedral")


def _size_wh(frame: Any, shape: Fraction | None, sideways: bool) -> tuple[int, int]:
    """How large players show a frame, before it is turned: some cameras record fewer columns than there are to be seen."""
    width, height = frame.width, frame.height
    if not shape or not 1 / MOST_STRETCH <= shape <= MOST_STRETCH:
        return width, height
    return (width, max(1, round(height / shape))) if sideways else (max(1, round(width * shape)), height)


def _display_signs(frame: Any) -> NDArray[np.int32]:
    """The signs of the frame's display matrix (ISO/IEC 14496-12, 8.3.2), (2, 2): what turns or mirrors it upright."""
    with suppress(KeyError):
        values = np.frombuffer(bytes(frame.side_data["DISPLAYMATRIX"]), np.int32).reshape(3, 3)[:2, :2]
        signs = np.sign(values) * (np.abs(values) > np.abs(values).max() // 2)
        if abs(round(np.linalg.det(signs))) == 1:
            return np.asarray(signs, np.int32)
    return np.eye(2, dtype=np.int32)


def _turned(image_rgb: NDArray[np.uint8], signs: NDArray[np.int32]) -> NDArray[np.uint8]:
    """The image with each stored point (p, q) shown at (p, q) @ signs; x to the right, y downwards."""
    (a, b), (c, d) = signs.tolist()
    if a == 0:
        image_rgb, a, d = image_rgb.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(image_rgb[:: d or 1, :: a or 1])
