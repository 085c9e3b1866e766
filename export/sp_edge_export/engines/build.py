"""Parses a graph and builds it, with TensorRT >= 10.3, TensorRT 11 or TensorRT-RTX, by the names that all of them have."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import sp_edge
from sp_edge.bundle.bundle import Bundle
from sp_edge.engines.device import Device, free_gpu_memory
from sp_edge.engines.plans import Plan, plan_path, sidecar_of
from sp_edge.engines.sidecar import Shape, Sidecar, Tensor
from sp_edge.errors import ExportError, PlanError
from sp_edge.files import locked, remove_leftovers, write_bytes, write_json
from sp_edge_export.engines.cache import cache_path, read_cache, write_cache
from sp_edge_export.engines.engine import EngineOptions, Progress, load_tensorrt
from sp_edge_export.engines.types import check_precision, dtype_name, kernel_dtypes, layer_dtypes

_log = logging.getLogger(__name__)
_GIB = 2**30


def build_plan(
    bundle: Bundle,
    graph: str,
    precision: str,
    max_batch: int,
    options: EngineOptions,
    folder: Path,
    *,
    progress: Progress,
) -> tuple[Path, bool]:
    """Builds one plan in this process, unless the same stands there; for the arguments see `engine.build_engine`.

    Returns:
        The plan's file, and whether it was built now.

    Raises:
        ExportError: see `engine.build_engine`.
        BundleError: a graph has changed since the bundle was opened.
        BaseException: what `progress` raised, which stops the build.
    """
    trt = load_tensorrt(options.flavour)
    device = Device.here(options.flavour, trt.__version__)
    source = bundle.graph(graph, precision)
    facts: dict[str, Any] = {
        "sp_edge": sp_edge.__version__,
        "bundle": bundle.fingerprint,
        "graph": graph,
        "precision": precision,
        "onnx_file": source.name,
        "onnx_sha256": bundle.manifest.files[source.name][0],
        "device": device,
        "targets": options.targets,
        "max_batch": max_batch,
        "workspace": float(options.workspace),
        "optimization_level": options.optimization_level,
        "preprocess": bundle.manifest.preprocess.to_json(),
        "calibration": _calibration(bundle, precision),
    }
    path = plan_path(bundle, graph, precision, max_batch, device, targets=options.targets, folder=folder)
    with locked(folder / "build"):
        for file in (path, sidecar_of(path)):
            remove_leftovers(file)
        if _stands(path, facts):
            return path, False
        _check_gpu_memory(device, options)
        io = bundle.manifest.to_json()["io"][graph]
        declared = {**io["inputs"], **io["outputs"]}
        cache = cache_path(folder, device, options.targets)
        build = _Build(trt, options, progress, has_gpu=device.compute_capability is not None)
        plan, found = build.run(bundle.read_graph(graph, precision), source.name, declared, max_batch, cache)
        for what, counts in (("the network", found["layers"]), ("the engine", found["kernels"])):
            if counts is not None:
                check_precision(precision, counts, what)
        sidecar = Sidecar(**facts, **found, plan_sha256=sha256(plan).hexdigest(), plan_bytes=len(plan))
        sidecar_of(path).unlink(missing_ok=True)
        write_bytes(path, plan)
        write_json(sidecar_of(path), sidecar.to_json())
    return path, True


def _calibration(bundle: Bundle, precision: str) -> str | None:
    """Digest of the pictures by which export converted the graphs, as the manifest's stage says it."""
    stages = [stage for stage in bundle.manifest.stages if stage.get("stage") == precision]
    pictures = stages[0].get("calibration") if stages else None
    digest = pictures.get("sha256") if isinstance(pictures, dict) else None
    return digest if isinstance(digest, str) else None


def _stands(path: Path, facts: Mapping[str, Any]) -> bool:
    """Whether a plan that was built from and by the same is there, whole; another driver makes no difference."""
    with suppress(PlanError):
        plan = Plan.load(path)
        plan.read()
        here = facts["device"]
        there = replace(plan.sidecar.device, driver=here.driver, cuda=here.cuda)
        before = {name: getattr(plan.sidecar, name) for name in facts}
        return {**before, "device": there} == facts
    return False


