"""Reads class vectors that were made elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from sp_edge.errors import PromptError
from sp_edge.prompts.table import PromptTable, clean_name


def read_vectors(path: Path) -> PromptTable | dict[str, NDArray[np.float32]]:
    """A prompt table, or the vector of each class by clean name.

    Args:
        path: a table that `sp-edge prompts` wrote; or .npz or .safetensors with one array (T,) a class, under its name.

    Raises:
        PromptError: unreadable, of another form, or a name stands twice in different spellings.
    """
    arrays: Mapping[str, NDArray[Any]]
    try:
        if path.suffix == ".npz":
            with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
                arrays = {name: content[name] for name in content.files}
        else:
            with safe_open(path, framework="np") as content:
                if (content.metadata() or {}).get("kind") == '"prompts"':
                    return PromptTable.load(path)
                arrays = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    except PromptError:
        raise
    except Exception as cause:  # zipfile, zlib, numpy and safetensors raise whatever they stumble over
        raise PromptError(
            f"cannot read {path}",
            expected="a table that `sp-edge prompts` wrote, .npz or .safetensors",
            got=str(cause)[:300] or type(cause).__name__,
        ) from cause
    return _checked(path, arrays)


def _checked(path: Path, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    vectors: dict[str, NDArray[np.float32]] = {}
    for written, array in arrays.items():
        name = clean_name(written)
        if name in vectors:
            raise PromptError(f"{path} names a class twice", expected="each class once", got=name)
        if array.ndim != 1 or array.dtype.kind != "f" or not np.isfinite(array).all():
            raise PromptError(
                f"{path} holds no vector for '{name}'",
                expected="an array of finite floats (T,) under each class's name",
                got=f"{array.dtype} {array.shape}",
            )
        vectors[name] = array.astype(np.float32)
    if len({len(vector) for vector in vectors.values()}) != 1:
        lengths = sorted({len(vector) for vector in vectors.values()})
        raise PromptError(f"{path} holds vectors of several lengths, or none", expected="one length", got=str(lengths))
    return vectors
