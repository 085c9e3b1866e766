"""Builds a bundle's TensorRT engines, each in a process of its own that holds nothing but TensorRT."""

from __future__ import annotations

import importlib
import json
import logging
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from sp_edge.bundle.bundle import Bundle
from sp_edge.engines.device import find_gpu, free_memory
from sp_edge.engines.plans import Plan, default_folder
from sp_edge.engines.sidecar import FLAVOURS, MAX_BATCH
from sp_edge.errors import BackendError, ExportError, MissingExtraError, SettingsError
from sp_edge.processes import python_command

_log = logging.getLogger(__name__)
Progress = Callable[[str, int, int], None]

_EXTRAS = {"tensorrt": "tensorrt", "tensorrt_rtx": "rtx"}
_GIB = 2**30
# What a builder takes of the host's memory beside its workspace: TensorRT's libraries, and copies of the weights.
_BASE, _COPIES = 1 * _GIB, 4


@dataclass(frozen=True)
class EngineOptions:
    """How to build.

    Attributes:
        flavour: tensorrt, or tensorrt_rtx, which builds ahead of time and without a GPU.
        workspace: GiB of memory that the builder may use for kernels that it tries, up to 1024.
        optimization_level: 0 (built fast) to 5 (runs fast).
        targets: compute capabilities to build for, such as '8.6', with tensorrt_rtx; none: 8.0 and later.
    """

    flavour: str = "tensorrt"
    workspace: float = 1.0
    optimization_level: int = 3
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.flavour not in FLAVOURS:
            raise SettingsError("unknown TensorRT flavour", expected=" or ".join(FLAVOURS), got=self.flavour)
        if not (0 < self.workspace <= 1024 and 0 <= self.optimization_level <= 5):
            raise SettingsError(
                "the engine's options are out of range",
                expected="workspace above 0 and up to 1024 GiB, level 0 to 5",
                got=repr(self),
            )
        if self.targets and self.flavour != "tensorrt_rtx":
            raise SettingsError(
                "only TensorRT-RTX builds for other GPUs than the one at hand", expected="--target rtx", got=self.flavour
            )
        if not all(re.fullmatch(r"\d{1,2}\.\d", target) for target in self.targets):
            raise SettingsError("no compute capability", expected="such as 8.6", got=", ".join(self.targets))


def check_batch(max_batch: int) -> None:
    """Looks whether an engine or a server may be asked for batches up to this.

    Raises:
        SettingsError: it is out of range.
    """
    if not 1 <= max_batch <= MAX_BATCH:
        raise SettingsError("the largest batch is out of range", expected=f"1 to {MAX_BATCH}", got=str(max_batch))


def plans_for(max_batch: int) -> tuple[tuple[str, int], ...]:
    """The (graph, largest batch) of all the plans that a device needs.

    A stream asks the query graph one picture at a time, and gets a static plan for it, and many cameras ask it for several;
    enrollment asks the support graph alone, for one or several.

    Raises:
        SettingsError: max_batch is out of range.
    """
    check_batch(max_batch)
    return tuple(dict.fromkeys((("query", 1), ("query", max_batch), ("support", max_batch))))


def build_engine(
    bundle: Bundle,
    graph: str,
    options: EngineOptions,
    *,
    precision: str | None = None,
    max_batch: int = 1,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Plan, bool]:
    """Builds one graph, unless the same was built before; see `sp_edge.engines.plans` for where it stands.

    The precision is the ONNX graph's own: networks are strongly typed, and no precision flag is set. Builders of one folder
    take turns. Where this process is stopped, its builder ends with it, and no half of a plan is left. What is worth
    knowing, such as a damaged timing cache, is logged.

    Args:
        graph: query or support.
        precision: the bundle's own by default.
        max_batch: 1 gives a static plan; more a plan whose batch reaches from 1 to that.
        folder: of all engines; `default_folder()` by default.
        progress: is told (phase, steps done, steps in all); what it raises stops the build.

    Returns:
        The plan, and whether it was built now.

    Raises:
        MissingExtraError: that TensorRT is not installed.
        BundleError: the bundle was not exported in that precision.
        ExportError: the graph is unsound, there is too little memory, or TensorRT refused the graph or could not build it,
            whose own words are in the message.
    """
    from sp_edge_calibration.session import check_graph  # here, since the builder's process imports this file, too

    check_batch(max_batch)
    chosen = precision or bundle.manifest.precision
    source = bundle.graph(graph, chosen)
    check_installed(options.flavour)
    check_graph(bundle.read_graph(graph, chosen), source.name)
    check_memory(source.stat().st_size, options.workspace)
    job = {
        "bundle": str(bundle.path.resolve()),
        "graph": graph,
        "precision": chosen,
        "max_batch": max_batch,
        "folder": str((folder or default_folder()).resolve()),
        "options": asdict(options),
    }
    done = _run(job, progress or (lambda *_: None))
    return Plan.load(Path(done["plan"])), bool(done["built"])


