"""The bank of a running recogniser, which changes while frames are recognised."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sp_edge.bank import Bank
from sp_edge.bank_file import KEPT, BankFile, digest
from sp_edge.bundle import Bundle
from sp_edge.errors import BankError, SpEdgeError

LOOK = 0.5  # seconds between two looks at a followed file
UNSEEN = (-1, -1, -1)  # the stamp of no file

_log = logging.getLogger(__name__)


class LiveBank:
    """A bank in memory, or in a file that other programs may change, too.

    Readers take `bank`, which is replaced as a whole. With a file, the file is what counts: each change is made to what the
    file holds at that moment and written to it, so that nobody's classes are lost, whoever else writes. If it cannot be used,
    the change fails and the bank in memory stays as it is.

    Args:
        bank: the taught classes.
        file: where they are kept.
    """

    def __init__(self, bank: Bank, file: BankFile | None = None) -> None:
        self._bank = bank
        self._file = file
        self._listener: Callable[[Bank], object] = lambda bank: bank.prototypes
        self._changing = threading.Lock()
        self._earlier: deque[Bank] = deque(maxlen=KEPT)  # of a bank without a file
        self._seen = file.stamp() if file else None
        self._failure: str | None = None
        self._stop = threading.Event()
        self._follower: threading.Thread | None = None

    @classmethod
    def open(cls, path: Path, bundle: Bundle) -> LiveBank:
        """The bank in a file; an empty one where there is no file yet, which the first class makes.

        Raises:
            BankError: the file cannot be used, or was made with another bundle.
        """
        file = BankFile(path, bundle)
        live = cls(Bank.empty(bundle), file)
        live._bank = file.read()
        if live._seen is None:
            _log.info("no bank at %s yet: nothing has been taught", path)
        return live

    @property
    def bank(self) -> Bank:
        """The taught classes as they are now."""
        return self._bank

    def listen(self, listener: Callable[[Bank], object]) -> None:
        """Calls a function with the bank, and again with each bank that is about to take its place.

        It does the work that a new bank makes, so that the next image need not wait for it. One function at a time.
        """
        with self._changing:
            self._listener = listener
            self._take(self._bank)

    def change(self, change: Callable[[Bank], Bank]) -> None:
        """Changes the bank; the next image is judged by the changed one.

        Raises:
            BankError: what `change` raises, or the file cannot be used.
            OSError: the file cannot be written.
        """
        with self._changing:
            if self._file is None:
                bank = change(self._bank)
                self._earlier.append(self._bank)
            else:
                # Where the file has vanished, what is in memory is all there is.
                bank = self._file.change(change, absent=self._bank)
                self._seen = UNSEEN  # another program may have written since: the next look will tell
            self._take(bank)

    def undo(self) -> None:
        """Takes the last change back: of a bank in a file the file's, of one in memory this program's; ten are kept.

        Raises:
            BankError: nothing to take back, or the file cannot be used.
        """
        with self._changing:
            if self._file is not None:
                bank, self._seen = self._file.undo()[1], UNSEEN
                self._take(bank)
            elif self._earlier:
                self._take(replace(self._earlier.pop(), version=self._bank.version + 1))
            else:
                raise BankError("there is no change to take back", expected=f"one of the last {KEPT}", got="none")

    def look(self) -> None:
        """Takes up the file if it has changed. One that cannot be used is logged once, and the bank stays as it is."""
        if self._file is None:
            return
        with self._changing:
            try:
                stamp = self._file.stamp()
                if stamp == self._seen:
                    self._report()
                    return
                self._seen, self._failure = stamp, None
                if stamp is None:
                    raise BankError("it is gone")
                bank = self._file.read()
                if digest(bank) == digest(self._bank):
                    return
                self._take(bank)
            except (SpEdgeError, OSError) as cause:  # of the listener, too: a bank that it cannot prepare
                # It may be half written by a program that does not replace files in one step; the next look will tell.
                self._failure = str(cause)
                return
            _log.info("took up %s: version %d, %d classes", self._file.path, bank.version, len(bank.names))

    def follow(self, seconds: float = LOOK) -> None:
        """Looks at the file so often from a thread of its own, until `close`: a slow disk or network never holds up a frame."""
        if self._follower is None:
            self._follower = threading.Thread(target=self._look_often, args=[seconds], name="bank follower", daemon=True)
            self._follower.start()

    def close(self) -> None:
        """Stops following; a second call does nothing."""
        self._stop.set()
        if self._follower is not None:
            self._follower.join(LOOK * 10)  # one that hangs in the file system is left behind

    def _look_often(self, seconds: float) -> None:
        while not self._stop.wait(seconds):
            self.look()

    def _take(self, bank: Bank) -> None:
        self._listener(bank)
        self._bank = bank

    def _report(self) -> None:
        if self._failure is not None and self._file is not None:
            _log.warning("cannot use %s, so the bank stays as it is: %s", self._file.path, self._failure)
        self._failure = None
