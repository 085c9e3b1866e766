"""Replaces whole folders so that a reader never sees half of one, and nobody's files vanish with it."""

from __future__ import annotations

import ctypes
import errno
import fnmatch
import os
import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sp_edge.errors import InputError
from sp_edge.files import beside, hand_on, status_of, written_at

# Linux's rename that can swap (man 2 rename), which Python does not offer.
_RENAMEAT2 = getattr(ctypes.CDLL(None), "renameat2", None)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Gives a temporary folder; it replaces the one at `path` once the block ends, and vanishes if the block fails.

    Where the system can swap two folders in one step (Linux, on most file systems), there is one at `path` all the while.
    Elsewhere there is none between two renames, and a process killed there leaves the old one in `.NAME.*/replaced`. Mode,
    group, owner and links are kept as `atomic_file` keeps them.

    Raises:
        NotADirectoryError: a file is at `path`.
        OSError: `path` cannot be replaced: a mount, such as a container's volume, or '.', which has no name of its own.
    """
    if not _is_free_or_folder(path):
        raise NotADirectoryError(f"not a folder: {path}")
    if path.name in ("", "..") or os.path.ismount(os.path.realpath(path)):
        raise OSError(errno.EBUSY, "cannot be replaced as a whole; give the name of a folder in it", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    path = written_at(path) or path
    temporary, aside, before = beside(path), beside(path), status_of(path)
    old = aside / "replaced"
    try:
        temporary.mkdir()
        mode = None if before is None else hand_on(before, temporary)
        if mode is not None:
            temporary.chmod(mode | 0o700)  # now, so that what is made in it gets the group, too, where the folder hands it on
        yield temporary
        if mode is not None and temporary.exists():
            temporary.chmod(mode)
        while temporary.exists() and not _swap(temporary, path):
            if os.path.lexists(path):
                shutil.rmtree(aside, ignore_errors=True)
                aside.mkdir()
                with suppress(FileNotFoundError):  # another writer has moved it just now
                    path.replace(old)
            _take_place(temporary, path)  # or try again: the last writer wins, as with files
    finally:
        if temporary.exists() and old.exists():
            _take_place(old, path)
        for leftover in (temporary, aside):
            shutil.rmtree(leftover, ignore_errors=True)


def _swap(folder: Path, path: Path) -> bool:
    """Swaps a folder with the one at a path in one step; False where there is none, or system or file system cannot."""
    if _RENAMEAT2 is None or path.is_symlink() or not path.is_dir():
        return False
    return bool(_RENAMEAT2(_AT_FDCWD, os.fsencode(folder), _AT_FDCWD, os.fsencode(path), _RENAME_EXCHANGE) == 0)


def _take_place(folder: Path, path: Path) -> None:
    """Renames a folder to a free path; where another writer has put its own there just now, it stays as it is."""
    try:
        folder.replace(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def holds_earlier(
    path: Path, mark: str, others: Collection[str], error: type[InputError], *, what: str, next_step: str = ""
) -> bool:
    """Whether a folder that is about to be replaced holds an earlier one of its kind; False where the path is free.

    Whoever writes a whole folder asks first, so that nobody's files vanish with it.

    Args:
        path: of the folder. Nothing there, or an empty folder, is free.
        mark: file by which an earlier one is known.
        others: patterns of the further names that one may have at its top.
        what: is written, such as 'a Triton repository'.
        next_step: of the error.

    Raises:
        error: a file is there, or a folder without the mark or with more than such names.
    """
    if not path.exists():
        return False
    found = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else None
    if found == []:
        return False
    strange = [name for name in found or () if name != mark and not any(fnmatch.fnmatchcase(name, other) for other in others)]
    if found is None or strange or mark not in found:
        raise error(
            f"{path} is in the way: it is not {what} of sp-edge and nothing else",
            expected="a free path, an empty folder, or what an earlier export wrote there",
            got="a file" if found is None else ", ".join(strange[:5]) or f"no {mark}",
            next_step=next_step,
        )
    return True


def _is_free_or_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)  # one look: between two, another writer may put its folder there
    except (FileNotFoundError, NotADirectoryError):
        return True
