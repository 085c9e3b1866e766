"""Lets requests use the network only as far as the stream does not need it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sp_edge.errors import SpEdgeError

LEAST = 0.07  # share of the time that requests may always take
SPARE = 0.7  # of the time that the stream leaves
PATIENCE = 10.0  # seconds that a change waits for another one


class BusyError(SpEdgeError):
    """There is more to do than may be done now."""

    def __init__(self) -> None:
        super().__init__("Busy: try again in a moment", expected="fewer requests", next_step="try again in a moment")


class Gate:
    """One request at a time, and after each a pause, so that the stream keeps its pace.

    Args:
        busy: which share of its time the stream spends on recognition, 0 to 1; None where no stream runs.
    """

    def __init__(self, busy: Callable[[], float | None]) -> None:
        self._busy = busy
        self._using = threading.Lock()
        self._free_at = 0.0
        self._changing = threading.Lock()
        self.refused = 0

    def open(self) -> bool:
        """Whether a request may be taken now: asked before its body is read, and costs nothing."""
        admitted = not self._using.locked() and time.monotonic() >= self._free_at
        self.refused += not admitted
        return admitted

    @contextmanager
    def recognizing(self) -> Iterator[None]:
        """Holds the network for a request that recognizes, or that costs as much.

        Raises:
            BusyError: another one does, or the pause after it is not over.
        """
        if time.monotonic() < self._free_at or not self._using.acquire(blocking=False):
            self.refused += 1
            raise BusyError
        began = time.monotonic()
        try:
            yield
        finally:
            ended, busy = time.monotonic(), self._busy()
            share = 1.0 if busy is None else max(LEAST, SPARE * (1 - busy))
            self._free_at = ended + (ended - began) * (1 / share - 1)
            self._using.release()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """One change of the bank at a time.

        Raises:
            BusyError: others take too long.
        """
        if not self._changing.acquire(timeout=PATIENCE):
            raise BusyError
        try:
            yield
        finally:
            self._changing.release()
