"""Arrays that are too large for memory: written piece by piece, and mapped from their file."""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import DTypeLike, NDArray


@contextmanager
def array_file(
    file: Path, part: Path, shape: tuple[int, ...], dtype: DTypeLike
) -> Iterator[Callable[[NDArray[np.generic]], object]]:
    """Writes an .npy file; it has its name only once the block has ended well.

    Args:
        part: what it is called until then, in the same folder. What a killed process left there is overwritten.
        shape, dtype: of the whole array, whose rows the block hands over in their order, some at a time.

    Raises:
        OSError: it cannot be written; ENOSPC, before anything is written, where the disk has no room for it.
    """
    kind = np.dtype(dtype)
    part.unlink(missing_ok=True)
    check_room(part.parent, math.prod(shape) * kind.itemsize)
    try:
        with part.open("wb") as out:
            # Plain writes rather than a map: a full disk under a map would end the process by a signal.
            npy.write_array_header_1_0(out, {"descr": npy.dtype_to_descr(kind), "fortran_order": False, "shape": shape})
            yield lambda rows: out.write(np.ascontiguousarray(rows, kind).tobytes())
            out.flush()
            os.fsync(out.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def check_room(folder: Path, size: int) -> None:
    """Raises OSError, ENOSPC, where a folder's disk has no room for so many bytes."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(errno.ENOSPC, f"{free / 1e9:.2f} GB are free", str(folder))


def is_full(error: OSError) -> bool:
    """Whether a write failed for want of room."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
