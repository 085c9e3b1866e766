"""One engine serves while a command builds another; the command here is a stand-in."""

from __future__ import annotations

import logging
import os
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import threads
from sp_edge.errors import BackendError, PlanError
from sp_edge_runtime.backends.backend import Backend
from sp_edge_runtime.backends.hand_over import HandOver

until = partial(threads.until, patience=20)


class Named(Backend):
    """Answers with its number; a run waits while `gate` is closed."""

    def __init__(self, number: float) -> None:
        self.number = number
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.closed = 0

    @property
    def title(self) -> str:
        return f"engine {self.number:g}"

    def run(self, graph: str, inputs: Any) -> dict[str, np.ndarray]:
        assert not self.closed, "run after it was closed"
        self.entered.set()
        assert self.gate.wait(20)
        assert not self.closed, "closed in the middle of a run"
        return {"feature": np.array([self.number])}

    def close(self) -> None:
        self.closed += 1


def python(program: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", program, *map(str, arguments)]


# Waits for a file that the test makes.
WAIT = "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.01)"


def number(backend: Backend) -> float:
    return float(backend.run("query", {})["feature"][0])


def test_serves_builds_and_hands_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sp_edge_runtime")
    one, two = Named(1), Named(2)
    with HandOver(one, python(WAIT, tmp_path / "go"), lambda: two) as backend:
        assert number(backend) == 1
        assert backend.description == "engine 1 (a TensorRT engine is being built)"
        (tmp_path / "go").touch()
        until(lambda: number(backend) == 2)
        assert backend.description == "engine 2"
        until(lambda: one.closed == 1)
    assert (one.closed, two.closed) == (1, 1)
    assert "now on engine 2" in caplog.messages


def test_a_run_under_way_ends_where_it_began() -> None:
    one, two = Named(1), Named(2)
    opened = threading.Event()

    def open_engine() -> Backend:
        assert opened.wait(20)
        return two

    got: list[float] = []
    with HandOver(one, python("pass"), open_engine) as backend:
        one.gate.clear()
        worker = threading.Thread(target=lambda: got.append(number(backend)))
        worker.start()
        assert one.entered.wait(20)
        opened.set()
        until(lambda: backend.description == "engine 2")
        assert number(backend) == 2
        assert not one.closed
        one.gate.set()
        worker.join()
        until(lambda: one.closed == 1)
    assert got == [1]


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import sys; print('parsing'); print('error: out of memory', file=sys.stderr); sys.exit(1)", "error: out of memory"),
        ("import os; os.kill(os.getpid(), 9)", "ended with -9"),
    ],
    ids=["error", "killed"],
)
def test_a_build_that_fails_leaves_the_other_serving(program: str, words: str) -> None:
    one = Named(1)
    with HandOver(one, python(program), lambda: Named(2)) as backend:
        until(lambda: "no TensorRT engine" in backend.description)
        assert words in backend.description
        assert number(backend) == 1
    assert one.closed == 1


def test_a_command_that_is_not_there() -> None:
    with HandOver(Named(1), ["/no/such/program"], lambda: Named(2)) as backend:
        until(lambda: "no TensorRT engine: FileNotFoundError" in backend.description)
        assert number(backend) == 1


@pytest.mark.parametrize("error", [PlanError("no engine fits", got="another GPU"), ValueError("odd")])
def test_an_engine_that_does_not_open(error: Exception) -> None:
    def open_engine() -> Backend:
        raise error

    with HandOver(Named(1), python("pass"), open_engine) as backend:
        until(lambda: "no TensorRT engine" in backend.description)
        assert ("another GPU" if isinstance(error, PlanError) else "ValueError: odd") in backend.description
        assert number(backend) == 1


def test_closing_stops_the_builder_and_all_that_it_started(tmp_path: Path) -> None:
    program = (
        "import os, subprocess, sys, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "pathlib.Path(sys.argv[1]).write_text(f'{os.getpid()} {child.pid} {os.getpriority(os.PRIO_PROCESS, 0)}')\n"
        "child.wait()"
    )
    one, two = Named(1), Named(2)
    backend = HandOver(one, python(program, tmp_path / "pids"), lambda: two)
    until(lambda: (tmp_path / "pids").exists() and len((tmp_path / "pids").read_text().split()) == 3)
    builder, child, priority = map(int, (tmp_path / "pids").read_text().split())
    backend.close()
    backend.close()
    assert priority == min(os.getpriority(os.PRIO_PROCESS, 0) + 10, 19)
    for pid in (builder, child):
        until(lambda pid=pid: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2])
    assert one.closed >= 1
    assert two.closed == 0
    with pytest.raises(BackendError, match="closed"):
        number(backend)


def test_closed_while_the_engine_opens() -> None:
    one, two = Named(1), Named(2)
    opening, go = threading.Event(), threading.Event()

    def open_engine() -> Backend:
        opening.set()
        assert go.wait(20)
        return two

    backend = HandOver(one, python("pass"), open_engine)
    assert opening.wait(20)
    threading.Timer(0.05, go.set).start()
    backend.close()
    assert (one.closed, two.closed) == (1, 1)
