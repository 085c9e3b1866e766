"""What the harnesses of reliability share: the toy network of the tests, commands that can be killed, and the printed row."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))


def arguments(about: str | None, count: int) -> argparse.Namespace:
    """--count and --seed, which every harness takes, and --only, which those take that know several commands or files."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=count)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", metavar="NAME", help="leave out others; may be repeated")
    return parser.parse_args()


def row(what: str, tried: int, wrong: list[str], note: str = "") -> None:
    """Prints one row of the table in docs/measurements/reliability.md, and what was wrong."""
    print(f"| {what} | {tried:,} | {len(wrong)} | {note} |", flush=True)
    for line in wrong[:10]:
        print(f"  wrong: {line}", flush=True)


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: its exit code; negative: the signal that ended it.
        said: what it printed on both channels.
        seconds: how long it took.
    """

    code: int
    said: str
    seconds: float


def command(work: Callable[[], int], kill_after: float | None = None) -> Ended:
    """Runs work in a process of its own, a fork of this one, so that a case takes as long as the work alone.

    Args:
        work: gives an exit code.
        kill_after: seconds until the process is killed with SIGKILL, if it has not ended.
    """
    sys.stdout.flush()
    read, write = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.close(read)
            os.dup2(write, 1)
            os.dup2(write, 2)
            sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), write_through=True)
            sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), write_through=True)
            code = work()
        except BaseException as error:
            os.write(2, f"Traceback: {type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(child, signal.SIGKILL)
        said = pipe.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    return Ended(os.waitstatus_to_exitcode(status), said, time.monotonic() - began)


def import_what_forks_need(*, training: bool) -> None:
    """Imports it once, before there are threads. A training run of seconds is to have states to go on from."""
    import sp_edge_runtime.recognizer  # noqa: F401

    if training:
        import sp_edge.text
        import sp_edge.training.loop
        import sp_edge.training.run
        import sp_edge_export.export  # noqa: F401

        sp_edge.training.loop.SAVE_EVERY_S = 0.05


def sp_edge(*words: object) -> Callable[[], int]:
    """The command `sp-edge` as work."""
    from sp_edge.cli import cli
    from sp_edge.cli.common import run

    return lambda: run(cli, [str(word) for word in words])
