"""Keeps a camera or network stream going all day, and hands on its newest frame."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from sp_edge.errors import SourceError, SpEdgeError
from sp_edge_runtime.sources.capture import is_fatal
from sp_edge_runtime.sources.frames import Source, State, StateChange, VideoFrame, flipped
from sp_edge_runtime.sources.options import Flip

STEADY = 10.0  # seconds from an attempt's first frame to its last after which the next failure counts as the first
PAUSE = 2.0  # seconds between two attempts at most: with a key frame every two, frames come within five of a return
KEPT = 100  # state changes that wait for somebody to ask


class Feed(Protocol):
    """One attempt at a live source, as `CaptureProcess` is one."""

    fps: float | None
    damaged: int

    def open(self) -> None:
        """Waits until the source is open; raises SourceError where it is not to be had."""
        ...

    def read(self) -> VideoFrame | None:
        """The next frame, None when the source is over; raises SourceError when it is lost."""
        ...

    def close(self) -> None:
        """Makes `open` and `read`, in another thread, come to an end."""
        ...

    def release(self) -> None:
        """Gives all back; called by the thread that reads."""
        ...


class Backoff:
    """How long to wait before trying again: twice as long each time, by a random part less, so that many do not try at once.

    Args:
        first: seconds at most before the first attempt.
        most: seconds at most before any.
    """

    def __init__(self, first: float = 0.5, most: float = 30.0) -> None:
        self._first = self._next = first
        self._most = most

    def wait(self) -> float:
        """Seconds before the next attempt: between half and all of the step that it has come to."""
        step, self._next = self._next, min(2 * self._next, self._most)
        return step * random.uniform(0.5, 1)  # noqa: S311 - no secret

    def reset(self) -> None:
        """The attempt succeeded."""
        self._next = self._first


class LiveSource(Source):
    """A camera or network stream that is opened again whenever it is lost.

    A thread of its own reads without pause into a mailbox with one place, so that no queue of old frames builds up; the mailbox
    is emptied when the source is lost. That thread alone opens, reads and releases the feeds. Only a frame that was captured is
    ever handed on: none is repeated or invented while the source is away, and its size may be another one afterwards.

    Args:
        start: begins an attempt.
        name: without credentials.
        wait: go on trying a source that has never delivered a frame; else its first failure is an error.
        flip: how to mirror or turn the frames.
        backoff: the pauses between attempts.
    """

    def __init__(
        self,
        start: Callable[[], Feed],
        name: str,
        *,
        wait: bool = False,
        flip: Flip = "none",
        backoff: Backoff | None = None,
    ) -> None:
        super().__init__(name, live=True)
        self._start = start
        self._wait = wait
        self._flip: Flip = flip
        self._backoff = backoff or Backoff(most=PAUSE)
        self._feed: Feed | None = None
        self._mailbox: VideoFrame | None = None
        self._changes: deque[StateChange] = deque(maxlen=KEPT)
        self._failure: Exception | None = None
        self._next_id = 0
        self._news = threading.Condition()
        self._watchers: list[threading.Event] = []
        self.state = State.INITIALIZING
        self._turn(State.INITIALIZING)
        self._supervisor = threading.Thread(target=self._supervise, name=f"supervisor of {name}", daemon=True)
        self._supervisor.start()

    def opened(self) -> None:
        """Waits for the first frame, or with `wait` for nothing.

        Raises:
            SourceError, MissingExtraError: the source cannot be had.
        """
        if not self._wait:
            with self._news:
                self._news.wait_for(lambda: self.state is not State.INITIALIZING)
            self._check()

    def __iter__(self) -> Iterator[VideoFrame]:
        """The newest frame each time, waiting for one that was not handed on yet; ends when the source ends or is closed."""
        while True:
            with self._news:
                self._news.wait_for(lambda: self._mailbox or self.over)
            frame = self.take()
            if frame is None and self.over:
                self._check()
                return
            if frame is not None:
                yield frame

    @property
    def over(self) -> bool:
        """Whether no further frame will come, except the one that waits in the mailbox."""
        return self._closed.is_set() or self.state in (State.ENDED, State.ERROR)

    def take(self) -> VideoFrame | None:
        """The newest frame, if it was not handed on yet. Does not wait.

        Raises:
            SourceError, MissingExtraError: the source failed and is not tried again.
        """
        with self._news:
            frame, self._mailbox = self._mailbox, None
        if self._closed.is_set():
            return None
        if frame is None:
            self._check()
        return frame

    def changes(self) -> list[StateChange]:
        """The state's changes since the last call, the newest 100."""
        with self._news:
            changes = list(self._changes)
            self._changes.clear()
        return changes

    @contextmanager
    def watched(self, event: threading.Event) -> Iterator[None]:
        """Sets the event whenever a frame or another state is there; for one who waits for several sources."""
        with self._news:
            self._watchers.append(event)
        try:
            yield
        finally:
            with self._news:
                self._watchers.remove(event)

    def close(self) -> None:
        """Ends the iteration, the capture and its process."""
        super().close()
        with self._news:
            if self._feed:
                self._feed.close()
            self._tell()
        if threading.current_thread() is not self._supervisor:
            self._supervisor.join()

    def _supervise(self) -> None:
        while not self._closed.is_set():
            try:
                self._attempt()
                self._turn(State.ENDED)
                return
            except Exception as cause:  # whatever a driver raises: who waits for frames must hear of it
                if self._closed.is_set():
                    break
                if is_fatal(cause) or getattr(cause, "fatal", False) or not (self._next_id or self._wait):
                    self._failure = cause
                    self._turn(State.ERROR, _said(cause))
                    return
                self.restarts += self.state is State.RUNNING
                self._turn(State.RESTARTING, _said(cause))
            self._closed.wait(self._backoff.wait())
        self._turn(State.ENDED)

    def _attempt(self) -> None:
        """Opens the source and reads it until it is over."""
        feed = self._start()
        try:
            with self._news:
                self._feed = feed
            if self._closed.is_set():
                return
            feed.open()
            first, began, damaged = self._next_id, None, self.damaged
            while not self._closed.is_set() and (frame := feed.read()) is not None:
                self.damaged = damaged + feed.damaged
                began = frame.captured if began is None else began
                if frame.captured - began > STEADY:
                    self._backoff.reset()
                self._put(replace(frame, frame_id=first + frame.frame_id, image_rgb=flipped(frame.image_rgb, self._flip)))
                if self.state is not State.RUNNING:
                    self.fps = feed.fps
                    self._turn(State.RUNNING)
        finally:
            with self._news:
                self._feed = None
            feed.release()

    def _put(self, frame: VideoFrame) -> None:
        with self._news:
            self.dropped += self._mailbox is not None
            self._mailbox = frame
            self._next_id = frame.frame_id + 1
            self._tell()

    def _turn(self, state: State, reason: str = "") -> None:
        with self._news:
            if state in (State.RESTARTING, State.ERROR):
                self.dropped += self._mailbox is not None
                self._mailbox = None  # it is of before the loss: who takes it later would take it for new
            self.state = state
            self._changes.append(StateChange(self.name, state, time.time(), reason))
            self._tell()

    def _tell(self) -> None:
        self._news.notify_all()
        for event in self._watchers:
            event.set()

    def _check(self) -> None:
        if self._failure is None or self._closed.is_set():
            return
        if isinstance(self._failure, SpEdgeError):
            raise self._failure
        raise SourceError(f"{self.name} failed", got=_said(self._failure)) from self._failure


def _said(cause: Exception) -> str:
    return cause.what if isinstance(cause, SpEdgeError) else f"{type(cause).__name__}: {cause}"
