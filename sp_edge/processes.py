"""Prepares processes that run for weeks, and starts modules of ours in processes of their own."""

from __future__ import annotations

import ctypes
import os
import platform
import sys

_M_ARENA_MAX = -8  # of glibc's malloc.h

_PROGRAM = (
    "import sys; module, count = sys.argv[1], int(sys.argv[2]); given = sys.argv[3 : 3 + count]; "
    "sys.path[:] = sys.argv[3 + count :]; import importlib; importlib.import_module(module).main(*given)"
)


def lasting() -> None:
    """Prepares this process for weeks of streaming, before NumPy is imported and before a thread is started.

    OpenBLAS gets one thread, as its others spin for a while after each call, on cores that the network needs. All threads take
    memory from one arena of glibc's: else each of many that come and go leaves its own one as large as it ever was. What the
    environment says of either (OPENBLAS_NUM_THREADS; MALLOC_ARENA_MAX, GLIBC_TUNABLES) stays as it says.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if "MALLOC_ARENA_MAX" in os.environ or "arena_max" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    if platform.libc_ver()[0] == "glibc":  # other C libraries have no arenas
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def python_command(module: str, *arguments: str) -> list[str]:
    """A command that calls `main` of a module in a new process of this interpreter.

    The process looks for modules where this one does, and nowhere else: `-m` would look in the working folder first, where a
    user may well have a random.py.

    Args:
        module: its full name.
        arguments: of its `main`.
    """
    return [sys.executable, "-c", _PROGRAM, module, str(len(arguments)), *arguments, *sys.path]
