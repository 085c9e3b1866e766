"""Recognises frame after frame of a source, hands the results to sinks, and sums up what each stage took."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sp_edge.errors import SettingsError
from sp_edge_runtime.frames import Source, VideoFrame
from sp_edge_runtime.smoothing import Event, Smoothed, Smoother, Smoothing

if TYPE_CHECKING:
    from sp_edge_runtime.prediction import Prediction
    from sp_edge_runtime.recognizer import Recognizer
    from sp_edge_runtime.sinks import Sink

STAGES = ("capture", "preprocess", "inference", "postprocess", "sinks")
RECENT = 1000  # frames that a median looks at, so that a stream of days needs no more memory than one of a minute


@dataclass(frozen=True, eq=False)
class FrameResult:
    """A frame and what it was recognised as.

    Attributes:
        frame: as the source gave it.
        prediction: what was recognised.
        age_ms: from the frame's capture (of a file: from its decoding) to this result, milliseconds.
        capture_ms: how long the stream waited for the frame: decoding a file, waiting for a camera.
        smoothed: what the stream shows at this frame; None where it is not smoothed.
    """

    frame: VideoFrame
    prediction: Prediction
    age_ms: float
    capture_ms: float = 0.0
    smoothed: Smoothed | None = None

    @property
    def label(self) -> str:
        """What to show: the smoothed label, or the frame's own where the stream is not smoothed."""
        return self.smoothed.label if self.smoothed else self.prediction.label

    @property
    def events(self) -> tuple[Event, ...]:
        """What changed with this frame; nothing where the stream is not smoothed."""
        return self.smoothed.events if self.smoothed else ()

    def to_json(self) -> dict[str, Any]:
        """The prediction's fields with `frame_id`, `frame_timestamp` (seconds), `frame_age_ms` and, if any, `smoothed`."""
        shown = {"smoothed": {"name": self.smoothed.label, "confidence": self.smoothed.confidence}} if self.smoothed else {}
        return {
            **self.prediction.to_json(),
            **shown,
            "frame_id": self.frame.frame_id,
            "frame_timestamp": self.frame.timestamp,
            "frame_age_ms": self.age_ms,
        }


@dataclass(frozen=True)
class StageTime:
    """What a stage took a frame, milliseconds: the mean of all frames, the median of the last 1000."""

    mean_ms: float
    median_ms: float


@dataclass(frozen=True)
class StreamSummary:
    """What a stream did.

    Attributes:
        frames: how many were recognised.
        dropped: how many a live source captured and never handed on, because newer ones had come.
        seconds: from start to end.
        fps: recognised frames a second.
        stages: 'capture', 'preprocess', 'inference', 'postprocess', 'sinks'; empty without frames.
    """

    frames: int
    dropped: int
    seconds: float
    fps: float
    stages: Mapping[str, StageTime]

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return {**vars(self), "stages": {name: asdict(stage) for name, stage in self.stages.items()}}


def results(
    recognizer: Recognizer,
    source: Source,
    *,
    smoother: Smoother | None = None,
    max_frames: int | None = None,
    max_fps: float | None = None,
) -> Iterator[FrameResult]:
    """Recognises the frames of a source in order; the source stays open.

    Args:
        recognizer: which classifies the frames.
        source: the frames.
        smoother: of this source's labels.
        max_frames: after which to stop, 1 or more.
        max_fps: frames a second at most; of a live source the newest is taken after each pause.

    Raises:
        SettingsError: an option is out of range.
    """
    if max_frames is not None and max_frames < 1:
        raise SettingsError("max_frames is out of range", expected="1 or more", got=str(max_frames))
    if max_fps is not None and not 0 < max_fps < math.inf:
        raise SettingsError("max_fps is out of range", expected="a positive number", got=str(max_fps))
    return itertools.islice(_results(recognizer, source, smoother, 0.0 if max_fps is None else 1 / max_fps), max_frames)


def _results(recognizer: Recognizer, source: Source, smoother: Smoother | None, period: float) -> Iterator[FrameResult]:
    due = time.perf_counter()
    frames = iter(source)
    while True:
        asked = time.perf_counter()
        if asked < due:
            time.sleep(due - asked)
            asked = time.perf_counter()
        due = asked + period
        frame = next(frames, None)
        if frame is None:
            return
        arrived = time.perf_counter()
        prediction = recognizer.classify(frame.image_rgb)
        # A file's timestamp is a position in it, no time of day; and the clock that stamps a live frame may be set back.
        age = max(0.0, time.time() - frame.timestamp) if source.live else time.perf_counter() - arrived
        yield FrameResult(frame, prediction, age * 1000, (arrived - asked) * 1000, _smoothed(smoother, prediction, frame))


def _smoothed(smoother: Smoother | None, prediction: Prediction, frame: VideoFrame) -> Smoothed | None:
    if smoother is None:
        return None
    return smoother.update(prediction.label, prediction.confidence, timestamp=frame.timestamp, frame_id=frame.frame_id)


def run_stream(
    recognizer: Recognizer,
    source: Source,
    sinks: Sequence[Sink],
    *,
    smoothing: Smoothing | None = None,
    max_frames: int | None = None,
    max_fps: float | None = None,
) -> StreamSummary:
    """Recognises the frames of a source and writes every result to every sink, until the frames end or Ctrl-C is pressed.

    A result's events follow it; a class that is still there at the end leaves with it. The sinks are closed at the end, after
    an error too; the source stays open.

    Args:
        recognizer: which classifies the frames.
        source: the frames.
        sinks: where the results go.
        smoothing: of the labels, without which there are no events.
        max_frames: after which to stop, 1 or more.
        max_fps: frames a second at most.

    Raises:
        SettingsError: an option is out of range.
        SourceError, ImageError, BackendError: the source or the inference engine failed.
    """
    times = {stage: _Times() for stage in STAGES}
    smoother = None if smoothing is None else Smoother(smoothing)
    began, dropped_before = time.perf_counter(), source.dropped
    with ExitStack() as closing:
        for sink in sinks:
            closing.callback(sink.close)
        try:
            for result in results(recognizer, source, smoother=smoother, max_frames=max_frames, max_fps=max_fps):
                started = time.perf_counter()
                for sink in sinks:
                    sink.write(result)
                    for event in result.events:
                        sink.event(event)
                written = (time.perf_counter() - started) * 1000
                spent = {"capture": result.capture_ms, **result.prediction.speed, "sinks": written}
                for stage, milliseconds in spent.items():
                    times[stage].add(milliseconds)
        except KeyboardInterrupt:
            pass  # how a person ends a stream
        finally:
            for event in smoother.interrupt("end") if smoother else ():
                for sink in sinks:
                    sink.event(event)
    frames, seconds = times["sinks"].count, time.perf_counter() - began
    return StreamSummary(
        frames=frames,
        dropped=source.dropped - dropped_before,
        seconds=seconds,
        fps=frames / seconds,
        stages={stage: taken.summary() for stage, taken in times.items() if taken.count},
    )


class _Times:
    def __init__(self) -> None:
        self.count = 0
        self._total = 0.0
        self._recent: deque[float] = deque(maxlen=RECENT)

    def add(self, milliseconds: float) -> None:
        self.count += 1
        self._total += milliseconds
        self._recent.append(milliseconds)

    def summary(self) -> StageTime:
        return StageTime(self._total / self.count, statistics.median(self._recent))
