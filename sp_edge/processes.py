"""Starts modules of ours in processes of their own."""

from __future__ import annotations

import sys

_PROGRAM = (
    "import sys; module, count = sys.argv[1], int(sys.argv[2]); given = sys.argv[3 : 3 + count]; "
    "sys.path[:] = sys.argv[3 + count :]; import importlib; importlib.import_module(module).main(*given)"
)


def python_command(module: str, *arguments: str) -> list[str]:
    """A command that calls `main` of a module in a new process of this interpreter.

    The process looks for modules where this one does, and nowhere else: `-m` would look in the working folder first, where a
    user may well have a random.py.

    Args:
        module: its full name.
        arguments: of its `main`.
    """
    return [sys.executable, "-c", _PROGRAM, module, str(len(arguments)), *arguments, *sys.path]
