"""Starts a process as a user would, and says how long it takes to its first label and what memory its stream takes."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sp_edge.engines.device import read_text
from sp_edge.errors import BackendError, SpEdgeError
from sp_edge.processes import lasting, python_command

FRAMES = 10
TIMEOUT = 120  # seconds


@dataclass(frozen=True)
class Job:
    """What the process is to do.

    Attributes:
        bundle, bank, picture: paths.
        device, precision: as `open_backend` takes them.
        engines: folder of TensorRT engines, or None.
    """

    bundle: str
    bank: str
    picture: str
    device: str
    precision: str | None
    engines: str | None = None


@dataclass(frozen=True)
class Fresh:
    """What was found.

    Attributes:
        label_s: seconds from the start of the process to the label of a picture, Python's own start among them.
        memory_mb: resident memory of the process after a stream of 10 frames, MB (10^6 bytes).
        capture_mb: resident memory of the process that captures the frames for it.
    """

    label_s: float
    memory_mb: float
    capture_mb: float


def start(job: Job) -> Fresh:
    """Runs the job in a process of its own, prepared as `sp-edge stream` prepares itself.

    Raises:
        BackendError: it fails, does not end in time, or does not say what it found.
    """
    command = python_command("sp_edge_runtime.bench.fresh", json.dumps(asdict(job)))
    began = time.monotonic()  # which counts alike in every process
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as cause:
        raise BackendError("a fresh process gave no label", expected=f"within {TIMEOUT} seconds") from cause
    if ran.returncode != 0:
        said = (ran.stderr.strip().splitlines() or [f"it ended with {ran.returncode}"])[-1]
        raise BackendError("a fresh process failed", expected="a label", got=said[:300])
    try:
        found: Mapping[str, Any] = json.loads(ran.stdout.splitlines()[-1])  # libraries may print lines before
        if "failed" not in found:
            return Fresh(found["labelled"] - began, found["memory_mb"], found["capture_mb"])
    except (IndexError, KeyError, TypeError, ValueError) as cause:
        raise BackendError("a fresh process gave no figures", expected="JSON", got=ran.stdout.strip()[-300:]) from cause
    raise BackendError("a fresh process failed", expected="a label", got=found["failed"])


def main(text: str) -> None:
    """The process: a label, then a stream, then what it has found as JSON."""
    lasting()
    try:
        found = _found(Job(**json.loads(text)))
    except SpEdgeError as error:
        found = {"failed": f"{error.what}: {error.got}"}
    print(json.dumps(found))


def _found(job: Job) -> dict[str, Any]:
    from sp_edge_runtime.recognizer import Recognizer
    from sp_edge_runtime.sources.camera import open_source
    from sp_edge_runtime.sources.options import SourceOptions
    from sp_edge_runtime.streams.options import StreamOptions
    from sp_edge_runtime.streams.stream import results

    where = {"device": job.device, "precision": job.precision, "engines": job.engines}
    with Recognizer.load(job.bundle, bank=job.bank, **where) as recognizer:  # type: ignore[arg-type]
        recognizer.classify(Path(job.picture))
        labelled = time.monotonic()
        options = StreamOptions(max_frames=FRAMES)
        with (
            open_source("test://", SourceOptions(rate=100, size_wh=(1280, 720))) as source,
            closing(results(recognizer, source, options)) as found,  # type: ignore[type-var]
        ):
            frames = iter(found)
            next(frames)
            captured = sum(map(resident_mb, children()))
            for _ in frames:
                pass
        return {"labelled": labelled, "memory_mb": resident_mb(), "capture_mb": captured}


def resident_mb(process: str = "self") -> float:
    """Resident memory of a process, MB (10^6 bytes); 0 where it has ended."""
    status = read_text(Path(f"/proc/{process}/status")) or ""
    kilobytes = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(kilobytes[0]) * 1024 / 1e6 if kilobytes else 0.0


def children() -> list[str]:
    """The processes that this one has started, by their numbers."""
    tasks = Path("/proc/self/task").glob("*/children")
    return [child for task in tasks for child in (read_text(task) or "").split()]
