"""Recognizes the frames of one or several sources and hands the results to sinks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import Any

from sp_edge.errors import SettingsError
from sp_edge_runtime.sources.address import distinct
from sp_edge_runtime.sources.frames import Source, State, StateChange, VideoFrame
from sp_edge_runtime.sources.rounds import rounds
from sp_edge_runtime.streams.night import NightWatch
from sp_edge_runtime.streams.options import StreamOptions
from sp_edge_runtime.streams.parts import Part, parts_of
from sp_edge_runtime.streams.result import Classifier, FrameResult, Sink, StreamEvent
from sp_edge_runtime.streams.smoothing import Smoother, Smoothing
from sp_edge_runtime.streams.summary import STAGES, StreamSummary, Times


def results(
    recognizer: Classifier,
    source: Source | Sequence[Source],
    options: StreamOptions = StreamOptions(),
    *,
    on_event: Callable[[StreamEvent], None] | None = None,
    parts: Callable[[], Sequence[Part]] | None = None,
) -> Iterator[FrameResult]:
    """Recognizes the frames of a source in order, or of several side by side; the sources stay open.

    Several sources share the network: their newest frames go through it as one batch, and so do the regions of a frame. Where
    the sources' names are the same, results and events tell them apart by a number: 'camera', 'camera (2)'.

    Args:
        recognizer: which classifies the frames.
        source: the frames.
        options: how to recognize them. Each source's labels are smoothed for themselves; pictures, which have no time, are not.
            Results that are too old are counted in `Source.stale`.
        on_event: is called with what belongs to no frame: a live source's change of state, and classes that leave because it
            was lost or because the stream ends. The events of a frame are in its result. That a source's frames lost their
            color is logged.
        parts: gives what is recognized, instead of the options' regions; it is asked at every frame. Results of what is new
            come from that frame on. What is gone leaves, and is told as removed.

    Raises:
        SettingsError: there is no source, or the options' regions do not go together with the sources; while frames come, a
            region in pixels does not lie within one.
    """
    sources = [source] if isinstance(source, Source) else list(source)
    if not sources:
        raise SettingsError("there is no source", expected="1 or more", got="none")
    fixed = parts_of(distinct(one.name for one in sources), options.regions, options.named_regions)
    tell = on_event or (lambda _: None)
    stream = _Stream(recognizer, sources, parts or (lambda: fixed), options.smoothing, tell, options.max_staleness or math.inf)
    return stream.results(options.max_frames or math.inf, 0.0 if options.max_fps is None else 1 / options.max_fps)


@dataclass(frozen=True, eq=False)
class _Followed:
    """A part, and what is remembered of it from frame to frame."""

    part: Part
    smoother: Smoother | None
    night: NightWatch


@dataclass(frozen=True, eq=False)
class _Stream:
    recognizer: Classifier
    sources: Sequence[Source]
    parts: Callable[[], Sequence[Part]]
    smoothing: Smoothing
    on_event: Callable[[StreamEvent], None]
    max_staleness: float
    followed: dict[str, _Followed] = field(default_factory=dict)

    def results(self, remaining: float, period: float) -> Iterator[FrameResult]:
        """Results of so many frames, each with all its parts; `period` is the least number of seconds between two rounds."""
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
                self._follow()
                for place, change in found.changes:
                    self._changed(place, change)
                if not found.frames:
                    continue
                due = asked + period
                last = None
                for result in self._recognized(found.frames, remaining, (time.perf_counter() - asked) * 1000):
                    remaining -= result.frame is not last
                    last = result.frame
                    yield result
                if remaining <= 0:
                    return
                asked = time.perf_counter()
        finally:
            upcoming.close()
            self._interrupt(self.followed.values(), "end")

    def _follow(self) -> None:
        """Takes up what is recognized now: what is gone ends, what is new begins, and what looks elsewhere begins anew."""
        parts = {part.name: part for part in self.parts()}
        for name, one in list(self.followed.items()):
            part = parts.get(name)
            if part != one.part:
                self._interrupt([self.followed.pop(name)], "end")
            if part is None or part.place != one.part.place:
                self.on_event(StateChange(name, State.REMOVED, time.time()))
        kept = dict(self.followed)
        self.followed.clear()
        self.followed.update({name: kept.get(name) or self._begun(part) for name, part in parts.items()})

    def _begun(self, part: Part) -> _Followed:
        timed = self.sources[part.place].timed
        smoother = Smoother(self.smoothing, source=part.name) if timed else None
        return _Followed(part, smoother, NightWatch(part.name, timed=timed))

    def _of(self, place: int) -> list[_Followed]:
        return [one for one in self.followed.values() if one.part.place == place]

    def _recognized(self, frames: Sequence[tuple[int, VideoFrame]], most: float, waited: float) -> Iterator[FrameResult]:
        fresh = [(place, frame) for place, frame in frames if self._is_fresh(place, frame.age)]
        wanted = [(one, frame) for place, frame in fresh[: int(min(most, len(fresh)))] for one in self._of(place)]
        predictions = self.recognizer.classify(
            [frame.image_rgb for _, frame in wanted], region=[one.part.region for one, _ in wanted]
        )
        late: set[int] = set()
        for (one, frame), prediction in zip(wanted, predictions, strict=True):
            age, place = frame.age, one.part.place
            if place in late or not self._is_fresh(place, age):
                late.add(place)
                continue
            one.night.update(prediction.gray)
            clock, smoothed = self.sources[place].clock(frame), None
            if one.smoother and clock is not None:
                smoothed = one.smoother.update(
                    prediction.label,
                    prediction.confidence,
                    clock=clock,
                    timestamp=frame.timestamp,
                    frame_id=frame.frame_id,
                )
            yield FrameResult(
                frame, prediction, age * 1000, waited / len(wanted), smoothed, one.part.name, clock, one.part.region
            )

    def _is_fresh(self, place: int, age: float) -> bool:
        fresh = age <= self.max_staleness or not self.sources[place].live
        self.sources[place].stale += not fresh
        return fresh

    def _changed(self, place: int, change: StateChange) -> None:
        for one in self._of(place):
            self.on_event(replace(change, source=one.part.name))
        if change.state is State.RESTARTING:
            self._interrupt(self._of(place), "gap")

    def _interrupt(self, those: Iterable[_Followed], cause: Any) -> None:
        for one in those:
            for event in one.smoother.interrupt(cause) if one.smoother else ():
                self.on_event(event)


def run_stream(
    recognizer: Classifier,
    source: Source | Sequence[Source],
    sinks: Sequence[Sink],
    options: StreamOptions = StreamOptions(),
    *,
    parts: Callable[[], Sequence[Part]] | None = None,
) -> StreamSummary:
    """Recognizes the frames of sources and writes every result to every sink, until the frames end or Ctrl-C is pressed.

    A result's events follow it; a class that is still there at the end leaves with it. The sinks are closed at the end, after
    an error too; the sources stay open.

    Args:
        recognizer: which classifies the frames.
        source: the frames, or several sources of them.
        sinks: where the results go.
        options: how to recognize the frames.
        parts: as `results` takes them.

    Raises:
        SettingsError: there is no source.
        SourceError, BackendError: the source or the inference engine failed.
    """
    times = {stage: Times() for stage in STAGES}
    sources = [source] if isinstance(source, Source) else list(source)
    before = _counted(sources)
    frames, last = 0, None
    began = time.perf_counter()

    def tell(event: StreamEvent) -> None:
        for sink in sinks:
            sink.event(event)

    with ExitStack() as stack:
        for sink in sinks:
            stack.callback(sink.close)
        found = results(recognizer, sources, options, on_event=tell, parts=parts)
        try:
            with closing(found):  # type: ignore[type-var]
                for result in found:
                    frames += result.frame is not last  # the regions of a frame follow each other
                    last = result.frame
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
    seconds = time.perf_counter() - began
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
