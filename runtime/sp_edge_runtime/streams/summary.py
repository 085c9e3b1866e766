"""Sums up what a stream did."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

STAGES = ("capture", "preprocess", "inference", "postprocess", "sinks")
RECENT = 1000  # results that a median looks at, so that a stream of days needs no more memory than one of a minute


@dataclass(frozen=True)
class StageTime:
    """What a stage took a result, milliseconds: the mean of all, the median of the last 1000. Each region is a result."""

    mean_ms: float
    median_ms: float


@dataclass(frozen=True)
class Delivery:
    """What became of the messages to one place on the network.

    Attributes:
        place: without credentials.
        sent: messages that arrived.
        dropped: messages that never will, because the place was slow, away or refused them.
        error: the last one; '' where there was none.
    """

    place: str
    sent: int
    dropped: int
    error: str = ""


@dataclass(frozen=True)
class StreamSummary:
    """What a stream did.

    Attributes:
        frames: how many were recognized. A frame with its regions counts once.
        dropped: how many live sources captured and never handed on, because newer ones had come.
        stale: how many were older than `max_staleness` when their result was there.
        restarts: how often live sources were lost.
        damaged: how many were left out, because not all of them arrived or decoded.
        seconds: from start to end.
        fps: recognized frames a second.
        stages: 'capture', 'preprocess', 'inference', 'postprocess', 'sinks'; empty without frames.
        unreadable: pictures that were passed over, as they could not be read: path -> why.
        deliveries: of the sinks on the network.
    """

    frames: int
    dropped: int
    stale: int
    restarts: int
    damaged: int
    seconds: float
    fps: float
    stages: Mapping[str, StageTime]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    deliveries: Sequence[Delivery] = ()

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return {
            **vars(self),
            "stages": {name: asdict(stage) for name, stage in self.stages.items()},
            "deliveries": [asdict(delivery) for delivery in self.deliveries],
        }


class Times:
    """Collects what one stage took."""

    def __init__(self) -> None:
        self.count = 0
        self._total = 0.0
        self._recent: deque[float] = deque(maxlen=RECENT)

    def add(self, milliseconds: float) -> None:
        """Takes one result's time."""
        self.count += 1
        self._total += milliseconds
        self._recent.append(milliseconds)

    def summary(self) -> StageTime:
        """Of at least one result."""
        return StageTime(self._total / self.count, statistics.median(self._recent))
