"""Writes files so that a reader never sees half of one, and reads tensors without trusting them."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import fnmatch
import glob
import hashlib
import json
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sp_edge.errors import InputError

# Linux's rename that can swap (man 2 rename), which Python does not offer.
_RENAMEAT2 = getattr(ctypes.CDLL(None), "renameat2", None)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; it takes the name `path` once the block ends, and vanishes if it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Gives a temporary folder beside `path`; it replaces `path` once the block ends, and vanishes if it fails.

    Where the system can swap two folders in one step (Linux, on most file systems), there is one at `path` all the while.
    Elsewhere there is none between two renames, and a process killed there leaves the old one in `.NAME.*/replaced`. A link at
    `path` is replaced, too; what it leads to stays.

    Raises:
        NotADirectoryError: a file is at `path`.
        OSError: `path` cannot be replaced: a mount, such as a container's volume, or '.', which has no name of its own.
    """
    if not _is_free_or_folder(path):
        raise NotADirectoryError(f"not a folder: {path}")
    if path.name in ("", "..") or os.path.ismount(path):
        raise OSError(errno.EBUSY, "cannot be replaced as a whole; give the name of a folder in it", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, aside = _beside(path), _beside(path)
    old = aside / "replaced"
    try:
        temporary.mkdir()
        yield temporary
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


def _beside(path: Path) -> Path:
    """A hidden name in the same folder that nothing has yet; short, since a file's name has at most 255 bytes."""
    return path.parent / f".{path.name[:20]}.{secrets.token_hex(8)}{path.suffix}"


def cache_folder(name: str, error: type[InputError], *, next_step: str) -> Path:
    """The platform's folder for what can be made again, such as ~/.cache/sp-edge/engines; XDG_CACHE_HOME moves it.

    Raises:
        error: the user has no home folder.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        home = given if given.is_absolute() else Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    except RuntimeError as cause:
        raise error(f"no place for the cache of {name}", got=str(cause), next_step=next_step) from cause
    return home / "sp-edge" / name


def remove_leftovers(path: Path) -> None:
    """Removes what writers of `path` that were killed have left beside it; nobody may be writing it now."""
    for leftover in path.parent.glob(f".{glob.escape(path.name[:20])}.{'[0-9a-f]' * 16}{glob.escape(path.suffix)}"):
        leftover.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock of a file that several processes read, change and write; others wait their turn.

    The lock is a file beside it, and goes with whoever held it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.parent / f".{path.name[:80]}.lock"
    while True:
        with file.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is(lock, file):
                continue  # what was waited for is gone: whoever comes next locks another file
            try:
                yield
            finally:
                file.unlink(missing_ok=True)
            return


def _is(opened: TextIO, file: Path) -> bool:
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
    """JSON that UTF-8 can hold: a file's name may have bytes that are no text, which JSON writes as \\udcXX."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace").decode()


def read_json(path: Path, error: type[InputError]) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        error: missing, not JSON, or not an object.
    """
    try:
        value = json.loads(path.read_bytes(), parse_constant=_refuse)
    except (OSError, ValueError, RecursionError) as cause:
        raise error(f"cannot read {path}", expected="a JSON file", got=str(cause)) from cause
    if not isinstance(value, dict):
        raise error(f"cannot use {path}", expected="a JSON object", got=type(value).__name__)
    return value


def _refuse(constant: str) -> None:
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


def save_tensors(path: Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, object]) -> None:
    """Writes a safetensors file atomically; each metadata value is stored as JSON. The same content gives the same bytes."""
    content = {name: np.asarray(value, order="C") for name, value in tensors.items()}
    described = {key: json_text(value) for key, value in metadata.items()}
    write_bytes(path, _ordered(save(content, described)))


def _ordered(content: bytes) -> bytes:
    """A safetensors file with its metadata in order, which the library writes in any."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join((len(text).to_bytes(8, "little"), text, memoryview(content)[start:]))


def load_tensors(path: Path, error: type[InputError]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Reads what `save_tensors` wrote: tensors by name, metadata by key.

    Raises:
        error: missing, truncated, or not written by `save_tensors`.
    """
    try:
        content = path.read_bytes()  # read, not mapped: if another program cut a mapped file short, this one would die of it
    except OSError as cause:
        raise error(f"cannot read {path}", expected="a safetensors file written by sp-edge", got=str(cause)) from cause
    return read_tensors(content, path, error)


def read_tensors(content: bytes, name: object, error: type[InputError]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """As `load_tensors`, from a file's content; `name` is for messages."""
    try:
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        metadata = {key: json.loads(value, parse_constant=_refuse) for key, value in header.get("__metadata__", {}).items()}
    # KeyError, AttributeError: a kind of number that numpy has not.
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as cause:
        raise error(f"cannot read {name}", expected="a safetensors file written by sp-edge", got=str(cause)) from cause
    return tensors, metadata