def _check_gpu_memory(device: Device, options: EngineOptions) -> None:
    if device.compute_capability is None or options.flavour == "tensorrt_rtx":
        return  # nothing runs on the GPU while TensorRT-RTX builds
    free = free_gpu_memory()
    if free < options.workspace * _GIB:
        raise ExportError(
            "too little GPU memory to build an engine",
            expected=f"{options.workspace:.1f} GiB free, as the workspace",
            got=f"{free / _GIB:.1f} GiB on {device.gpu}",
            next_step="close other programs, or lower --workspace",
        )


class _Build:
    """One build: its logger, builder and network."""

    def __init__(self, trt: ModuleType, options: EngineOptions, progress: Progress, *, has_gpu: bool) -> None:
        self._trt = trt
        self._has_gpu = has_gpu  # without one nothing is measured, and what was built cannot be opened
        self._options = options
        self._progress = progress
        self._logger = _logger(trt)

    def run(
        self, content: bytes, name: str, declared: Mapping[str, Mapping[str, Any]], max_batch: int, cache: Path
    ) -> tuple[bytes, dict[str, Any]]:
        """Gives the plan's bytes, and what its sidecar says of tensors and layers."""
        trt = self._trt
        try:
            builder = trt.Builder(self._logger)
        except (TypeError, RuntimeError) as cause:  # what pybind makes of a constructor that gave nothing
            raise ExportError(
                f"TensorRT {trt.__version__} cannot start its builder",
                expected="an NVIDIA GPU with a driver that fits" if self._options.flavour == "tensorrt" else "",
                got=self._errors() or str(cause),
                next_step="sp-edge doctor; --target rtx builds without a GPU",
            ) from cause
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        self._parse(network, content, name)
        config = self._config(builder)
        inputs, outputs = self._tensors(builder, network, config, declared, max_batch, name)
        before = self._use_cache(config, cache) if self._has_gpu else b""
        monitor = _monitor(trt, self._progress)
        config.progress_monitor = monitor
        built = builder.build_serialized_network(network, config)
        if monitor.stopped_by is not None:
            raise monitor.stopped_by
        if built is None:
            raise ExportError(
                f"TensorRT {trt.__version__} could not build {name}",
                got=self._errors(),
                next_step="sp-edge doctor looks at memory and versions",
            )
        if self._has_gpu:
            measured = bytes(config.get_timing_cache().serialize())
            if measured != before:
                write_cache(cache, measured)
        plan = bytes(built)
        return plan, {
            "inputs": inputs,
            "outputs": outputs,
            "layers": layer_dtypes(network),
            "kernels": self._inspect(plan) if self._has_gpu else None,
        }

    def _parse(self, network: Any, content: bytes, name: str) -> None:
        trt = self._trt
        parser = trt.OnnxParser(network, self._logger)
        if not parser.parse(content):
            errors = [parser.get_error(i) for i in range(parser.num_errors)]
            words = "; ".join(
                f"{error.node_operator()} node {error.node()} '{error.node_name()}': {error.desc()}" for error in errors
            )
            raise ExportError(
                f"TensorRT {trt.__version__} cannot read {name}",
                got=words or self._errors(),
                next_step="sp-edge export --opset 19 makes graphs for older parsers",
            )

    def _config(self, builder: Any) -> Any:
        trt, options = self._trt, self._options
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(options.workspace * _GIB))
        config.builder_optimization_level = options.optimization_level
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # so that the inspector says each layer's dtype
        if options.targets:
            self._set_targets(config)
        return config

    def _set_targets(self, config: Any) -> None:
        """Only TensorRT-RTX has these names; `set_compute_capability` says False where others would raise."""
        trt, targets = self._trt, self._options.targets
        known = trt.ComputeCapability if hasattr(trt, "ComputeCapability") else None
        wanted = [getattr(known, f"SM{target.replace('.', '')}", None) for target in targets]
        if known is not None:
            config.num_compute_capabilities = len(wanted)
        if known is None or not all(
            value is not None and config.set_compute_capability(value, i) for i, value in enumerate(wanted)
        ):
            raise ExportError(
                f"TensorRT-RTX {trt.__version__} does not build for every GPU that was named",
                expected=", ".join(name for name in dir(known) if name.startswith("SM")) or "no choice of GPUs",
                got=", ".join(targets),
                next_step="leave the option out: by default an engine fits compute capability 8.0 and later",
            )

    def _tensors(
        self, builder: Any, network: Any, config: Any, declared: Mapping[str, Mapping[str, Any]], max_batch: int, name: str
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Fixes a batch of 1, or gives the inputs a profile; the graph must take and give what the manifest says."""
        given = [network.get_input(i) for i in range(network.num_inputs)]
        made = [network.get_output(i) for i in range(network.num_outputs)]
        expected = {tensor: (form["dtype"], (-1, *form["shape"][1:])) for tensor, form in declared.items()}
        got = {tensor.name: (dtype_name(tensor.dtype), tuple(tensor.shape)) for tensor in (*given, *made)}
        if got != expected:
            raise ExportError(f"the graph {name} is not what the manifest says", expected=_words(expected), got=_words(got))
        profile = builder.create_optimization_profile()
        inputs = []
        for tensor in given:
            dtype, (_, *rest) = expected[tensor.name]
            if max_batch == 1:
                tensor.shape = (1, *rest)
                inputs.append(Tensor(tensor.name, dtype, (1, *rest)))
                continue
            shapes: tuple[Shape, Shape, Shape] = ((1, *rest), (max_batch, *rest), (max_batch, *rest))
            profile.set_shape(tensor.name, *shapes)
            inputs.append(Tensor(tensor.name, dtype, (-1, *rest), shapes))
        if max_batch > 1:
            config.add_optimization_profile(profile)
        batch = 1 if max_batch == 1 else -1
        outputs = [Tensor(tensor.name, expected[tensor.name][0], (batch, *expected[tensor.name][1][1:])) for tensor in made]
        return tuple(inputs), tuple(outputs)

    def _use_cache(self, config: Any, path: Path) -> bytes:
        """Gives the builder the timing cache of this device; what TensorRT does not take is left out, and logged."""
        blob, why = read_cache(path)
        cache = config.create_timing_cache(blob)
        taken = cache is not None and config.set_timing_cache(cache, False)
        if blob and not taken:
            why = f"TensorRT does not take the timing cache {path.name}, so all is measured anew"
        if not taken:
            config.set_timing_cache(config.create_timing_cache(b""), False)
        if why:
            _log.warning(why)
        return blob

    def _inspect(self, plan: bytes) -> dict[str, int] | None:
        """What the built engine computes in; None where it does not say."""
        trt = self._trt
        runtime = trt.Runtime(self._logger)
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None and self._options.targets:
            return None  # built for other GPUs than this one
        if engine is None:
            raise ExportError(f"TensorRT {trt.__version__} cannot open the engine that it built", got=self._errors())
        return kernel_dtypes(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))

    def _errors(self) -> str:
        return "; ".join(self._logger.errors)[-1000:]


def _words(tensors: Mapping[str, tuple[str, Shape]]) -> str:
    return ", ".join(f"{name} {dtype} {shape}" for name, (dtype, shape) in sorted(tensors.items()))


def _logger(trt: ModuleType) -> Any:
    class Log(trt.ILogger):  # type: ignore[name-defined, misc]
        """Keeps TensorRT's errors for the message; the rest is its own chatter."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.errors.append(message)

    return Log()


def _monitor(trt: ModuleType, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined, misc]
        """Hands TensorRT's phases on; what `progress` raises stops the build and is kept for the caller."""

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
            # An exception that crosses into C++ would abort a build that was cancelled.
            try:
                if self.stopped_by is None:
                    progress(phase, done, steps)
            except BaseException as error:
                self.stopped_by = error

    return Monitor()
