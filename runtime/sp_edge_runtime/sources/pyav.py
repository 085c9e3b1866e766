"""PyAV, imported only when a video or network stream asks for it, and what a container claims to hold."""

from __future__ import annotations

from typing import Any

from sp_edge_runtime.sources.optional import optional

# Containers whose header says how long they are; elsewhere FFmpeg looks for the end, or guesses from the number of bytes.
_DECLARING = ("matroska", "mov", "avi")
_SLACK = 2  # frames that a header may claim too many


def pyav(purpose: str) -> Any:
    """The module av.

    Args:
        purpose: as `optional` takes it.

    Raises:
        MissingExtraError, SourceError: as `optional`.
    """
    return optional("av", package="av", title="PyAV", purpose=purpose, next_step="pip install --force-reinstall av")


def video_of(container: Any) -> Any:
    """The first stream of pictures that can be decoded, a cover of a record left out; None where there is none."""
    for stream in container.streams.video:
        if stream.codec_context is not None and "attached_pic" not in (stream.disposition.name or ""):
            return stream
    return None


def is_last(packet: Any) -> bool:
    """Whether a packet says that its stream is over; an empty one within it stands for the frame before."""
    return not packet.size and packet.dts is None


def claimed_fps(stream: Any) -> float | None:
    """Frames a second as a stream claims them; None for a claim that cannot be."""
    rate = stream.guessed_rate or stream.average_rate
    return float(rate) if rate and 0 < rate <= 1000 else None


class Extent:
    """How much of a recording there is, against what its header claims.

    Args:
        container: an open one.
        stream: its video.
    """

    def __init__(self, container: Any, stream: Any) -> None:
        declares = container.format.name.startswith(_DECLARING)
        self._stream = stream
        self._fps = claimed_fps(stream)
        self._frames: int = stream.frames if declares else 0
        self._seconds = container.duration / 1e6 if declares and container.duration else 0.0
        if container.format.name == "avi":
            # Its frames are steps of its clock, of which some are not stored; FFmpeg shortens the duration to what is there.
            self._frames, self._seconds = 0, float(stream.frames * stream.time_base)
        # Matroska's length counts from 0 on, however late its first frame is.
        self._from = 0.0 if container.format.name.startswith("matroska") else (container.start_time or 0) / 1e6
        self._packets, self._reached = 0, 0.0

    def add(self, packet: Any) -> None:
        """Counts a packet of any of the container's streams: sound may go on after the last frame."""
        self._packets += packet.stream is self._stream and packet.size > 0
        begins = packet.dts if packet.pts is None else packet.pts
        if begins is not None and packet.time_base:
            ends = float((begins + (packet.duration or 0)) * packet.time_base) - self._from
            self._reached = max(self._reached, ends)

    @property
    def declared(self) -> bool:
        """Whether the header says how long the recording is."""
        return self._frames > 0 or self._seconds > 0

    @property
    def missing(self) -> bool:
        """Whether less was there than is claimed."""
        if self._frames:
            return self._packets < self._frames - _SLACK
        return self._reached < self._seconds - (_SLACK / self._fps if self._fps else 1.0)

    @property
    def claim(self) -> str:
        """The claim in words: '250 frames', 'about 250 frames', '10.0 s'; empty where there is none."""
        if self._frames:
            return f"{self._frames} frames"
        if self._seconds and self._fps:
            return f"about {round(self._seconds * self._fps)} frames"
        return f"{self._seconds:.1f} s" if self._seconds else ""
