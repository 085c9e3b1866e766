"""Serves with one engine while another is built by a command, and hands over between two runs."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from numpy.typing import NDArray

from sp_edge.errors import BackendError, SpEdgeError
from sp_edge_runtime.backends.backend import Backend

_NICE = 10  # how far the builder steps back behind everything else
_LINES = 20  # of the builder's output, for the error
_PATIENCE = 5.0  # seconds between asking the builder to stop and stopping it

_logger = logging.getLogger(__name__)


class HandOver(Backend):
    """Runs graphs on `serving` until the engine is there. A build that fails changes nothing but the description.

    Runs under way end on the engine that they began on, which is closed after the last of them. What happens is logged, too.

    Args:
        serving: serves until then; this closes it.
        command: builds the engine; it runs beside, with low priority.
        open_engine: opens what was built; this closes it.
    """

    def __init__(self, serving: Backend, command: Sequence[str], open_engine: Callable[[], Backend]) -> None:
        self._serving = serving
        self._command = list(command)
        self._open_engine = open_engine
        self._running: Counter[int] = Counter()  # runs under way, by the engine's id
        self._retired: list[Backend] = []
        self._child: subprocess.Popen[str] | None = None
        self._closed = False
        self._lock = threading.Lock()
        self.why = "a TensorRT engine is being built"
        self._builder = threading.Thread(target=self._build, name="sp-edge engine", daemon=True)
        self._builder.start()

    @property
    def title(self) -> str:
        """Of the engine that serves now."""
        return self._serving.description

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Runs one graph; see `Backend.run`."""
        with self._lock:
            if self._closed:
                raise BackendError("the backend was closed", expected="a backend in use")
            backend = self._serving
            self._running[id(backend)] += 1
        try:
            return backend.run(graph, inputs)
        finally:
            with self._lock:
                self._running[id(backend)] -= 1
                done = self._take_done()
            for each in done:
                each.close()

    def close(self) -> None:
        """Stops the builder and closes the engines; a second call does nothing."""
        with self._lock:
            self._closed = True
            child = self._child
        if child is not None:
            _stop(child)
        self._builder.join()
        with self._lock:
            left = [self._serving, *self._retired]
            self._retired = []
        for each in left:
            each.close()

    def _build(self) -> None:
        """The builder's thread."""
        engine = None
        try:
            self._run_command()
            engine = self._open_engine()
            why = ""
        except SpEdgeError as error:
            why = f"no TensorRT engine: {error.what}" + (f", {error.got}" if error.got else "")
        except Exception as error:  # the thread has no one above it to tell
            why = f"no TensorRT engine: {type(error).__name__}: {error}"
        with self._lock:
            self.why = why
            if engine is not None and not self._closed:
                self._retired.append(self._serving)
                self._serving, engine = engine, None
            closed = self._closed
            done = self._take_done()
        if engine is not None:
            engine.close()
        for each in done:
            each.close()
        if not closed:
            _logger.info("now on %s", self.description)

    def _run_command(self) -> None:
        said: deque[str] = deque(maxlen=_LINES)
        with self._lock:
            if self._closed:
                raise BackendError("the backend was closed")
            # A session of its own: Ctrl-C in the terminal is for us, and we stop the builder with whatever it has started.
            self._child = child = subprocess.Popen(  # noqa: S603 - our own command
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        with suppress(OSError):  # it has ended already
            os.setpriority(os.PRIO_PROCESS, child.pid, min(os.getpriority(os.PRIO_PROCESS, 0) + _NICE, 19))
        with child:
            if child.stdout is not None:
                said.extend(line.rstrip() for line in child.stdout)
        if child.returncode != 0:
            raise BackendError(
                "it could not be built",
                expected=" ".join(self._command),
                got=f"it ended with {child.returncode}: " + (" / ".join(line for line in said if line) or "no word"),
            )

    def _take_done(self) -> list[Backend]:
        """Takes out the retired engines on which nothing runs any more; the lock is held."""
        done = [each for each in self._retired if not self._running[id(each)]]
        self._retired = [each for each in self._retired if each not in done]
        return done


def _stop(child: subprocess.Popen[str]) -> None:
    for order in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, order)
        with suppress(subprocess.TimeoutExpired):
            child.wait(_PATIENCE)
            return
