import itertools
import queue
import threading

import numpy as np
import pytest

from sp_edge.errors import MissingExtraError, SettingsError, SourceError
from sp_edge_runtime.sources.frames import State, VideoFrame
from sp_edge_runtime.sources.live import Backoff, LiveSource
from threads import PATIENCE, until

END = object()


def frame(number: int, value: int = 0, size: tuple[int, int] = (4, 6)) -> VideoFrame:
    return VideoFrame(np.full((*size, 3), value, np.uint8), number, 1000.0 + number, captured=float(number))


class FakeFeed:
    """Delivers what the test puts in, and says when it is asked for more than that."""

    def __init__(self, *items: object, fails: Exception | None = None) -> None:
        self.items: queue.Queue[object] = queue.Queue()
        self.fps: float | None = 25.0
        self.damaged = 0
        self.released = threading.Event()
        self.idle = threading.Event()
        self.fails = fails
        for item in items:
            self.items.put(item)

    def open(self) -> None:
        if self.fails:
            raise self.fails

    def read(self) -> VideoFrame | None:
        if self.items.empty():
            self.idle.set()
        item = self.items.get(timeout=PATIENCE)
        if isinstance(item, Exception):
            raise item
        return item if isinstance(item, VideoFrame) else None

    def close(self) -> None:
        self.items.put(SourceError("killed"))

    def release(self) -> None:
        self.released.set()

    def deliver(self, *items: object) -> None:
        """Puts items in and waits until all are taken and another is asked for."""
        self.idle.clear()
        for item in items:
            self.items.put(item)
        assert self.idle.wait(PATIENCE)


