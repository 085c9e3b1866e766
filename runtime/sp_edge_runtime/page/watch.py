"""Keeps the newest frame of each source for whoever looks, so that watching never slows recognition."""

from __future__ import annotations

import io
import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sp_edge.files import utf8_text
from sp_edge.view import Region
from sp_edge_runtime.prediction import Prediction
from sp_edge_runtime.sources.frames import Source, State, StateChange
from sp_edge_runtime.streams.parts import Part
from sp_edge_runtime.streams.result import FrameResult, StreamEvent

HELD = 3.0  # seconds of a source's past that can be taught from
PACE = 1 / 15  # seconds between two of its frames that are kept for that
VIEWED, SLOWEST = 1 / 15, 1.0  # seconds between two frames that a viewer gets, at least and at most
VIEWED_SHARE = 15  # so many times as long as one takes to encode, which viewers share
STALE = 5.0  # seconds without a frame after which a live source is not healthy
LARGEST = 960  # pixels of the longer side of a picture for viewers
TOLD = 200  # events that are kept for viewers
RECENT = 100  # frames over which times are averaged


@dataclass(frozen=True, eq=False)
class Glimpse:
    """What was seen a moment ago, and can be taught from."""

    time: float
    prediction: Prediction
    region: Region | None


@dataclass(eq=False)
class Watched:
    """What is known of one source, or of a region with a name, which is a source of its own.

    Attributes:
        part: what is recognized under which name, without credentials.
        of: number of the source that it is a region of; None of a source itself.
        state: what it is doing.
        reason: why it was lost.
        newest: its last result.
        number: how many results there were.
        last: when the last one came, `time.monotonic`.
        glimpses: of the last seconds, the oldest first.
        labels: how often each was shown.
        busy: seconds that each of the last frames took.
        came: when each of the last frames came.
        stages: seconds that each stage took in all.
        source: what gives the frames, and counts those that it lost.
        encoded: number and JPEG of the frame that viewers got last.
        pause: seconds until they get another one: longer where encoding is slow, so that it takes little of the machine.
    """

    part: Part
    of: int | None
    source: Source
    state: State = State.INITIALIZING
    reason: str = ""
    newest: FrameResult | None = None
    number: int = 0
    last: float = 0.0
    glimpses: deque[Glimpse] = field(default_factory=deque)
    labels: Counter[str] = field(default_factory=Counter)
    busy: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    came: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    stages: dict[str, float] = field(default_factory=dict)
    encoding: threading.Lock = field(default_factory=threading.Lock)
    encoded: tuple[int, bytes] = (0, b"")
    pause: float = VIEWED

    @property
    def live(self) -> bool:
        """Whether its frames come at their own pace."""
        return self.source.live

    @property
    def shown(self) -> str:
        """The name as JSON can hold it: that of a file may have bytes that are no text."""
        return utf8_text(self.part.name)

    def picture(self) -> tuple[int, bytes] | None:
        """Number and JPEG of the newest frame, encoded once for all viewers; None before the first frame."""
        with self.encoding:
            newest, number = self.newest, self.number
            if newest is None:
                return None
            if self.encoded[0] != number:
                began = time.monotonic()
                self.encoded = (number, jpeg(newest.frame.image_rgb))
                self.pause = min(max(VIEWED, VIEWED_SHARE * (time.monotonic() - began)), SLOWEST)
            return self.encoded

    @property
    def fps(self) -> float:
        """Frames a second of late; 0 before the second."""
        came = list(self.came)
        return (len(came) - 1) / (came[-1] - came[0]) if len(came) > 1 and came[-1] > came[0] else 0.0

    @property
    def stale(self) -> bool:
        """Whether a live source has given no frame for a while."""
        return self.live and self.number > 0 and time.monotonic() - self.last > STALE

    @property
    def healthy(self) -> bool:
        """Whether it does what it should: frames come, or it has ended as a video does."""
        return (self.state is State.RUNNING and not self.stale) or (self.state is State.ENDED and not self.live)


