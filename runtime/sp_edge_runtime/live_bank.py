"""The bank of a running recognizer, which changes while frames are recognized."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sp_edge.bank.bank import Bank
from sp_edge.bank.file import KEPT, BankFile, digest
from sp_edge.bundle.bundle import Bundle
from sp_edge.columns import counted
from sp_edge.errors import BankError, SpEdgeError

LOOK = 0.5  # seconds between two looks at a followed file
UNSEEN = (-1, -1, -1)  # the stamp of no file

_log = logging.getLogger(__name__)


class LiveBank:
    """A bank in memory, or in a file that other programs may change, too.

    Readers take `bank`, which is replaced as a whole. With a file, the file is what counts: each change is made to what the
    file holds at that moment and written to it, so that nobody's classes are lost, whoever else writes. If it cannot be used,
    or nothing can be prepared of the changed bank, the change fails, and file and memory stay as they are.

    Args:
        bank: the taught classes.
        file: where they are kept.
    """

    def __init__(self, bank: Bank, file: BankFile | None = None) -> None:
        self._prepare: Callable[[Bank], Any] = lambda bank: bank.prototypes
        self._ready: tuple[Bank, Any] = (bank, None)
        self._file = file
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
        return cls(file.read(), file)

    @property
    def bank(self) -> Bank:
        """The taught classes as they are now."""
        return self._ready[0]

    @property
    def ready(self) -> tuple[Bank, Any]:
        """The taught classes and what was prepared of them: one look, so that the two belong together."""
        return self._ready

    def prepare_with(self, prepare: Callable[[Bank], Any]) -> None:
        """Calls a function with the bank, and again with each bank that is about to take its place.

        It does the work that a new bank makes, so that the next image need not wait for it, and may raise where a bank cannot
        be used; a change is written only once it has returned. One function at a time.
        """
        with self._changing:
            self._prepare = prepare
            self._ready = self._prepared(self.bank)

    def change(self, change: Callable[[Bank], Bank]) -> None:
        """Changes the bank; the next image is judged by the changed one.

        Raises:
            SpEdgeError: what `change` and preparing raise, or the file cannot be used.
            OSError: the file cannot be written.
        """
        with self._changing:
            if self._file is None:
                ready = self._prepared(change(self.bank))
                self._earlier.append(self.bank)
            else:
                made: list[tuple[Bank, Any]] = []

                def changed(bank: Bank) -> Bank:
                    made.append(self._prepared(change(bank)))
                    return made[0][0]

                # Where the file has vanished, what is in memory is all there is.
                bank = self._file.change(changed, absent=self.bank)
                ready = made[0] if bank is made[0][0] else self._prepared(bank)
                self._seen = UNSEEN  # another program may have written since: the next look will tell
            self._ready = ready

    def undo(self) -> None:
        """Takes the last change back: of a bank in a file the file's, of one in memory this program's; ten are kept.

        Raises:
            BankError: nothing to take back, or the file cannot be used.
            SpEdgeError: what preparing raises.
        """
        with self._changing:
            if self._file is not None:
                made: list[tuple[Bank, Any]] = []
                self._file.undo(lambda bank: made.append(self._prepared(self._own(bank))))
                self._ready, self._seen = made[0], UNSEEN
            elif self._earlier:
                self._ready = self._prepared(replace(self._earlier[-1], version=self.bank.version + 1))
                self._earlier.pop()
            else:
                raise BankError("there is no change to take back", expected=f"one of the last {KEPT}", got="none")

    def undoable(self) -> int:
        """How many changes `undo` can take back, one after the other.

        Raises:
            BankError: the file cannot be used.
        """
        with self._changing:
            return len(self._earlier) if self._file is None else self._file.undoable()

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
                if digest(bank) == digest(self.bank):
                    return
                self._ready = self._prepared(bank)
            except (SpEdgeError, OSError) as cause:  # a bank that cannot be prepared, too
                # It may be half written by a program that does not replace files in one step; the next look will tell.
                self._failure = str(cause)
                return
            _log.info("took up %s: version %d, %s", self._file.path, bank.version, counted(len(bank.classes), "class"))

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

    def _own(self, bank: Bank) -> Bank:
        """A bank that was of this bundle before; what was before a renewal cannot be taken up here."""
        if bank.fingerprint != self.bank.fingerprint:
            raise BankError(
                "the last change renewed the bank for this bundle; the bank before it belongs to another bundle",
                next_step="stop this program, run sp-edge bank undo, and use the other bundle",
            )
        return bank

    def _prepared(self, bank: Bank) -> tuple[Bank, Any]:
        return bank, self._prepare(bank)

    def _report(self) -> None:
        if self._failure is not None and self._file is not None:
            _log.warning("cannot use %s, so the bank stays as it is: %s", self._file.path, self._failure)
        self._failure = None
