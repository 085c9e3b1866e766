"""Writes files so that a reader never sees half of one, and reads tensors without trusting them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from sp_edge.errors import InputError


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; it takes the name `path` once the block ends, and vanishes if it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Gives a temporary folder beside `path`; it replaces `path` once the block ends, and vanishes if it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name[:100]}.", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name[:100]}.old.", dir=path.parent))
            os.replace(path, old / "replaced")
            os.replace(temporary, path)
            shutil.rmtree(old)
        else:
            os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a whole file atomically."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: object) -> None:
    """Writes a JSON file atomically; NaN and infinities are refused, as JSON has none."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path, error: type[InputError]) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        error: missing, not JSON, or not an object.
    """
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as cause:
        raise error(f"cannot read {path}", expected="a JSON file", got=str(cause)) from cause
    if not isinstance(value, dict):
        raise error(f"cannot use {path}", expected="a JSON object", got=type(value).__name__)
    return value


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def inside(folder: Path, name: str, error: type[InputError]) -> Path:
    """The path of `name` in `folder`; a name read from a file must not lead out of its folder.

    Raises:
        error: the name is absolute, climbs out, or reaches out through a link.
    """
    path = folder / name
    if not name or "\0" in name or not path.resolve().is_relative_to(folder.resolve()):
        raise error("a file name leads out of its folder", expected=f"a file in {folder}", got=repr(name))
    return path


def save_tensors(path: Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, object]) -> None:
    """Writes a safetensors file atomically; each metadata value is stored as JSON."""
    content = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    described = {key: json.dumps(value, ensure_ascii=False, allow_nan=False) for key, value in metadata.items()}
    write_bytes(path, save(content, described))


def load_tensors(path: Path, error: type[InputError]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Reads what `save_tensors` wrote: tensors by name, metadata by key.

    Raises:
        error: missing, truncated, or not written by `save_tensors`.
    """
    try:
        with safe_open(path, framework="np") as content:
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
            metadata = {key: json.loads(value) for key, value in (content.metadata() or {}).items()}
    except (OSError, SafetensorError, ValueError, TypeError, RecursionError) as cause:
        raise error(f"cannot read {path}", expected="a safetensors file written by sp-edge", got=str(cause)) from cause
    return tensors, metadata
