import itertools
import threading
import time
from collections import deque
from collections.abc import Iterator

import numpy as np
import pytest

from sp_edge.errors import SourceError
from sp_edge_runtime.live import LiveSource

pytest.importorskip("cv2")

PATIENCE = 30.0  # seconds after which a test that hangs fails


def numbered(value: int) -> np.ndarray:
    """A BGR frame whose blue channel is `value`: the RGB frame has it last."""
    return np.full((4, 6, 3), (value, 100, 200), np.uint8)


class FakeCamera:
    """Stands for cv2.VideoCapture: delivers what the test puts in, and says when it is asked for more than that."""

    def __init__(self) -> None:
        self.frames: deque[np.ndarray | Exception | None] = deque()
        self.released = threading.Event()
        self.idle = threading.Event()
        self._lock = threading.Lock()
        self._grabbed: np.ndarray | None = None

    def put(self, *frames: np.ndarray | Exception | None) -> None:
        """Puts frames in; None stands for one that does not decode."""
        with self._lock:
            self.frames.extend(frames)
            self.idle.clear()

    def deliver(self, *frames: np.ndarray | Exception | None) -> None:
        """Puts frames in and waits until the reader has taken all of them and asks for another."""
        self.put(*frames)
        assert self.idle.wait(PATIENCE)

    def grab(self) -> bool:
        with self._lock:
            if not self.frames:
                self.idle.set()
                return False
            frame = self.frames.popleft()
        if isinstance(frame, Exception):
            raise frame
        self._grabbed = frame
        return True

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        return self._grabbed is not None, self._grabbed

    def get(self, _: int) -> float:
        return 25.0

    def release(self) -> None:
        self.released.set()


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("reader of")]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    assert readers() == []
    yield
    for reader in readers():
        reader.join(PATIENCE)
    assert readers() == []


def test_the_newest_frame_is_handed_on_and_older_ones_are_dropped() -> None:
    camera = FakeCamera()
    with LiveSource(camera, "camera", timeout=PATIENCE) as source:
        assert source.live
        assert source.fps == 25.0
        frames = iter(source)
        before = time.time()
        camera.deliver(*(numbered(value) for value in range(5)))
        newest = next(frames)
        assert newest.frame_id == 4
        assert newest.image_rgb[0, 0].tolist() == [200, 100, 4]
        assert before <= newest.timestamp <= time.time()
        assert source.dropped == 4
        camera.deliver(numbered(5))
        assert next(frames).frame_id == 5
        assert source.dropped == 4


def test_a_frame_is_handed_on_once_and_is_waited_for() -> None:
    camera = FakeCamera()
    with LiveSource(camera, "camera", timeout=PATIENCE) as source:
        camera.deliver(numbered(0))
        frames = iter(source)
        assert next(frames).frame_id == 0
        later = threading.Thread(target=lambda: camera.put(numbered(1)))
        later.start()
        assert next(frames).frame_id == 1
        later.join()


def test_stride_counts_captured_frames() -> None:
    camera = FakeCamera()
    with LiveSource(camera, "camera", vid_stride=3, timeout=PATIENCE) as source:
        camera.deliver(*(numbered(value) for value in range(6)))
        frame = next(iter(source))
        assert (frame.frame_id, frame.image_rgb[0, 0, 2]) == (3, 3)
        assert source.dropped == 1


def test_a_frame_that_does_not_decode_is_passed_over() -> None:
    camera = FakeCamera()
    with LiveSource(camera, "camera", timeout=PATIENCE) as source:
        camera.deliver(numbered(0), None)
        assert next(iter(source)).frame_id == 0
        camera.deliver(None, numbered(3))
        assert next(iter(source)).frame_id == 3
        assert source.dropped == 0


def test_a_source_that_stops_delivering() -> None:
    camera = FakeCamera()
    with LiveSource(camera, "rtsp://***@cam", timeout=0.05) as source:
        with pytest.raises(SourceError, match=r"rtsp://\*\*\*@cam stopped delivering") as caught:
            next(iter(source))
        assert "0.05 s" in caught.value.expected
        # The reader goes on trying: what came back can be iterated again.
        camera.deliver(numbered(7))
        assert next(iter(source)).image_rgb[0, 0, 2] == 7


def test_a_driver_that_raises() -> None:
    camera = FakeCamera()
    camera.put(RuntimeError("the driver is gone"))
    with LiveSource(camera, "camera", timeout=PATIENCE) as source:
        with pytest.raises(SourceError, match="the driver is gone") as caught:
            next(iter(source))
        assert isinstance(caught.value.__cause__, RuntimeError)
        assert camera.released.wait(PATIENCE)


def test_frames_of_a_form_that_is_not_supported() -> None:
    camera = FakeCamera()
    camera.put(np.zeros((4, 6), np.uint8))
    with LiveSource(camera, "camera", timeout=PATIENCE) as source, pytest.raises(SourceError, match="not supported"):
        next(iter(source))


def test_the_thread_ends_with_the_source() -> None:
    assert readers() == []
    camera = FakeCamera()
    with LiveSource(camera, "camera", timeout=PATIENCE) as source:
        assert len(readers()) == 1
        camera.deliver(numbered(0))
    assert readers() == []
    assert camera.released.is_set()
    assert next(iter(source), None) is None
    source.close()


def test_the_thread_ends_on_an_error_in_the_loop_that_uses_it() -> None:
    camera = FakeCamera()
    camera.put(numbered(0))

    def use() -> None:
        with LiveSource(camera, "camera", timeout=PATIENCE) as source:
            for frame in source:
                frame.frame_id / 0

    with pytest.raises(ZeroDivisionError):
        use()
    assert readers() == []
    assert camera.released.is_set()


def test_closing_wakes_the_thread_that_waits_for_a_frame() -> None:
    camera = FakeCamera()
    source = LiveSource(camera, "camera", timeout=PATIENCE)
    got: list[object] = []
    waiting = threading.Thread(target=lambda: got.append(list(source)))
    waiting.start()
    camera.deliver()
    source.close()
    waiting.join(PATIENCE)
    assert got == [[]]


def test_a_reader_that_hangs_does_not_hang_the_close() -> None:
    class Stuck(FakeCamera):
        freed = threading.Event()

        def grab(self) -> bool:
            self.idle.set()
            self.freed.wait(PATIENCE)
            return False

    camera = Stuck()
    source = LiveSource(camera, "camera", timeout=0.05)
    assert camera.idle.wait(PATIENCE)
    source.close()
    assert len(readers()) == 1
    assert not camera.released.is_set()  # never under the feet of the thread that reads
    camera.freed.set()
    assert camera.released.wait(PATIENCE)


def test_no_frame_is_handed_on_twice_under_load() -> None:
    camera = FakeCamera()
    with LiveSource(camera, "camera", timeout=PATIENCE) as source:
        feeder = threading.Thread(target=lambda: [camera.put(numbered(value % 256)) for value in range(300)])
        feeder.start()
        ids = []
        for frame in source:
            assert frame.image_rgb[0, 0, 2] == frame.frame_id % 256
            ids.append(frame.frame_id)
            if frame.frame_id == 299:
                break
        feeder.join()
        assert all(a < b for a, b in itertools.pairwise(ids))
        assert len(ids) + source.dropped == 300
