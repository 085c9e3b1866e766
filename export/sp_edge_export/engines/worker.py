"""The process in which one engine is built: reads a job from standard input, and answers in lines of JSON."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import SpEdgeError


def main() -> None:
    """Builds what the first line of standard input asks for.

    Each line on standard output is an object: `progress` (phase, done, steps), `log` (level, words), `error` (the parts of an
    ExportError), or, last, `plan` and `built`. All else that TensorRT prints goes to standard error.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches this process, too; it is the parent that stops the build
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def answer(**what: Any) -> None:
        try:
            answers.write(json.dumps(what) + "\n")
            answers.flush()
        except BrokenPipeError:
            os._exit(1)

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            answer(log=(record.levelno, record.getMessage()))

    logging.basicConfig(level=logging.INFO, handlers=[Handler()])
    try:
        answer(**_build(job, answer))
    except SpEdgeError as error:
        parts = {"what": error.what, "expected": error.expected, "got": error.got, "next_step": error.next_step}
        answer(error=parts)
    except MemoryError:
        answer(error={"what": "too little memory to build an engine", "next_step": "close other programs, or add swap"})
    except OSError as error:
        answer(error={"what": "cannot write the engine", "got": str(error), "next_step": "--engines DIR"})


def _build(job: dict[str, Any], answer: Any) -> dict[str, Any]:
    from sp_edge_export.engines.build import build_plan
    from sp_edge_export.engines.engine import EngineOptions

    options = EngineOptions(**{**job["options"], "targets": tuple(job["options"]["targets"])})
    bundle = Bundle.load(Path(job["bundle"]))
    with tempfile.TemporaryDirectory() as empty:
        os.chdir(empty)  # whatever file a graph names as its weights, it is not here
        plan, built = build_plan(
            bundle,
            job["graph"],
            job["precision"],
            job["max_batch"],
            options,
            Path(job["folder"]),
            progress=lambda *step: answer(progress=step),
        )
        os.chdir("/")
    return {"plan": str(plan), "built": built}


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)
