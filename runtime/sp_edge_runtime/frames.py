"""What a source of frames is: numbered, timed RGB images in order."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sp_edge.errors import SourceError


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """One frame; whoever receives it owns it.

    Attributes:
        image_rgb: uint8 (H, W, 3) RGB.
        frame_id: number of the frame in its source, from 0; frames that are skipped or dropped count too.
        timestamp: seconds: of a live source the time of day of the capture (`time.time`), of a video the position in the
            file, of a picture 0.
    """

    image_rgb: NDArray[np.uint8]
    frame_id: int
    timestamp: float


class Source(ABC):
    """Frames in order, until they end or the source is closed.

    Attributes:
        name: what the user asked for, without credentials.
        live: whether frames come at their own pace, so that those which nobody took in time are dropped. Files never drop.
        timed: whether timestamps say when a frame was taken; pictures have none.
        fps: frames a second as the source claims them; None where it claims nothing.
        dropped: frames captured and never handed on, so far.
    """

    def __init__(self, name: str, *, live: bool = False, timed: bool = True, fps: float | None = None) -> None:
        self.name = name
        self.live = live
        self.timed = timed
        self.fps = fps
        self.dropped = 0
        self._closed = threading.Event()

    @abstractmethod
    def __iter__(self) -> Iterator[VideoFrame]:
        """The frames. Raises SourceError or ImageError where one cannot be had."""

    def close(self) -> None:
        """Ends the iteration before its next frame, in whatever thread it runs; a second call does nothing."""
        self._closed.set()

    def __enter__(self) -> Source:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Capture(Protocol):
    """What the sources use of cv2.VideoCapture."""

    def grab(self) -> bool:
        """Waits for the next frame."""
        ...

    def retrieve(self) -> tuple[bool, Any]:
        """Decodes what `grab` got: uint8 (H, W, 3) BGR."""
        ...

    def get(self, prop: int) -> float:
        """A property of the camera or video."""
        ...

    def release(self) -> None:
        """Closes the camera or video."""
        ...


def retrieve_rgb(capture: Capture, cv2: Any) -> NDArray[np.uint8] | None:
    """The grabbed frame as uint8 (H, W, 3) RGB; None where it does not decode. The one place that turns BGR into RGB.

    Raises:
        SourceError: the frame is not uint8 (H, W, 3).
    """
    decoded, image_bgr = capture.retrieve()
    if not decoded or image_bgr is None:
        return None
    if image_bgr.dtype != np.uint8 or image_bgr.ndim != 3 or image_bgr.shape[2] != 3:
        got = f"{image_bgr.dtype} {image_bgr.shape}"
        raise SourceError("the frames have a form that is not supported", expected="uint8 (H, W, 3)", got=got)
    return np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB))


def claimed_fps(capture: Capture, cv2: Any) -> float | None:
    """Frames a second as a camera or video claims them; None for a claim that cannot be."""
    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if 0 < rate <= 1000 else None
