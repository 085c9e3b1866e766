"""Recognises the frames of one or several sources and hands the results to sinks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Any

from sp_edge.errors import SettingsError
from sp_edge_runtime.sources.address import distinct
from sp_edge_runtime.sources.frames import Source, State, StateChange, VideoFrame
from sp_edge_runtime.sources.rounds import rounds
from sp_edge_runtime.streams.result import Classifier, FrameResult, Sink, StreamEvent
from sp_edge_runtime.streams.smoothing import Smoother, Smoothing
from sp_edge_runtime.streams.summary import STAGES, StreamSummary, Times


def results(
    recognizer: Classifier,
    source: Source | Sequence[Source],
    *,
    smoothing: Smoothing | None = None,
    on_event: Callable[[StreamEvent], None] | None = None,
    max_staleness: float | None = None,
    max_frames: int | None = None,
    max_fps: float | None = None,
) -> Iterator[FrameResult]:
    """Recognises the frames of a source in order, or of several side by side; the sources stay open.

    Several sources share the network: their newest frames go through it as one batch. Where their names are the same, results
    and events tell them apart by a number: 'camera', 'camera (2)'.

    Args:
        recognizer: which classifies the frames.
        source: the frames.
        smoothing: of the labels, each source's for itself; pictures, which have no time, are not smoothed.
        on_event: is called with what belongs to no frame: a live source's change of state, and classes that leave because it
            was lost or because the stream ends. The events of a frame are in its result.
        max_staleness: seconds; a live frame's result that is older is not handed on but counted in `Source.stale`. Files are
            never too old.
        max_frames: after which to stop, 1 or more.
        max_fps: times a second at most that frames are taken; of a live source the newest is taken after each pause.

    Raises:
        SettingsError: an option is out of range, or there is no source.
    """
    if max_frames is not None and max_frames < 1:
        raise SettingsError("max_frames is out of range", expected="1 or more", got=str(max_frames))
    if max_fps is not None and not 0 < max_fps < math.inf:
        raise SettingsError("max_fps is out of range", expected="a positive number", got=str(max_fps))
    if max_staleness is not None and not 0 < max_staleness < math.inf:
        raise SettingsError("max_staleness is out of range", expected="seconds, above 0", got=str(max_staleness))
    sources = [source] if isinstance(source, Source) else list(source)
    if not sources:
        raise SettingsError("there is no source", expected="1 or more", got="none")
    names = distinct(one.name for one in sources)
    smoothers = [
        Smoother(smoothing, source=name) if smoothing and one.timed else None for one, name in zip(sources, names, strict=True)
    ]
    stream = _Stream(recognizer, sources, names, smoothers, on_event or (lambda _: None), max_staleness or math.inf)
    return stream.results(max_frames or math.inf, 0.0 if max_fps is None else 1 / max_fps)


@dataclass(frozen=True, eq=False)
class _Stream:
    recognizer: Classifier
    sources: Sequence[Source]
    names: Sequence[str]
    smoothers: Sequence[Smoother | None]
    on_event: Callable[[StreamEvent], None]
    max_staleness: float

    def results(self, remaining: float, period: float) -> Iterator[FrameResult]:
        due = asked = time.perf_counter()
        upcoming = rounds(self.sources)
        try:
            while True:
                if asked < due:
                    time.sleep(due - asked)
                    asked = time.perf_counter()
                found = next(upcoming, None)
                if found is None:
                    return
                for place, change in found.changes:
                    self._changed(place, change)
                if not found.frames:
                    continue
                due = asked + period
                for result in self._recognised(found.frames, (time.perf_counter() - asked) * 1000):
                    remaining -= 1
                    yield result
                    if remaining <= 0:
                        return
                asked = time.perf_counter()
        finally:
            self._interrupt(range(len(self.sources)), "end")

    def _recognised(self, frames: Sequence[tuple[int, VideoFrame]], waited: float) -> Iterator[FrameResult]:
        fresh = [(place, frame) for place, frame in frames if self._is_fresh(place, frame.age)]
        predictions = self.recognizer.classify_batch([frame.image_rgb for _, frame in fresh])
        for (place, frame), prediction in zip(fresh, predictions, strict=True):
            age, source, smoother = frame.age, self.sources[place], self.smoothers[place]
            if not self._is_fresh(place, age):
                continue
            clock, smoothed = source.clock(frame), None
            if smoother and clock is not None:
                smoothed = smoother.update(
                    prediction.label,
                    prediction.confidence,
                    clock=clock,
                    timestamp=frame.timestamp,
                    frame_id=frame.frame_id,
                )
            yield FrameResult(frame, prediction, age * 1000, waited / len(frames), smoothed, self.names[place], clock)

    def _is_fresh(self, place: int, age: float) -> bool:
        fresh = age <= self.max_staleness or not self.sources[place].live
        self.sources[place].stale += not fresh
        return fresh

    def _changed(self, place: int, change: StateChange) -> None:
        self.on_event(replace(change, source=self.names[place]))
        if change.state is State.RESTARTING:
            self._interrupt([place], "gap")

    def _interrupt(self, places: Sequence[int], cause: Any) -> None:
        for place in places:
            smoother = self.smoothers[place]
            for event in smoother.interrupt(cause) if smoother else ():
                self.on_event(event)


def run_stream(
    recognizer: Classifier,
    source: Source | Sequence[Source],
    sinks: Sequence[Sink],
    *,
    smoothing: Smoothing | None = None,
    max_staleness: float | None = None,
    max_frames: int | None = None,
    max_fps: float | None = None,
) -> StreamSummary:
    """Recognises the frames of sources and writes every result to every sink, until the frames end or Ctrl-C is pressed.

    A result's events follow it; a class that is still there at the end leaves with it. The sinks are closed at the end, after
    an error too; the sources stay open.

    Args:
        recognizer: which classifies the frames.
        source: the frames, or several sources of them.
        sinks: where the results go.
        smoothing: of the labels, without which no class appears or leaves.
        max_staleness: seconds after which a live result is too old to be written.
        max_frames: after which to stop, 1 or more.
        max_fps: frames a second at most.

    Raises:
        SettingsError: an option is out of range.
        SourceError, ImageError, BackendError: the source or the inference engine failed.
    """
    times = {stage: Times() for stage in STAGES}
    sources = [source] if isinstance(source, Source) else list(source)
    before = [(one.dropped, one.stale, one.restarts) for one in sources]
    began = time.perf_counter()

    def tell(event: StreamEvent) -> None:
        for sink in sinks:
            sink.event(event)

    with ExitStack() as stack:
        for sink in sinks:
            stack.callback(sink.close)
        found = results(
            recognizer,
            sources,
            smoothing=smoothing,
            on_event=tell,
            max_staleness=max_staleness,
            max_frames=max_frames,
            max_fps=max_fps,
        )
        try:
            with closing(found):  # type: ignore[type-var]
                for result in found:
                    started = time.perf_counter()
                    for sink in sinks:
                        sink.write(result)
                    for event in result.events:
                        tell(event)
                    written = (time.perf_counter() - started) * 1000
                    spent = {"capture": result.capture_ms, **result.prediction.speed, "sinks": written}
                    for stage, milliseconds in spent.items():
                        times[stage].add(milliseconds)
        except KeyboardInterrupt:
            pass  # how a person ends a stream
    frames, seconds = times["sinks"].count, time.perf_counter() - began
    after = [(one.dropped, one.stale, one.restarts) for one in sources]
    dropped, stale, restarts = (sum(b[i] - a[i] for a, b in zip(before, after, strict=True)) for i in range(3))
    return StreamSummary(
        frames=frames,
        dropped=dropped,
        stale=stale,
        restarts=restarts,
        seconds=seconds,
        fps=frames / seconds,
        stages={stage: taken.summary() for stage, taken in times.items() if taken.count},
        deliveries=[sink.delivery() for sink in sinks if hasattr(sink, "delivery")],
    )