class Watch:
    """A sink that remembers. The stream's thread writes, and any thread reads.

    Attributes:
        sources: what is known of each, by its number; replaced as a whole.

    Args:
        sources: of the stream. Nothing is remembered of them before `follow`.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._opened = sources
        self.sources: Mapping[int, Watched] = {}
        self._by_name: Mapping[str, Watched] = {}
        self._numbers = itertools.count(1)
        self._told: deque[tuple[int, dict[str, Any]]] = deque(maxlen=TOLD)
        self.changes = 0  # of the sources' states
        self.over = False
        self.failure = ""

    def follow(self, parts: Mapping[int, Part]) -> None:
        """Remembers of these parts; numbers below that of the sources are the sources themselves. One caller at a time."""
        followed: dict[int, Watched] = {}
        for number, part in parts.items():
            one = self.sources.get(number)
            if one is None:
                whole = followed.get(part.place)
                one = Watched(part, None if whole is None else part.place, self._opened[part.place])
                if whole is not None:
                    one.state, one.reason = whole.state, whole.reason
            one.part = part
            followed[number] = one
        self.sources = followed
        self._by_name = {one.part.name: one for one in followed.values()}
        self.changes += 1

    def write(self, result: FrameResult) -> None:
        """Takes one result; that of a region which has just gone is passed over."""
        one, now = self._by_name.get(result.source), time.monotonic()
        if one is None:
            return
        if one.state is not State.RUNNING:
            one.state, one.reason = State.RUNNING, ""
            self.changes += 1
        one.busy.append(sum(result.prediction.speed.values()) / 1000)
        one.came.append(now)
        for stage, milliseconds in result.prediction.speed.items():
            one.stages[stage] = one.stages.get(stage, 0.0) + milliseconds / 1000
        one.labels[result.label] += 1
        one.newest, one.last, one.number = result, now, one.number + 1
        if not one.glimpses or now - one.glimpses[-1].time >= PACE:
            one.glimpses.append(Glimpse(now, result.prediction, result.region))
        while one.glimpses and now - one.glimpses[0].time > HELD:
            one.glimpses.popleft()

    def event(self, event: StreamEvent) -> None:
        """Takes an event."""
        one = self._by_name.get(event.source)
        if one is not None and isinstance(event, StateChange) and event.state is not State.REMOVED:
            one.state, one.reason = event.state, event.reason
            self.changes += 1
        self._told.append((next(self._numbers), {**event.to_json(), "source": utf8_text(event.source)}))

    def close(self) -> None:
        """The stream is over."""
        for one in self.sources.values():
            if one.state not in (State.ERROR, State.ENDED):
                one.state = State.ENDED
        self.over = True
        self.changes += 1

    def held(self, one: Watched, seconds: float) -> list[Prediction]:
        """What a source showed in the last seconds, the oldest first: the newest frame at least, if there is one.

        What was seen of another region, before it was drawn anew, does not count.
        """
        glimpses, since = list(one.glimpses), time.monotonic() - seconds
        newest, region = one.newest, one.part.region
        found = [one.prediction for one in glimpses if one.time >= since and one.region == region]
        if newest is not None and newest.region == region and (not found or found[-1] is not newest.prediction):
            found.append(newest.prediction)
        return found

    def events(self, after: int) -> list[tuple[int, dict[str, Any]]]:
        """Events with a number above `after`."""
        return [told for told in list(self._told) if told[0] > after]

    def busy(self) -> float:
        """Which share of its time the stream spends on recognition, 0 to 1; 0 without one."""
        running = filter(self._runs, self.sources.values())
        return min(1.0, sum(one.fps * sum(one.busy) / max(len(one.busy), 1) for one in running))

    def running(self) -> bool:
        """Whether frames are being recognized."""
        return any(map(self._runs, self.sources.values()))

    def _runs(self, one: Watched) -> bool:
        return not self.over and one.state is State.RUNNING


def jpeg(image_rgb: NDArray[np.uint8], quality: int = 80) -> bytes:
    """A picture for a viewer: uint8 (H, W, 3) RGB -> JPEG of at most 960 pixels a side."""
    shown = Image.fromarray(image_rgb)
    if max(shown.size) > LARGEST:
        shown.thumbnail((LARGEST, LARGEST), Image.Resampling.BILINEAR, reducing_gap=1.5)
    file = io.BytesIO()
    shown.save(file, "JPEG", quality=quality)
    return file.getvalue()
