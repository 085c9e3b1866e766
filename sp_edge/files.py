"""Writes and reads files: whole ones, in their own folder, as a user left their links and modes."""

from __future__ import annotations

import errno
import fcntl
import glob
import hashlib
import json
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from sp_edge.errors import InputError


def written_at(path: Path) -> Path | None:
    """Decides for every writer what becomes of a path.

    Links are followed here, once, and stay links.

    Returns:
        Where the file lies, or will lie, that is replaced as a whole. None for what is written to and stays what it is: a
        FIFO, a device, or whatever this process's own output goes to, such as /dev/stdout.

    Raises:
        OSError: a loop of links, or a link into a folder that is not there.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        place = Path(os.path.realpath(path))
        if path.is_symlink() and not place.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, f"the link leads to {place.parent}, which is not there", str(path)) from None
        return place
    regular = stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)
    return Path(os.path.realpath(path)) if regular and _own_output(found) is None else None


def _own_output(found: os.stat_result) -> int | None:
    """Standard output or error, where that is the file in question; its descriptor knows how far it has been written."""
    for number in (1, 2):
        with suppress(OSError):  # closed
            if os.path.samestat(found, os.fstat(number)):
                return number
    return None


def _open_in_place(path: Path) -> BinaryIO:
    own = _own_output(path.stat())
    if own is None:
        return path.open("wb")
    sys.stdout.flush()  # what was printed before comes before
    return os.fdopen(os.dup(own), "wb")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Gives a temporary path; the file takes its place at `path` once the block ends, and vanishes if the block fails.

    A file that is replaced hands on its mode, its group and, where the system allows it, its owner; a new one has the mode
    that the umask leaves. A link stays, and what it leads to is replaced. A FIFO or a device is written to once the block
    ends (see `written_at`).

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    place = written_at(path)
    if place is None:
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / f"content{path.suffix}"
            temporary.touch()
            yield temporary
            with temporary.open("rb") as content, _open_in_place(path) as out:
                shutil.copyfileobj(content, out)
        return
    temporary, before = beside(place), status_of(place)
    try:
        temporary.touch(0o666 if before is None else 0o600, exist_ok=False)  # what is private is so from the first byte on
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        if before is not None:
            temporary.chmod(hand_on(before, temporary))
        temporary.replace(place)
        _keep_names(place.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _keep_names(folder: Path) -> None:
    """Has the system write a folder's names now, so that a file that was replaced is the new one after a power cut, too."""
    with suppress(OSError):  # a file system that cannot
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def status_of(path: Path) -> os.stat_result | None:
    """What the system says of a file or folder; None where there is none."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def hand_on(before: os.stat_result, path: Path) -> int:
    """Gives a new file or folder the group and, where allowed, the owner of the one before it.

    Returns:
        The mode that it is to have. Where the group could not be kept, another group gets no more than everybody.
    """
    mode = stat.S_IMODE(before.st_mode)
    with suppress(PermissionError):  # only an administrator gives files away
        os.chown(path, before.st_uid, -1)
    with suppress(PermissionError):
        os.chown(path, -1, before.st_gid)
    if path.stat().st_gid != before.st_gid:
        mode = mode & ~0o2070 | (mode & 0o007) << 3
    return mode


def beside(path: Path) -> Path:
    """A hidden name in the same folder that nothing has yet; short, since a file's name has at most 255 bytes."""
    return path.parent / f"{_hidden(path)}{secrets.token_hex(4)}{path.suffix}"


def _hidden(path: Path) -> str:
    """How such names begin: of no two files alike, so that what one left behind is told from what is being written."""
    return f".{path.name[:20]}.{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]}"


def cache_folder(name: str, error: type[InputError], *, next_step: str) -> Path:
    """The platform's folder for what can be made again, such as ~/.cache/sp-edge/engines; XDG_CACHE_HOME moves it.

    Raises:
        error: the user has no home folder.
    """
    from platformdirs import user_cache_path

    try:
        return user_cache_path("sp-edge", appauthor=False) / name
    except RuntimeError as cause:
        raise error(f"no place for the cache of {name}", got=str(cause), next_step=next_step) from cause


def remove_leftovers(path: Path) -> None:
    """Removes what writers of `path` that were killed have left beside it; nobody may be writing it now."""
    path = written_at(path) or path
    for leftover in path.parent.glob(f"{glob.escape(_hidden(path))}{'[0-9a-f]' * 8}{glob.escape(path.suffix)}"):
        with suppress(PermissionError):  # of another account, in a folder such as /tmp
            leftover.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[Path]:
    """Holds the lock of a file that several processes read, change and write; others wait their turn.

    The lock is a file beside it, and goes with whoever held it. (The package filelock leaves its file behind: in a user's
    folder, and with a mode that keeps other accounts of a shared folder out.)

    Returns:
        Where the file lies: links are followed here, once, so that all who share a file share its lock.

    Raises:
        OSError: the folder cannot be written to, or its file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    place = written_at(path) or path
    file = place.parent / f".{place.name[:80]}.lock"
    while True:
        with _open_lock(file, path) as lock:
            if not _is(lock, file):
                continue  # what was waited for is gone: whoever comes next locks another file
            try:
                yield place
            finally:
                file.unlink(missing_ok=True)
            return


@contextmanager
def _open_lock(file: Path, path: Path) -> Iterator[BinaryIO]:
    try:
        try:
            lock: BinaryIO = file.open("ab")
        except PermissionError:
            if not file.exists():
                raise
            lock = file.open("rb")  # another account's, which holds it now
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            lock.close()
            raise
    except OSError as cause:
        raise OSError(cause.errno, f"cannot be locked in its folder: {cause.strerror}", str(path)) from cause
    with lock:
        yield lock


def _is(opened: BinaryIO, file: Path) -> bool:
    """Whether an open file is the one that its path leads to now."""
    try:
        return os.path.samestat(os.fstat(opened.fileno()), file.stat())
    except FileNotFoundError:
        return False


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a whole file atomically."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: object) -> None:
    """Writes a JSON file atomically; NaN and infinities are refused, as JSON has none."""
    write_bytes(path, (json_text(value, indent=2) + "\n").encode())


def json_text(value: object, indent: int | None = None) -> str:
    """JSON that UTF-8 can hold, see `utf8_text`."""
    return utf8_text(json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False))


def utf8_text(text: str) -> str:
    """A text as UTF-8 can hold it: a file's name may have bytes that are no text, which are written as \\udcXX."""
    return text.encode("utf-8", "backslashreplace").decode()


def read_json(path: Path, error: type[InputError]) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        error: missing, not JSON, or not an object.
    """
    try:
        value = json.loads(path.read_bytes(), parse_constant=refuse_constant)
    except (OSError, ValueError, RecursionError) as cause:
        raise error(f"cannot read {path}", expected="a JSON file", got=str(cause)) from cause
    if not isinstance(value, dict):
        raise error(f"cannot use {path}", expected="a JSON object", got=type(value).__name__)
    return value


def refuse_constant(constant: str) -> None:
    """For `json.loads`: NaN and infinities, which Python reads and JSON has not, are refused."""
    raise ValueError(f"{constant} is not JSON")


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def inside(folder: Path, name: str, error: type[InputError]) -> Path:
    """The path of `name` in `folder`; a name read from a file must not lead out of its folder.

    Raises:
        error: the name is absolute, climbs out, reaches out through a link, or cannot be a file's name.
    """
    path = folder / name
    try:
        stays = bool(name) and path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # a null byte, half a character, a loop of links
        stays = False
    if not stays:
        raise error("a file name leads out of its folder", expected=f"a file in {folder}", got=repr(name))
    return path