def check_installed(flavour: str) -> None:
    """Looks whether TensorRT is there; it is not imported, and so takes no memory of this process.

    Raises:
        MissingExtraError: not installed.
    """
    if find_spec(flavour) is None:
        raise MissingExtraError(
            "cannot build an engine; on a Jetson, JetPack brings tensorrt for the system's Python, and a virtual environment"
            " sees it with --system-site-packages",
            package=flavour.replace("_", "-"),
            extra=_EXTRAS[flavour],
        )


def load_tensorrt(flavour: str) -> ModuleType:
    """Imports TensorRT into this process.

    Raises:
        MissingExtraError: not installed.
        ExportError: it is installed, and its libraries do not load.
    """
    check_installed(flavour)
    try:
        return importlib.import_module(flavour)
    except (ImportError, OSError, RuntimeError) as cause:
        raise ExportError(f"{flavour} is installed, but does not load", got=str(cause), next_step="sp-edge doctor") from cause


def check_memory(graph_bytes: int, workspace: float) -> None:
    """Looks whether the host has memory for a builder; where the GPU shares it, for its workspace, too.

    Raises:
        ExportError: it has too little, and the builder would be killed half-way.
    """
    free = free_memory()
    try:
        shared = find_gpu().integrated
    except BackendError:
        shared = False
    needed = _BASE + _COPIES * graph_bytes + (workspace * _GIB if shared else 0)
    if free is not None and free < needed:
        raise ExportError(
            "too little memory to build an engine",
            expected=f"{needed / _GIB:.1f} GiB free, swap included",
            got=f"{free / _GIB:.1f} GiB",
            next_step="close other programs, lower --workspace, or add swap",
        )


def _run(job: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Starts the builder's process, hands on what it logs, and gives its last word."""
    with tempfile.TemporaryFile() as chatter:
        child = subprocess.Popen(  # noqa: S603 - this very interpreter
            python_command("sp_edge_export.engines.worker"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=chatter,
            text=True,
            encoding="utf-8",
        )
        try:
            return _listen(child, job, progress) or _explain(child, chatter)
        finally:
            child.kill()
            child.communicate()


def _listen(child: subprocess.Popen[str], job: dict[str, Any], progress: Progress) -> dict[str, Any] | None:
    assert child.stdin is not None and child.stdout is not None  # noqa: S101, PT018 - pipes, as asked for
    try:
        # Its standard input stays open: the child ends where that does, so also with this process.
        child.stdin.write(json.dumps(job) + "\n")
        child.stdin.flush()
    except BrokenPipeError:
        return None  # it has ended before it began; `_explain` says how
    for line in child.stdout:
        message = json.loads(line)
        if "progress" in message:
            progress(*message["progress"])
        elif "log" in message:
            _log.log(*message["log"])
        elif "error" in message:
            raise ExportError(**message["error"])
        else:
            return dict(message)
    return None


def _explain(child: subprocess.Popen[str], chatter: IO[bytes]) -> dict[str, Any]:
    """Raises the error of a builder that ended without a word."""
    code = child.wait()
    chatter.seek(0)
    said = chatter.read().decode(errors="replace").strip()[-1000:]
    ended = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    raise ExportError(
        "the engine's builder did not finish",
        got=f"{ended}; {said}" if said else ended,
        next_step="free memory or lower --workspace: the system ends what takes too much" if code == -signal.SIGKILL else "",
    )
