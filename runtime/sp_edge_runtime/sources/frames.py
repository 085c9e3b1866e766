"""What a source of frames is: numbered, timed RGB images in order, and the state that the source is in."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge_runtime.sources.options import Flip


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """One frame; whoever receives it owns it.

    Attributes:
        image_rgb: uint8 (H, W, 3) RGB.
        frame_id: number of the frame in its source, from 0; frames that are skipped or dropped count too.
        timestamp: seconds: of a live source the time of day of the capture (`time.time`), of a video the position in the
            file, of a picture 0.
        captured: when it was captured (of a file: decoded), in seconds of `time.monotonic`, which nobody sets back.
    """

    image_rgb: NDArray[np.uint8]
    frame_id: int
    timestamp: float
    captured: float = field(default_factory=time.monotonic)

    @property
    def age(self) -> float:
        """Seconds since the capture."""
        return max(0.0, time.monotonic() - self.captured)


class State(str, Enum):
    """What a live source is doing.

    INITIALIZING until its first frame, RUNNING while frames come, RESTARTING from a failure to the next frame, ENDED when the
    source said that it is over or was closed, ERROR when it failed and is not tried again. A region that a person takes away
    while its source runs is REMOVED.
    """

    INITIALIZING = "initializing"
    RUNNING = "running"
    RESTARTING = "restarting"
    ENDED = "ended"
    ERROR = "error"
    REMOVED = "removed"


@dataclass(frozen=True)
class StateChange:
    """A source came into another state.

    Attributes:
        source: its name, without credentials.
        state: the new one.
        time: of day, `time.time`.
        reason: of RESTARTING and ERROR, without credentials.
    """

    source: str
    state: State
    time: float
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """The fields, with `"event": "state"`, which tells it from a frame and from other events."""
        return {"event": "state", "source": self.source, "state": self.state.value, "reason": self.reason, "time": self.time}


class Source(ABC):
    """Frames in order, until they end or the source is closed.

    Attributes:
        name: what the user asked for, without credentials.
        live: whether frames come at their own pace, so that those which nobody took in time are dropped. Files never drop.
        timed: whether timestamps say when a frame was taken; pictures have none.
        fps: frames a second as the source claims them; None where it claims nothing.
        dropped: frames captured and never handed on, so far.
        stale: frames that were older than a stream's `max_staleness` when their result was there, so far.
        restarts: how often a live source was lost, so far.
        unreadable: pictures that could not be read, so far: path -> why.
        damaged: frames that were left out because not all of them arrived or decoded, so far.
    """

    def __init__(self, name: str, *, live: bool = False, timed: bool = True, fps: float | None = None) -> None:
        self.name = name
        self.live = live
        self.timed = timed
        self.fps = fps
        self.dropped = self.stale = self.restarts = self.damaged = 0
        self.unreadable: dict[str, str] = {}
        self._closed = threading.Event()

    @abstractmethod
    def __iter__(self) -> Iterator[VideoFrame]:
        """The frames. Raises SourceError or ImageError where one cannot be had."""

    def clock(self, frame: VideoFrame) -> float | None:
        """Seconds that tell how far this source's frames are apart, even where the system's clock is set in between.

        Of a live source the monotonic time of the capture, of a video the position in the file, None of pictures.
        """
        if self.live:
            return frame.captured
        return frame.timestamp if self.timed else None

    def close(self) -> None:
        """Ends the iteration before its next frame, in whatever thread it runs; a second call does nothing."""
        self._closed.set()

    def __enter__(self) -> Source:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def flipped(image_rgb: NDArray[np.uint8], flip: Flip) -> NDArray[np.uint8]:
    """The image mirrored or turned clockwise: uint8 (H, W, 3), or (W, H, 3) for a quarter turn; 'none' is the image itself."""
    if flip == "none":
        return image_rgb
    turned = {
        "horizontal": image_rgb[:, ::-1],
        "vertical": image_rgb[::-1],
        "rotate-90": image_rgb.transpose(1, 0, 2)[:, ::-1],
        "rotate-180": image_rgb[::-1, ::-1],
        "rotate-270": image_rgb.transpose(1, 0, 2)[::-1],
    }[flip]
    return np.ascontiguousarray(turned)
