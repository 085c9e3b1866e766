"""Builds a TensorRT engine from a bundle's graph, and writes beside the plan a sidecar that says what it is."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import sp_edge
from sp_edge.bundle import Bundle
from sp_edge.errors import ExportError, MissingExtraError, SettingsError
from sp_edge.files import sha256, write_bytes, write_json

SCHEMA = 1
FLAVOURS = {"tensorrt": "tensorrt", "tensorrt_rtx": "rtx"}


@dataclass(frozen=True)
class EngineOptions:
    """How to build.

    Attributes:
        flavour: tensorrt, or tensorrt_rtx, which builds ahead of time without a GPU.
        max_batch: the profile reaches from 1 to this; 1 gives a static engine.
        workspace: GiB of GPU memory that the builder may use, up to 1024.
        optimization_level: 0 (fast build) to 5 (fast engine).
    """

    flavour: str = "tensorrt"
    max_batch: int = 1
    workspace: float = 1.0
    optimization_level: int = 3

    def __post_init__(self) -> None:
        if self.flavour not in FLAVOURS:
            raise SettingsError("unknown TensorRT flavour", expected=" or ".join(FLAVOURS), got=self.flavour)
        if not (1 <= self.max_batch <= 1024 and 0 < self.workspace <= 1024 and 0 <= self.optimization_level <= 5):
            raise SettingsError(
                "the engine's options are out of range",
                expected="batch 1 to 1024, workspace above 0 and up to 1024 GiB, level 0 to 5",
                got=repr(self),
            )


def load_tensorrt(flavour: str) -> ModuleType:
    """Imports TensorRT.

    Raises:
        MissingExtraError: not installed.
    """
    try:
        return importlib.import_module(flavour)
    except ImportError as cause:
        raise MissingExtraError(
            "cannot build an engine; on a Jetson, JetPack brings tensorrt for the system's Python, and a virtual environment"
            " sees it with --system-site-packages",
            package=flavour.replace("_", "-"),
            extra=FLAVOURS[flavour],
        ) from cause


def build_engine(
    bundle: Bundle, graph: str, plan: Path, options: EngineOptions, *, progress: Callable[[str, int, int], None] | None = None
) -> dict[str, Any]:
    """Builds one graph, in the bundle's precision, into `plan` and `plan`.json.

    Networks are strongly typed: the precision is that of the ONNX graph, and no precision flag is set.

    Args:
        graph: 'query' or 'support'.
        progress: is told (phase, steps done, steps in all).

    Returns:
        The sidecar's content.

    Raises:
        ExportError: TensorRT refused the graph, or could not build it; its own words are in the message.
        BaseException: what `progress` raised, which stops the build.
    """
    trt = load_tensorrt(options.flavour)
    source = bundle.graph(graph)
    log = _log(trt)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(source)):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        words = "; ".join(
            f"{error.node_operator()} node {error.node()} '{error.node_name()}': {error.desc()}" for error in errors
        )
        raise ExportError(f"TensorRT {trt.__version__} cannot read {source.name}", got=words or "; ".join(log.errors))
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(options.workspace * 2**30))
    config.builder_optimization_level = options.optimization_level
    monitor = None if progress is None else _monitor(trt, progress)
    if monitor is not None:
        config.progress_monitor = monitor
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        rest = tuple(tensor.shape)[1:]
        profile.set_shape(tensor.name, (1, *rest), (options.max_batch, *rest), (options.max_batch, *rest))
    config.add_optimization_profile(profile)
    built = builder.build_serialized_network(network, config)
    if monitor is not None and monitor.stopped_by is not None:
        raise monitor.stopped_by
    if built is None:
        raise ExportError(f"TensorRT {trt.__version__} could not build {source.name}", got="; ".join(log.errors)[-1000:])
    write_bytes(plan, bytes(built))
    sidecar = {
        "kind": "sp-edge engine",
        "schema": SCHEMA,
        "sp_edge": sp_edge.__version__,
        "plan": {"sha256": sha256(plan), "bytes": plan.stat().st_size},
        "onnx": {"file": source.name, "sha256": sha256(source)},
        "graph": graph,
        "bundle": bundle.fingerprint,
        "precision": bundle.manifest.precision,
        "preprocess": bundle.manifest.preprocess.to_json(),
        "builder": {
            "flavour": options.flavour,
            "version": trt.__version__,
            "max_batch": options.max_batch,
            "workspace_gib": options.workspace,
            "optimization_level": options.optimization_level,
        },
        "inputs": [_describe(network.get_input(i)) for i in range(network.num_inputs)],
        "outputs": [_describe(network.get_output(i)) for i in range(network.num_outputs)],
        "host": {"system": platform.system(), "machine": platform.machine(), "release": platform.release()},
    }
    write_json(plan.with_name(plan.name + ".json"), sidecar)
    return sidecar


def _describe(tensor: Any) -> dict[str, Any]:
    return {"name": tensor.name, "shape": list(tensor.shape), "dtype": str(tensor.dtype).rsplit(".", 1)[-1].lower()}


def _log(trt: ModuleType) -> Any:
    class Log(trt.ILogger):  # type: ignore[name-defined, misc]
        """Keeps TensorRT's errors for the message; the rest is its own chatter."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.errors.append(message)

    return Log()


def _monitor(trt: ModuleType, progress: Callable[[str, int, int], None]) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined, misc]
        """Hands TensorRT's phases on; what `progress` raises, such as Ctrl-C, stops the build and is kept for the caller."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}
            self.stopped_by: BaseException | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps
            self._tell(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._tell(phase_name, step + 1, self._steps.get(phase_name, step + 1))
            return self.stopped_by is None

        def phase_finish(self, phase_name: str) -> None:
            steps = self._steps.pop(phase_name, 1)
            self._tell(phase_name, steps, steps)

        def _tell(self, phase: str, done: int, steps: int) -> None:
            # TensorRT would print an exception and report a build that was cancelled.
            try:
                if self.stopped_by is None:
                    progress(phase, done, steps)
            except BaseException as error:
                self.stopped_by = error

    return Monitor()
