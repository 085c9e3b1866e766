"""Reads the frames of a video file, all of them and in order."""

from __future__ import annotations

import shlex
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sp_edge.errors import SourceError
from sp_edge_runtime.sources.decode import Decoder
from sp_edge_runtime.sources.frames import Source, VideoFrame, flipped
from sp_edge_runtime.sources.options import SourceOptions
from sp_edge_runtime.sources.pyav import Extent, claimed_fps, pyav, video_of


class VideoFileSource(Source):
    """A video file, decoded by FFmpeg through PyAV.

    Args:
        path: of the file.
        options: stride, from the first frame on; flip; loop, in which the frames' numbers count on, and the timestamps begin
            again.

    Raises:
        SourceError: FFmpeg cannot read it, or it holds no frame.
        MissingExtraError: PyAV is not installed.
    """

    def __init__(self, path: Path, options: SourceOptions = SourceOptions()) -> None:
        super().__init__(str(path))
        self._av = pyav("a video")
        self._path = path
        self._options = options
        with self._open() as container:
            stream = video_of(container)
            self.fps = claimed_fps(stream)
            if next(_decoded(container, Decoder(stream, self.name, live=True)), None) is None:
                raise SourceError(f"the video {path} ends before its first frame", expected="at least one frame")

    def __iter__(self) -> Iterator[VideoFrame]:
        """The frames from the file's first on, without damaged ones.

        Raises:
            SourceError: after the last frame, where the file breaks off or frames were left out.
        """
        number = 0
        while True:
            first = number
            for frame in self._lap(first):
                number += 1
                if self._closed.is_set():
                    return
                if frame is not None:
                    yield frame
            if not self._options.loop:
                return
            if number == first:
                raise SourceError(f"the video {self.name} has no frames any more", expected="at least one frame")

    def _lap(self, first: int) -> Iterator[VideoFrame | None]:
        """One run through the file, whose frames are numbered from `first` on; None for one that the stride leaves out."""
        with self._open() as container:
            stream = video_of(container)
            decoder, extent, clock = Decoder(stream, self.name), Extent(container, stream), _Clock(container, self.fps)
            read = 0
            for frame in _decoded(container, decoder, extent.add, clock.add):
                seconds = clock.seconds(frame)
                if read % self._options.vid_stride:
                    yield None
                else:
                    yield VideoFrame(flipped(decoder.rgb(frame), self._options.flip), first + read + decoder.damaged, seconds)
                read += 1
            self.damaged += decoder.damaged
            if decoder.damaged or extent.missing:
                raise SourceError(
                    f"the video {self.name} is damaged or breaks off",
                    expected=extent.claim or "frames that are whole",
                    got=f"{read} frames" + (f", {decoder.damaged} damaged ones left out" if decoder.damaged else ""),
                    next_step="the results up to here are kept; record or copy it again",
                )

    def _open(self) -> Any:
        try:
            # An absolute path, so that no colon makes an address of it.
            container = self._av.open(str(self._path.absolute()))
        except (self._av.FFmpegError, ValueError) as cause:
            raise self._no_video(str(cause)) from cause
        if video_of(container) is None:
            container.close()
            raise self._no_video("no pictures in it")
        return container

    def _no_video(self, got: str) -> SourceError:
        return SourceError(
            f"{self._path} is no video that FFmpeg can read",
            expected="a video, or a JPEG, PNG or other picture",
            got=got.replace(str(self._path.absolute()), str(self._path)),
            next_step=f"ffmpeg -i {shlex.quote(str(self._path))} -pix_fmt yuv420p readable.mp4",
        )


def _decoded(container: Any, decoder: Decoder, *told: Callable[[Any], None]) -> Iterator[Any]:
    """The frames of a container's video, which ends where it cannot be read; `told` hear of each packet of every stream."""
    packets, video = container.demux(), video_of(container)
    while True:
        try:
            packet = next(packets, None)
        except pyav("a video").FFmpegError:
            decoder.damaged += 1
            return
        if packet is None:
            return
        for tell in told:
            tell(packet)
        if packet.stream is video:
            yield from (frame for frame, _ in decoder.frames(packet))


class _Clock:
    """Seconds into a file at which its frames are shown, from the first one on.

    A frame without a time of its own, as all of raw H.264, follows at the video's rate. An AVI knows only in what order its
    frames are decoded, and when the first, second, third one is shown.
    """

    def __init__(self, container: Any, fps: float | None) -> None:
        self._decoding: deque[Any] | None = deque() if container.format.name == "avi" else None
        self._interval = 1 / fps if fps else 0.0
        self._began: float | None = None
        self._latest: float | None = None

    def add(self, packet: Any) -> None:
        """Hears of a packet before its frames come."""
        if self._decoding is not None and packet.size and packet.dts is not None and packet.stream.type == "video":
            self._decoding.append(packet.dts * packet.time_base)

    def seconds(self, frame: Any) -> float:
        """Of the next frame."""
        at: float | None = frame.time
        if self._decoding is not None:
            at = float(self._decoding.popleft()) if self._decoding else None
        if at is None:
            at = 0.0 if self._latest is None else self._latest + self._interval
        self._latest = at
        self._began = at if self._began is None else self._began
        return at - self._began
