"""What tests do with threads and processes: wait for one, have several work at once, see which there are."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PATIENCE = 30.0  # seconds after which a test that hangs fails


def until(met: Callable[[], bool], *, patience: float = PATIENCE) -> None:
    """Waits for something that another thread or process does, for `patience` seconds."""
    pause = threading.Event()
    for _ in range(int(patience / 0.005)):
        if met():
            return
        pause.wait(0.005)
    raise AssertionError("it never came")


def at_once(work: Callable[[int], None], count: int) -> None:
    """Runs `work(0)` to `work(count - 1)` in threads of their own; what one of them raises fails the test."""
    wrong: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            wrong.append(error)

    workers = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def children() -> set[str]:
    """The numbers of this process's children; none where there is no /proc."""
    found: set[str] = set()
    for task in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # a thread that has ended meanwhile
            found.update(task.read_text().split())
    return found
