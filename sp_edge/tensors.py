"""Keeps arrays in safetensors files, which are read without trusting them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sp_edge.errors import InputError
from sp_edge.files import json_text, refuse_constant, write_bytes


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
        metadata = {
            key: json.loads(value, parse_constant=refuse_constant) for key, value in header.get("__metadata__", {}).items()
        }
    # KeyError, AttributeError: a kind of number that numpy has not.
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as cause:
        raise error(f"cannot read {name}", expected="a safetensors file written by sp-edge", got=str(cause)) from cause
    return tensors, metadata