class Once(Backoff):
    """Waits for nothing, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.waited = self.resets = 0

    def wait(self) -> float:
        self.waited += 1
        return 0.0

    def reset(self) -> None:
        self.resets += 1


def live(*feeds: FakeFeed, wait: bool = False, **options: object) -> LiveSource:
    remaining = list(feeds)

    def start() -> FakeFeed:
        return remaining.pop(0) if remaining else FakeFeed()

    return LiveSource(start, "camera", wait=wait, backoff=Once(), **options)


def supervisors() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("supervisor of")]


def states(source: LiveSource) -> list[str]:
    return [change.state.value for change in source.changes()]


def test_the_newest_frame_is_handed_on_and_older_ones_are_dropped() -> None:
    feed = FakeFeed(frame(0))
    with live(feed) as source:
        source.opened()
        feed.deliver(*(frame(number, number) for number in range(1, 5)))
        frames = iter(source)
        newest = next(frames)
        assert (newest.frame_id, newest.image_rgb[0, 0, 0], newest.timestamp, newest.captured) == (4, 4, 1004.0, 4.0)
        assert (source.live, source.fps, source.dropped) == (True, 25.0, 4)
        feed.deliver(frame(5))
        assert next(frames).frame_id == 5
        assert source.dropped == 4
        assert states(source) == ["initializing", "running"]


def test_a_frame_is_handed_on_once_and_is_waited_for() -> None:
    feed = FakeFeed(frame(0))
    with live(feed) as source:
        frames = iter(source)
        assert next(frames).frame_id == 0
        assert source.take() is None
        later = threading.Thread(target=lambda: feed.items.put(frame(1)))
        later.start()
        assert next(frames).frame_id == 1
        later.join()


def test_a_source_that_is_lost_comes_back_and_its_frames_count_on() -> None:
    first, second = FakeFeed(frame(0), frame(1)), FakeFeed(SourceError("no such device"))
    third = FakeFeed(frame(0, 9, size=(8, 2)))
    with live(first, second, third) as source:
        source.opened()
        assert first.idle.wait(PATIENCE)
        assert next(iter(source)).frame_id == 1
        first.items.put(SourceError("the cable"))
        back = next(iter(source))
        assert (back.frame_id, back.image_rgb.shape) == (2, (8, 2, 3))
        until(lambda: source.state is State.RUNNING)
        changes = source.changes()
        assert [change.state.value for change in changes] == ["initializing", "running", "restarting", "restarting", "running"]
        assert [change.reason for change in changes] == ["", "", "the cable", "no such device", ""]
        assert source.restarts == 1
        assert first.released.is_set()
        assert second.released.is_set()


def test_no_frame_of_before_the_loss_is_handed_on_after_it() -> None:
    first, second = FakeFeed(frame(0)), FakeFeed()
    with live(first, second) as source:
        source.opened()
        first.items.put(SourceError("lost"))
        assert second.idle.wait(PATIENCE)
        assert source.state is State.RESTARTING
        assert source.take() is None
        assert source.dropped == 1


def test_the_first_failure_is_an_error() -> None:
    with live(FakeFeed(fails=SourceError("cannot open", next_step="plug it in"))) as source:
        with pytest.raises(SourceError, match="cannot open") as caught:
            source.opened()
        assert caught.value.next_step == "plug it in"
        with pytest.raises(SourceError, match="cannot open"):
            next(iter(source))
        assert states(source) == ["initializing", "error"]


def test_a_source_may_be_waited_for() -> None:
    absent = [FakeFeed(fails=SourceError("cannot open")) for _ in range(3)]
    with live(*absent, FakeFeed(frame(0)), wait=True) as source:
        source.opened()
        assert next(iter(source)).frame_id == 0
        assert source.restarts == 0  # it was never lost


@pytest.mark.parametrize(
    "lasting", [MissingExtraError("needs OpenCV", package="opencv", extra="camera"), SettingsError("no such size")]
)
def test_what_trying_again_cannot_mend_is_an_error(lasting: Exception) -> None:
    with live(FakeFeed(frame(0), SourceError("lost")), FakeFeed(fails=lasting), wait=True) as source:
        until(lambda: source.state is State.ERROR)
        with pytest.raises(type(lasting)):
            list(source)


def test_a_driver_that_raises_is_tried_again() -> None:
    with live(FakeFeed(frame(0), RuntimeError("the driver is gone")), FakeFeed(frame(0))) as source:
        until(lambda: source.restarts == 1 and source.state is State.RUNNING)
        assert "RuntimeError: the driver is gone" in [change.reason for change in source.changes()]


def test_a_driver_that_raises_at_once_is_our_error() -> None:
    with live(FakeFeed(fails=RuntimeError("no driver"))) as source, pytest.raises(SourceError, match="no driver"):
        source.opened()


def test_a_source_that_is_over_ends_with_its_last_frame() -> None:
    feed = FakeFeed(frame(0), END)
    with live(feed) as source:
        until(lambda: source.state is State.ENDED)
        assert [one.frame_id for one in source] == [0]
        assert feed.released.is_set()
        assert states(source) == ["initializing", "running", "ended"]


def test_frames_are_flipped() -> None:
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    with live(FakeFeed(VideoFrame(image, 0, 0.0)), flip="rotate-90") as source:
        np.testing.assert_array_equal(next(iter(source)).image_rgb, np.rot90(image, -1))


def test_closing_ends_everything() -> None:
    feed = FakeFeed(frame(0))
    source = live(feed)
    source.opened()
    source.close()
    assert supervisors() == []
    assert feed.released.is_set()
    assert next(iter(source), None) is None
    assert source.state is State.ENDED
    source.close()


def test_closing_during_a_pause_between_attempts() -> None:
    class Long(Backoff):
        def wait(self) -> float:
            return 3600.0

    feeds = [FakeFeed(frame(0), SourceError("lost"))]
    source = LiveSource(lambda: feeds.pop(0), "camera", backoff=Long())
    until(lambda: source.state is State.RESTARTING)
    source.close()
    assert supervisors() == []


def test_closing_wakes_the_thread_that_waits_for_a_frame() -> None:
    feed = FakeFeed()
    source = live(feed)
    got: list[object] = []
    waiting = threading.Thread(target=lambda: got.append(list(source)))
    waiting.start()
    assert feed.idle.wait(PATIENCE)
    source.close()
    waiting.join(PATIENCE)
    assert got == [[]]


def test_the_thread_ends_on_an_error_in_the_loop_that_uses_it() -> None:
    feed = FakeFeed(frame(0))

    def use() -> None:
        with live(feed) as source:
            for one in source:
                one.frame_id / 0

    with pytest.raises(ZeroDivisionError):
        use()
    assert feed.released.is_set()


def test_no_frame_is_handed_on_twice_under_load() -> None:
    feed = FakeFeed(*(frame(number, number % 256) for number in range(300)))
    with live(feed) as source:
        ids = []
        for one in source:
            assert one.image_rgb[0, 0, 2] == one.frame_id % 256
            ids.append(one.frame_id)
            if one.frame_id == 299:
                break
        assert all(a < b for a, b in itertools.pairwise(ids))
        assert len(ids) + source.dropped == 300


def test_the_pauses_grow_and_are_never_all_the_same() -> None:
    backoff = Backoff(first=1.0, most=10.0)
    for step in (1, 2, 4, 8, 10, 10):
        assert step / 2 <= backoff.wait() <= step
    backoff.reset()
    assert 0.5 <= backoff.wait() <= 1.0
    assert len({Backoff().wait() for _ in range(9)}) > 1


@pytest.mark.parametrize(("seconds", "reset"), [(9, False), (10, False), (11, True)])
def test_the_pauses_grow_until_frames_have_come_for_a_while(seconds: int, reset: bool) -> None:
    """How long the attempt took to open does not count: a source that opens after 20 s and breaks off at once is not steady."""
    slow, lost = FakeFeed(), SourceError("lost")
    with live(FakeFeed(frame(100), frame(100 + seconds), lost), slow) as source:
        assert slow.idle.wait(PATIENCE)
        assert isinstance(source._backoff, Once)
        assert (source._backoff.waited, source._backoff.resets > 0) == (1, reset)


def test_who_no_longer_watches_is_not_told() -> None:
    feed, news = FakeFeed(), threading.Event()
    with live(feed) as source:
        with source.watched(news):
            feed.deliver(frame(0))
            assert news.is_set()
        news.clear()
        feed.deliver(frame(1))
        assert not news.is_set()


def test_only_a_bounded_number_of_changes_is_kept() -> None:
    feeds = [FakeFeed(frame(0), SourceError("lost")) for _ in range(80)]
    with live(*feeds) as source:
        until(lambda: source.restarts == 80)
        assert len(source.changes()) <= 100
