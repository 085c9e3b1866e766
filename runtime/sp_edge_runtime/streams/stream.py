"""Recognizes the frames of one or several sources and hands the results to sinks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Any

from sp_edge.errors import SettingsError
from sp_edge.view import Region
from sp_edge_runtime.sources.address import distinct
from sp_edge_runtime.sources.frames import Source, State, StateChange, VideoFrame
from sp_edge_runtime.sources.rounds import rounds
from sp_edge_runtime.streams.night import NightWatch
from sp_edge_runtime.streams.options import StreamOptions
from sp_edge_runtime.streams.result import Classifier, FrameResult, Sink, StreamEvent
from sp_edge_runtime.streams.smoothing import Smoother
from sp_edge_runtime.streams.summary import STAGES, StreamSummary, Times


def results(
    recognizer: Classifier,
    source: Source | Sequence[Source],
    options: StreamOptions = StreamOptions(),
    *,
    on_event: Callable[[StreamEvent], None] | None = None,
    regions: list[Region | None] | None = None,
) -> Iterator[FrameResult]:
    """Recognizes the frames of a source in order, or of several side by side; the sources stay open.

    Several sources share the network: their newest frames go through it as one batch. Where their names are the same, results
    and events tell them apart by a number: 'camera', 'camera (2)'.

    Args:
        recognizer: which classifies the frames.
        source: the frames.
        options: how to recognize them. Each source's labels are smoothed for themselves; pictures, which have no time, are not.
            Results that are too old are counted in `Source.stale`.
        on_event: is called with what belongs to no frame: a live source's change of state, and classes that leave because it
            was lost or because the stream ends. The events of a frame are in its result. That a source's frames lost their
            color is logged.
        regions: what is looked at of each source, instead of the options' regions; who changes the list changes what is looked
            at from the next frame on.

    Raises:
        SettingsError: there is no source, or the regions are neither one nor one a source; while frames come, a region in
            pixels does not lie within one.
    """
    sources = [source] if isinstance(source, Source) else list(source)
    if not sources:
        raise SettingsError("there is no source", expected="1 or more", got="none")
    if regions is None:
        regions = regions_of(options, len(sources))
    names = distinct(one.name for one in sources)
    smoothers = [
        Smoother(options.smoothing, source=name) if one.timed else None for one, name in zip(sources, names, strict=True)
    ]
    watches = [NightWatch(name, timed=one.timed) for one, name in zip(sources, names, strict=True)]
    tell = on_event or (lambda _: None)
    stream = _Stream(recognizer, sources, names, regions, smoothers, watches, tell, options.max_staleness or math.inf)
    return stream.results(options.max_frames or math.inf, 0.0 if options.max_fps is None else 1 / options.max_fps)


def regions_of(options: StreamOptions, sources: int) -> list[Region | None]:
    """What the options look at of each of so many sources; None is all of it.

    Raises:
        SettingsError: the regions are neither one nor one a source.
    """
    if len(options.regions) not in (0, 1, sources):
        expected = f"one for all sources, or {sources}"
        raise SettingsError("regions and sources do not go together", expected=expected, got=str(len(options.regions)))
    given: list[Region | None] = list(options.regions) or [None]
    return given if len(given) == sources else given * sources


@dataclass(frozen=True, eq=False)
class _Stream:
    recognizer: Classifier
    sources: Sequence[Source]
    names: Sequence[str]
    regions: Sequence[Region | None]
    smoothers: Sequence[Smoother | None]
    watches: Sequence[NightWatch]
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
                for result in self._recognized(found.frames, (time.perf_counter() - asked) * 1000):
                    remaining -= 1
                    yield result
                    if remaining <= 0:
                        return
                asked = time.perf_counter()
        finally:
            upcoming.close()
            self._interrupt(range(len(self.sources)), "end")

    def _recognized(self, frames: Sequence[tuple[int, VideoFrame]], waited: float) -> Iterator[FrameResult]:
        fresh = [(place, frame) for place, frame in frames if self._is_fresh(place, frame.age)]
        predictions = self.recognizer.classify(
            [frame.image_rgb for _, frame in fresh], region=[self.regions[place] for place, _ in fresh]
        )
        for (place, frame), prediction in zip(fresh, predictions, strict=True):
            age, source, smoother = frame.age, self.sources[place], self.smoothers[place]
            if not self._is_fresh(place, age):
                continue
            self.watches[place].update(prediction.gray)
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
    options: StreamOptions = StreamOptions(),
    *,
    regions: list[Region | None] | None = None,
) -> StreamSummary:
    """Recognizes the frames of sources and writes every result to every sink, until the frames end or Ctrl-C is pressed.

    A result's events follow it; a class that is still there at the end leaves with it. The sinks are closed at the end, after
    an error too; the sources stay open.

    Args:
        recognizer: which classifies the frames.
        source: the frames, or several sources of them.
        sinks: where the results go.
        options: how to recognize the frames.
        regions: as `results` takes them.

    Raises:
        SettingsError: there is no source.
        SourceError, BackendError: the source or the inference engine failed.
    """
    times = {stage: Times() for stage in STAGES}
    sources = [source] if isinstance(source, Source) else list(source)
    before = _counted(sources)
    began = time.perf_counter()

    def tell(event: StreamEvent) -> None:
        for sink in sinks:
            sink.event(event)

    with ExitStack() as stack:
        for sink in sinks:
            stack.callback(sink.close)
        found = results(recognizer, sources, options, on_event=tell, regions=regions)
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
    return StreamSummary(
        frames=frames,
        **{name: count - before[name] for name, count in _counted(sources).items()},
        seconds=seconds,
        fps=frames / seconds,
        stages={stage: taken.summary() for stage, taken in times.items() if taken.count},
        unreadable={path: why for one in sources for path, why in one.unreadable.items()},
        deliveries=[sink.delivery() for sink in sinks if hasattr(sink, "delivery")],
    )


def _counted(sources: Sequence[Source]) -> dict[str, int]:
    """What the sources count, together."""
    return {name: sum(getattr(one, name) for one in sources) for name in ("dropped", "stale", "restarts", "damaged")}
