"""Turns the labels of single frames into one that does not flicker, and its changes into events: a class appeared, it left."""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass, replace
from typing import Any, Literal

from sp_edge.errors import SettingsError
from sp_edge.matching.label import UNKNOWN
from sp_edge.options import whole

Cause = Literal["frames", "gap", "end"]

PACE = 5  # intervals between frames whose median is a stream's pace
STEPS = 5  # intervals of that length without a frame that are a gap in a slow stream
FORGOTTEN = 1e-6  # a score under which a class is no longer kept in mind


@dataclass(frozen=True)
class Smoothing:
    """How labels are smoothed over time.

    A class's score is the share of the recent past in which frames bore its label: a moving average whose weights fall by
    exp(-t / seconds), so that it does not hang on the frame rate. The class becomes the smoothed label once its score reaches
    1/2 + hysteresis, and stays until its score is under 1/2 - hysteresis; so there is never more than one. Frames that are
    'unknown' count for no class.

    Attributes:
        seconds: time constant of the average, 0 to 3600; 0 takes each frame's label as it is.
        hysteresis: from 0 to below 1/2.
        minimum: seconds for which a class must hold its score before it appears, 0 to 3600.
        gap: so many seconds without a frame end what was seen: the class leaves, and the next frame begins anew. In a stream
            so slow that five of its usual intervals take longer, those five are the gap. A jump back by as much is one, too.
            Above 0, up to a day.
        stable: results in a row that must bear a class's label before it appears, and that must not before it leaves, 1 to
            1000. What a gap or the end of the stream ends leaves at once.

    Raises:
        SettingsError: out of range.
    """

    seconds: float = 0.3
    hysteresis: float = 0.1
    minimum: float = 0.0
    gap: float = 5.0
    stable: int = 1

    def __post_init__(self) -> None:
        for name, fits, expected in (
            ("seconds", 0 <= self.seconds <= 3600, "seconds, 0 to 3600"),
            ("hysteresis", 0 <= self.hysteresis < 0.5, "0 to below 0.5"),
            ("minimum", 0 <= self.minimum <= 3600, "seconds, 0 to 3600"),
            ("gap", 0 < self.gap <= 86400, "seconds, above 0 and up to 86400"),
            ("stable", whole(self.stable, 1) and self.stable <= 1000, "a whole number of results, 1 to 1000"),
        ):
            if not fits:
                raise SettingsError(f"the smoothing's {name} is out of range", expected=expected, got=str(getattr(self, name)))


@dataclass(frozen=True)
class Event:
    """A change of the smoothed label. Of each class, 'appeared' and 'left' alternate.

    Attributes:
        kind: 'appeared' or 'left'.
        name: of the class; never 'unknown'.
        time: timestamp of the frame that decided it, seconds as in `VideoFrame`; after a gap, of the last frame before it.
        frame_id: of that frame.
        duration: seconds since the class's score was first high enough.
        confidence: mean confidence of the recent frames with this label, 0 to 1.
        cause: 'frames' show it; or, of 'left' alone, a 'gap' between the frames or the 'end' of the stream, after which
            nobody can know whether the thing itself is gone.
        source: the name of the frame's source, without credentials; '' where the stream has none.
    """

    kind: Literal["appeared", "left"]
    name: str
    time: float
    frame_id: int
    duration: float
    confidence: float
    cause: Cause = "frames"
    source: str = ""

    def to_json(self) -> dict[str, Any]:
        """All fields; `kind` is called `event`, by which a line with an event is told from one with a frame's result."""
        return {"event": self.kind, **{key: value for key, value in vars(self).items() if key != "kind"}}


@dataclass(frozen=True)
class Smoothed:
    """What a stream shows at a frame.

    Attributes:
        label: the smoothed label, a class's name or 'unknown'.
        confidence: mean confidence of the recent frames with this label, 0 to 1; 0 for 'unknown'.
        events: what changed with this frame, in order.
    """

    label: str
    confidence: float
    events: tuple[Event, ...] = ()


@dataclass(frozen=True)
class _Score:
    """Of a class: the share of the recent past with its label, and the mean confidence of those frames; both 0 to 1."""

    share: float
    confidence: float

    def faded(self, kept: float) -> _Score:
        return _Score(self.share * kept, self.confidence)

    def joined(self, weight: float, confidence: float) -> _Score:
        share = self.share + weight
        return _Score(share, confidence if share == 0 else (self.share * self.confidence + weight * confidence) / share)


@dataclass(frozen=True)
class _Seen:
    """The class whose score is high enough."""

    name: str
    since: float
    appeared: bool


