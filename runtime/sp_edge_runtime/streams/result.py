"""What a stream gives of a frame, what it needs of a recognizer, and what takes its results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sp_edge.view import Region
from sp_edge_runtime.prediction import Prediction
from sp_edge_runtime.sources.frames import StateChange, VideoFrame
from sp_edge_runtime.streams.smoothing import Event, Smoothed

StreamEvent = Event | StateChange


@dataclass(frozen=True, eq=False)
class FrameResult:
    """A frame and what it was recognized as.

    Attributes:
        frame: as the source gave it.
        prediction: what was recognized.
        age_ms: from the frame's capture (of a file: from its decoding) to this result, milliseconds.
        capture_ms: how long the stream waited for the frame: decoding a file, waiting for a camera.
        smoothed: what the stream shows at this frame; None where it is not smoothed.
        source: the name of the frame's source, without credentials.
        clock: `Source.clock` of the frame.
        region: what counted of the frame; None is the whole.
    """

    frame: VideoFrame
    prediction: Prediction
    age_ms: float
    capture_ms: float = 0.0
    smoothed: Smoothed | None = None
    source: str = ""
    clock: float | None = None
    region: Region | None = None

    @property
    def label(self) -> str:
        """What to show: the smoothed label, or the frame's own where the stream is not smoothed."""
        return self.smoothed.label if self.smoothed else self.prediction.label

    @property
    def events(self) -> tuple[Event, ...]:
        """What changed with this frame; nothing where the stream is not smoothed."""
        return self.smoothed.events if self.smoothed else ()

    def to_json(self) -> dict[str, Any]:
        """The prediction's fields, `source`, `frame_id`, `frame_timestamp` (seconds), `frame_age_ms`, `smoothed` if it is.

        `label` is what to show, the smoothed one if there is one; all else is the frame's own.
        """
        shown = {"smoothed": {"label": self.smoothed.label, "confidence": self.smoothed.confidence}} if self.smoothed else {}
        return {
            **self.prediction.to_json(),
            "label": self.label,
            **shown,
            "source": self.source,
            "frame_id": self.frame.frame_id,
            "frame_timestamp": self.frame.timestamp,
            "frame_age_ms": self.age_ms,
        }


class Classifier(Protocol):
    """What a stream needs of a recognizer."""

    def classify(self, images: list[NDArray[np.uint8]], /, *, region: Sequence[Region | None]) -> list[Prediction]:
        """One prediction an image: each uint8 (H, W, 3) RGB, sizes may differ; `region` is what counts of each."""
        ...


class Sink(Protocol):
    """Takes results one by one."""

    def write(self, result: FrameResult) -> None:
        """Takes one result; it must not be changed."""
        ...

    def event(self, event: StreamEvent) -> None:
        """Takes an event: a class that appeared or left, after the frame that brought it, or a source's change of state."""
        ...

    def close(self) -> None:
        """Finishes the output; a second call does nothing."""
        ...
