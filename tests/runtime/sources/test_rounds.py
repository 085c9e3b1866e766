import contextlib
import itertools
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from sp_edge.errors import SourceError
from sp_edge_runtime.sources.frames import Source, State, VideoFrame
from sp_edge_runtime.sources.live import Backoff, LiveSource
from sp_edge_runtime.sources.rounds import rounds

IMAGE = np.zeros((2, 2, 3), np.uint8)


class Given(Source):
    def __init__(self, *items: Exception | int) -> None:
        super().__init__("given")
        self.items = items

    def __iter__(self) -> Iterator[VideoFrame]:
        for item in self.items:
            if isinstance(item, Exception):
                raise item
            yield VideoFrame(IMAGE, item, 0.0)


class Feed:
    """Frames, and then what a test wants: the end, a failure, or silence until it is closed."""

    fps, damaged = None, 0

    def __init__(self, count: int, then: Exception | None = None, silent: bool = False) -> None:
        self.numbers = iter(range(count))
        self.then, self.silent, self.closed = then, silent, threading.Event()

    def open(self) -> None:
        if isinstance(self.then, OSError):
            raise self.then

    def read(self) -> VideoFrame | None:
        number = next(self.numbers, None)
        if number is not None:
            return VideoFrame(IMAGE, number, 0.0)
        if self.silent:
            self.closed.wait()
        if self.then:
            raise self.then
        return None

    def close(self) -> None:
        self.closed.set()

    def release(self) -> None:
        self.closed.set()


def test_files_give_a_frame_each_and_none_is_dropped() -> None:
    taken = [[(place, frame.frame_id) for place, frame in one.frames] for one in rounds([Given(0, 1, 2), Given(0)])]
    assert taken == [[(0, 0), (1, 0)], [(0, 1)], [(0, 2)]]


def test_one_source_that_fails_leaves_the_others_alone() -> None:
    seen, changes = [], []
    with pytest.raises(SourceError, match="broken"):
        for one in rounds([Given(0, SourceError("broken")), Given(0, 1, 2)]):
            seen += [(place, frame.frame_id) for place, frame in one.frames]
            changes += [(place, change.state, change.reason) for place, change in one.changes]
    assert seen == [(0, 0), (1, 0), (1, 1), (1, 2)]
    assert changes == [(0, State.ERROR, "broken")]


def test_a_camera_that_is_silent_does_not_keep_another_waiting() -> None:
    silent, steady = Feed(1, silent=True), Feed(50)
    with LiveSource(lambda: silent, "silent") as first, LiveSource(lambda: steady, "steady") as second:
        last = -1
        for one in rounds([first, second]):
            last = max([last, *(frame.frame_id for place, frame in one.frames if place == 1)])
            if last == 49:
                break
    assert last == 49


def test_a_camera_beside_a_file() -> None:
    silent = Feed(1, silent=True)
    with LiveSource(lambda: silent, "camera") as camera:
        camera.opened()
        found = rounds([camera, Given(*range(5))])
        frames = [one.frames for one in itertools.islice(found, 5)]
    assert [frame.frame_id for one in frames for place, frame in one if place == 1] == list(range(5))
    assert [frame.frame_id for one in frames for place, frame in one if place == 0] == [0]


def test_changes_of_state_come_in_order_and_the_end_ends_the_rounds() -> None:
    feeds = iter([Feed(1, SourceError("lost")), Feed(1)])
    with LiveSource(lambda: next(feeds), "camera", backoff=Backoff(0.001, 0.001)) as camera:
        states = [change.state for one in rounds([camera]) for _, change in one.changes]
    assert states == [State.INITIALIZING, State.RUNNING, State.RESTARTING, State.RUNNING, State.ENDED]


def test_the_failure_of_the_only_camera_is_raised_after_its_change() -> None:
    states = []
    with LiveSource(lambda: Feed(0, OSError("gone")), "camera") as camera, pytest.raises(SourceError, match="gone"):
        for one in rounds([camera]):
            states += [change.state for _, change in one.changes]
    assert states[-1] is State.ERROR


def test_sources_are_watched_as_long_as_rounds_are_taken() -> None:
    class Watched(LiveSource):
        watchers = 0

        @contextlib.contextmanager
        def watched(self, event: threading.Event) -> Iterator[None]:
            self.watchers += 1
            try:
                with super().watched(event):
                    yield
            finally:
                self.watchers -= 1

    with Watched(lambda: Feed(1), "camera") as camera:
        list(rounds([camera]))
        assert camera.watchers == 0
        begun = rounds([camera, Given(0, 1)])
        next(begun)
        assert camera.watchers == 1
        begun.close()
    assert camera.watchers == 0
