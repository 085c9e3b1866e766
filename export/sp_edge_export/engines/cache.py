"""Keeps what TensorRT's builder measured, so that the next build on this device need not measure it again.

A cache is TensorRT's own format, which nothing but its length guards. Here a digest stands before it, and what does not
match it is never handed to TensorRT.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from sp_edge.engines.device import Device
from sp_edge.engines.plans import build_key
from sp_edge.files import write_bytes

_DIGEST = 64


def cache_path(folder: Path, device: Device, targets: tuple[str, ...]) -> Path:
    """The cache's file: one for each device and version."""
    return folder / "timing" / f"{build_key(device, targets)}.cache"


def read_cache(path: Path) -> tuple[bytes, str]:
    """The cache's content, and a word on why there is none although there is a file."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return b"", ""
    except OSError as error:
        return b"", f"the timing cache cannot be read, so all is measured anew: {error}"
    digest, blob = content[:_DIGEST], content[_DIGEST:]
    if sha256(blob).hexdigest().encode() != digest:
        return b"", f"the timing cache {path.name} was damaged, so all is measured anew"
    return blob, ""


def write_cache(path: Path, blob: bytes) -> None:
    """Writes a cache, whole or not at all."""
    write_bytes(path, sha256(blob).hexdigest().encode() + blob)
