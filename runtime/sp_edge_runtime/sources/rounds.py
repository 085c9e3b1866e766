"""Waits for the next frames of several sources at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from sp_edge.errors import SpEdgeError
from sp_edge_runtime.sources.frames import Source, State, StateChange, VideoFrame
from sp_edge_runtime.sources.live import LiveSource


@dataclass(frozen=True, eq=False)
class Round:
    """What there is now.

    Attributes:
        frames: at most one of each source, with the source's place in the sequence.
        changes: of the sources' states, likewise, in order; they come before the frames.
    """

    frames: list[tuple[int, VideoFrame]]
    changes: list[tuple[int, StateChange]]


def rounds(sources: Sequence[Source]) -> Generator[Round, None, None]:
    """Rounds with at least one frame or change each, until all sources have ended.

    Of a live source the newest frame is taken if it has a new one; of every other source the next frame, for which is waited. A
    source that fails leaves the others alone: its failure is a change, and is raised when no source is left.

    Raises:
        SpEdgeError: the failure of the first source that failed, after all have ended.
    """
    news = threading.Event()
    with ExitStack() as stack:
        for source in sources:
            if isinstance(source, LiveSource):
                stack.enter_context(source.watched(news))
        yield from _rounds(sources, news)


def _rounds(sources: Sequence[Source], news: threading.Event) -> Iterator[Round]:
    waiting = {place: source if isinstance(source, LiveSource) else iter(source) for place, source in enumerate(sources)}
    failures: list[SpEdgeError] = []
    while waiting:
        news.clear()
        frames: list[tuple[int, VideoFrame]] = []
        changes: list[tuple[int, StateChange]] = []
        for place, waited in list(waiting.items()):
            try:
                frame, over = _next(waited)
            except SpEdgeError as failure:
                failures.append(failure)
                frame, over = None, True
                if len(sources) > 1 and not isinstance(waited, LiveSource):
                    changes.append((place, StateChange(sources[place].name, State.ERROR, time.time(), failure.what)))
            if isinstance(waited, LiveSource):
                changes += [(place, change) for change in waited.changes()]
            if frame is not None:
                frames.append((place, frame))
            elif over:
                del waiting[place]
        if frames or changes:
            yield Round(frames, changes)
        elif waiting:
            news.wait()
    if failures:
        raise failures[0]


def _next(source: LiveSource | Iterator[VideoFrame]) -> tuple[VideoFrame | None, bool]:
    """The next frame, if there is one, and where there is none, whether there will be no other."""
    if isinstance(source, LiveSource):
        over = source.over  # asked first: what it says goes for the frame that is taken afterwards
        return source.take(), over
    frame = next(source, None)
    return frame, frame is None
