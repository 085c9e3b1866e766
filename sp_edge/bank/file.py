"""Changes the file of a bank so that no writer undoes another's work, and so that the last changes can be taken back."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from sp_edge.bank.bank import Bank
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import BankError
from sp_edge.files import atomic_file, locked, remove_leftovers, written_at

KEPT = 10  # changes that can be taken back
LONGEST = 80  # characters of a file's name that stand in the name of the folder with its earlier versions
KEPT_BYTES = 256 << 20  # what their versions may take on disk together; the last is always kept

Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class _Earlier:
    """An earlier version of the bank: what it was before it became the bank with the digest `after`."""

    number: int
    after: str
    path: Path


class BankFile:
    """A bank's file, which several processes read and change.

    Whoever only reads needs no lock: a version is replaced by the next in one step. The version before each change is kept in
    a hidden folder beside the file, which is of no use elsewhere: a bank that was copied to another device cannot be taken
    back there. A link leads to the file that all who share it change; its lock and its earlier versions are beside that file.

    Args:
        path: of the file, which need not exist yet.
        bundle: which it belongs to.
    """

    def __init__(self, path: Path, bundle: Bundle) -> None:
        self.path = path
        self.bundle = bundle

    def read(self) -> Bank:
        """The bank as the file has it; where there is none, an empty one.

        Raises:
            BankError: damaged, not a bank, or made with another bundle.
        """
        return Bank.load(self.path, self.bundle) if self.path.exists() else Bank.empty(self.bundle)

    def stamp(self) -> Stamp | None:
        """What tells two versions of the file apart without reading them; None where there is no file.

        Raises:
            OSError: the folder cannot be looked into.
        """
        try:
            status = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def change(self, change: Callable[[Bank], Bank], *, absent: Bank | None = None) -> Bank:
        """Changes the bank as it is in the file now, whoever wrote it last.

        Args:
            change: gives the changed bank; it is called with the file locked.
            absent: what to change where there is no file; by default an empty bank.

        Returns:
            The bank that the file holds now.

        Raises:
            BankError: the file cannot be used, or what `change` raises; the file is as it was.
            OSError: the file cannot be written.
        """
        with self._alone() as place:
            exists = place.exists()
            before = Bank.load(place, self.bundle) if exists else absent or Bank.empty(self.bundle)
            after = change(before)
            changed = digest(after)
            if exists and changed == digest(before):
                return before
            _keep(place, before if not exists else None, changed)
            after.save(place)
        return after

    def renew(self, renewed: Callable[[Bank], Bank]) -> tuple[Bank, Bank]:
        """Puts what `renewed` makes of the file's bank, whichever bundle that is of, in its place; `undo` takes it back.

        Args:
            renewed: gives a bank of this bundle; it is called with the file locked.

        Returns:
            The bank as it was, and as the file holds it now.

        Raises:
            BankError: the file is no bank, or what `renewed` raises; the file is as it was.
            OSError: the file cannot be written.
        """
        with self._alone() as place:
            before = Bank.read(place)
            after = renewed(before)
            _keep(place, None, digest(after))
            after.save(place)
        return before, after

    def undo(self, accept: Callable[[Bank], object] = lambda bank: None) -> tuple[Bank, Bank]:
        """Takes the last change back.

        Args:
            accept: is called with what the file is about to hold; what it raises leaves the file as it is.

        Returns:
            The bank as it was until now, and as the file holds it from now on: with what it held before that change, and
            the next version number, as numbers never go back. After a renewal either may be of another bundle.

        Raises:
            BankError: there is no such change, the file was replaced by another program since, or it is no bank.
        """
        with self._alone() as place:
            now = Bank.read(place)
            state, every = digest(now), _kept(place)
            number = next((kept.number for kept in every if kept.after == state), None)
            if number is None:
                raise BankError(
                    f"there is no change of {self.path} to take back",
                    expected=f"one made on this device by sp-edge, of which the last {KEPT} are kept",
                    got="a file that was copied here, or all has been taken back",
                )
            undone = [kept for kept in every if kept.number >= number]
            earlier = replace(Bank.read(undone[-1].path), version=now.version + 1)
            accept(earlier)
            earlier.save(place)
            for kept in undone:
                kept.path.unlink(missing_ok=True)
        return now, earlier

    @contextmanager
    def _alone(self) -> Iterator[Path]:
        """Holds the lock, and clears away what writers that were killed have left; gives where the file lies."""
        with locked(self.path) as place:
            remove_leftovers(place)
            for leftover in _folder(place).glob(".*.spbank"):
                with suppress(PermissionError):
                    leftover.unlink(missing_ok=True)
            yield place

    def undoable(self) -> int:
        """How many changes can be taken back, one after the other."""
        count, state = 0, digest(Bank.read(self.path) if self.path.exists() else Bank.empty(self.bundle))
        for kept in _kept(written_at(self.path) or self.path):
            if kept.after == state:
                count, state = count + 1, digest(Bank.read(kept.path))
        return count


def _folder(place: Path) -> Path:
    """Hidden, beside the file; a long name is cut, and the digest of the whole tells it from others that begin alike."""
    name = place.name
    if len(name) > LONGEST:
        content = os.fsencode(name)
        name = f"{content[:LONGEST].decode(errors='ignore')}.{hashlib.sha256(content).hexdigest()[:16]}"
    return place.parent / f".{name}.undo"


def _kept(place: Path) -> list[_Earlier]:
    """Newest first. One whose `after` is not the present bank belongs to a change that broke off, or was replaced."""
    found = []
    for path in _folder(place).glob("*.spbank") if _folder(place).is_dir() else ():
        name = re.fullmatch(r"(\d{1,9})-([0-9a-f]{64})\.spbank", path.name)
        if name:
            found.append(_Earlier(int(name[1]), name[2], path))
    return sorted(found, key=lambda kept: kept.number, reverse=True)


def _keep(place: Path, empty: Bank | None, after: str) -> None:
    """Keeps the file's content, or `empty` where there is no file yet, as what came before the bank `after`."""
    folder = _folder(place)
    if empty is not None:
        shutil.rmtree(folder, ignore_errors=True)  # of a bank that was removed
    if not folder.is_dir():
        folder.mkdir(exist_ok=True)
        shutil.copymode(place.parent, folder)  # whoever may write beside the bank may keep what came before
    kept = _kept(place)
    path = folder / f"{kept[0].number + 1 if kept else 1:06}-{after}.spbank"
    if empty is not None:
        empty.save(path)
    else:
        _link(place, path)
    size = 0
    for number, earlier in enumerate(_kept(place)):
        size += earlier.path.stat().st_size
        if number and (number >= KEPT or size > KEPT_BYTES):
            earlier.path.unlink()


def digest(bank: Bank) -> str:
    """Hex digest of what a bank holds, its version number left out."""
    descriptions = [bank.descriptions.get(name, ()) for name in bank.names]
    described = [bank.fingerprint, bank.names, descriptions, *([sorted(bank.rejects.items())] if bank.rejects else [])]
    described += [bank.fit] if bank.fit != "crop" else []
    content = hashlib.sha256(repr(tuple(described)).encode())
    for values in bank.tensors().values():
        content.update(values.tobytes())
    return content.hexdigest()


def _link(path: Path, other: Path) -> None:
    """Gives a file a second name, or copies it where the file system has no second names. Nobody writes into a bank's file."""
    try:
        os.link(path, other)
    except OSError:
        with atomic_file(other) as temporary:
            shutil.copy(path, temporary)  # with its mode