class Smoother:
    """Follows one stream. Not to be shared between threads or streams.

    Args:
        smoothing: how.
        source: the stream's name, for its events.
    """

    def __init__(self, smoothing: Smoothing, *, source: str = "") -> None:
        self._smoothing = smoothing
        self._source = source
        self._last: tuple[float, int] | None = None  # timestamp and number of the last frame
        self._read = 0.0  # the source's clock at that frame
        self._intervals: deque[float] = deque(maxlen=PACE)  # seconds between the last frames, gaps too
        self._clock = 0.0  # seconds of stream so far: unlike the source's clock it never goes back
        self._scores: dict[str, _Score] = {}
        self._seen: _Seen | None = None
        self._row = deque[str](maxlen=smoothing.stable)  # the last labels

    def update(self, label: str, confidence: float, *, clock: float, timestamp: float, frame_id: int) -> Smoothed:
        """Takes the next frame's label.

        Args:
            label: a class's name or 'unknown'.
            confidence: of the label, 0 to 1.
            clock: seconds, by which time passes: `Source.clock`. A frame that is no later than the one before weighs nothing;
                time goes on from its own.
            timestamp: seconds, which the events tell.
            frame_id: number of the frame.
        """
        events: list[Event] = []
        passed = 0.0 if self._last is None else clock - self._read
        if abs(passed) > self._gap():
            events += self.interrupt()
        if passed > 0:
            self._intervals.append(passed)
        first, passed = self._last is None, 0.0 if self._last is None else max(passed, 0.0)
        self._last, self._read = (timestamp, frame_id), clock
        self._clock += passed
        self._average(label, confidence, 0.0 if first else self._kept(passed))
        self._row.append(label)
        seen = self._seen
        if seen and self._fades(seen):
            events += self._ended("frames")
            seen = None
        if seen is None:
            seen = self._found()
        if seen and not seen.appeared and self._lasts(seen):
            seen = replace(seen, appeared=True)
            events.append(self._event("appeared", seen, "frames"))
        self._seen = seen
        if seen is None or not seen.appeared:
            return Smoothed(UNKNOWN, 0.0, tuple(events))
        return Smoothed(seen.name, self._scores[seen.name].confidence, tuple(events))

    def interrupt(self, cause: Cause = "gap") -> tuple[Event, ...]:
        """Ends what was seen, because the frames were interrupted or have ended; the next frame begins anew."""
        events = self._ended(cause)
        self._last = None
        self._scores.clear()
        self._row.clear()
        return events

    def _gap(self) -> float:
        """Seconds without a frame after which nobody knows whether the thing is still there."""
        if not self._intervals:
            return math.inf  # the second frame tells the pace
        return max(self._smoothing.gap, STEPS * statistics.median_low(self._intervals))

    def _kept(self, passed: float) -> float:
        """How much the past still weighs after so many seconds, 0 to 1."""
        return math.exp(-passed / self._smoothing.seconds) if self._smoothing.seconds else 0.0

    def _average(self, label: str, confidence: float, kept: float) -> None:
        """A frame's label counts for the time since the frame before; the first frame's is all that is known."""
        scores = {name: score.faded(kept) for name, score in self._scores.items()}
        if label != UNKNOWN:
            scores[label] = scores.get(label, _Score(0.0, 0.0)).joined(1 - kept, confidence)
        seen = self._seen and self._seen.name
        self._scores = {name: score for name, score in scores.items() if score.share > FORGOTTEN or name == seen}

    def _fades(self, seen: _Seen) -> bool:
        """Whether a class is seen no more: its score is too low, and of one that has appeared the last labels are others."""
        if not seen.appeared:
            return self._scores[seen.name].share < 0.5 + self._smoothing.hysteresis
        return self._scores[seen.name].share < 0.5 - self._smoothing.hysteresis and seen.name not in self._row

    def _lasts(self, seen: _Seen) -> bool:
        """Whether a class has been seen for long enough to appear."""
        agreed = len(self._row) == self._smoothing.stable and set(self._row) == {seen.name}
        return agreed and self._clock - seen.since >= self._smoothing.minimum

    def _found(self) -> _Seen | None:
        for name, score in self._scores.items():
            if score.share >= 0.5 + self._smoothing.hysteresis:
                return _Seen(name, self._clock, appeared=False)
        return None

    def _ended(self, cause: Cause) -> tuple[Event, ...]:
        seen, self._seen = self._seen, None
        return (self._event("left", seen, cause),) if seen and seen.appeared else ()

    def _event(self, kind: Literal["appeared", "left"], seen: _Seen, cause: Cause) -> Event:
        time, frame_id = self._last or (0.0, 0)  # whoever was seen was seen on a frame
        return Event(
            kind, seen.name, time, frame_id, self._clock - seen.since, self._scores[seen.name].confidence, cause, self._source
        )
