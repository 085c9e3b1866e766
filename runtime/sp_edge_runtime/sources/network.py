"""Captures network streams: over HTTP pictures one by one, everything else by FFmpeg through PyAV."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from sp_edge.errors import SourceError
from sp_edge_runtime.sources.address import redact
from sp_edge_runtime.sources.decode import Decoder
from sp_edge_runtime.sources.mjpeg import capture_pictures
from sp_edge_runtime.sources.pyav import Extent, claimed_fps, is_last, pyav, video_of
from sp_edge_runtime.sources.request import Captured, CaptureRequest

TCP_FIRST = {"rtsp_flags": "prefer_tcp"}  # nothing is lost over it
KEY_FRAME = 30.0  # seconds for which packets without a whole frame are signs of life: the next key frame may take so long
WINDOW = 10.0  # seconds over which the quickest packet is remembered


def capture_network(request: CaptureRequest) -> tuple[float | None, Iterator[Captured | None]]:
    """Opens a network stream; see `capture`."""
    if request.address.lower().startswith(("http:", "https:")) and (pictures := capture_pictures(request)):
        return pictures
    av = pyav("a network stream")
    # FFmpeg takes a transport that ends an RTSP address for its own, and does not send it.
    chosen = request.address.lower().endswith(("?udp", "?tcp", "&udp", "&tcp"))
    try:
        container = av.open(request.address, options={} if chosen else TCP_FIRST, timeout=request.timeout)
    except (av.FFmpegError, ValueError) as cause:
        raise request.unopened(expected="a stream that delivers", got=str(cause), check_with="ffplay") from cause
    stream = video_of(container)
    if stream is None:
        container.close()
        raise request.unopened(expected="a stream that delivers", got="no pictures in it", check_with="ffplay")
    return claimed_fps(stream), _frames(av, container, stream, request)


def _frames(av: Any, container: Any, stream: Any, request: CaptureRequest) -> Iterator[Captured | None]:
    name = redact(request.address)
    decoder, extent, clock = Decoder(stream, name, live=True), Extent(container, stream), Clock()
    packets, read, whole = container.demux(), 0, time.monotonic()
    try:
        while True:
            try:
                packet = next(packets)
            except av.error.ExitError as cause:  # how PyAV says that its timeout is over
                raise SourceError(
                    f"{name} stopped delivering frames", expected=f"a frame within {request.timeout:g} s", got="none"
                ) from cause
            except (av.FFmpegError, StopIteration) as cause:
                if extent.declared and not extent.missing:
                    return  # a server that says no length of its own
                raise SourceError(f"{name} broke off", expected="further frames", got=str(cause)) from cause
            extent.add(packet)
            if packet.stream is not stream:
                continue
            last = is_last(packet)
            # A video that is served over HTTP ends where it says so. What the decoder still holds otherwise is of the past.
            if last and (extent.missing or not extent.declared):
                raise SourceError(f"{name} broke off", expected=extent.claim or "further frames")
            came = False
            for frame, captured in decoder.frames(packet, clock.captured(packet)):
                came, whole = True, time.monotonic()
                number = read + decoder.damaged
                read += 1
                if number % request.stride:
                    yield None
                    continue
                seconds = time.time() - (time.monotonic() - captured)
                yield Captured(number, seconds, captured, decoder.rgb(frame), decoder.damaged)
            if last:
                return
            if not came and time.monotonic() - whole < KEY_FRAME:
                yield None
    finally:
        container.close()


class Clock:
    """When a packet's frame was captured: when it arrived, less what it was late.

    A network that stalls hands over at once what it held. The packet that came quickest in the last ten to twenty seconds tells
    how the stream's time and ours go together. By that the others are late.
    """

    def __init__(self) -> None:
        self._began = 0.0
        self._least = self._least_before = float("inf")
        self._decoded = float("-inf")

    def captured(self, packet: Any) -> float:
        """Seconds of `time.monotonic`, for a packet that has just arrived."""
        arrived = time.monotonic()
        if packet.pts is None or not packet.time_base:
            return arrived
        return self.at(arrived, float(packet.pts * packet.time_base), float((packet.dts or packet.pts) * packet.time_base))

    def at(self, arrived: float, shown: float, decoded: float) -> float:
        """Of a packet that arrived at `arrived`, is shown at `shown` and decoded at `decoded` of the stream's own seconds."""
        if decoded < self._decoded:  # the stream began anew
            self._least = self._least_before = float("inf")
        self._decoded = decoded
        if arrived - self._began > WINDOW:
            self._began, self._least_before, self._least = arrived, self._least, float("inf")
        self._least = min(self._least, arrived - shown)
        return min(self._least, self._least_before) + shown
