"""Opens the engine for a device, and says which it took and why."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import onnxruntime

from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.session import CPU, CUDA
from sp_edge.engines.plans import plans_of
from sp_edge.errors import BackendError, MissingExtraError, PlanError, SettingsError
from sp_edge.precisions import PRECISIONS
from sp_edge.processes import python_command
from sp_edge_runtime.backends.backend import Backend, check_golden
from sp_edge_runtime.backends.choices import DEVICES
from sp_edge_runtime.backends.cuda import open_cuda
from sp_edge_runtime.backends.fastest import open_fastest
from sp_edge_runtime.backends.hand_over import HandOver
from sp_edge_runtime.backends.onnx_runtime import OnnxRuntimeBackend
from sp_edge_runtime.backends.openvino_runtime import OpenVinoBackend
from sp_edge_runtime.backends.tensorrt_runtime import open_tensorrt

_log = logging.getLogger(__name__)
# All that is known here of export, which is above: the job that this takes, and that it ends with 0 once engines are there.
_BUILDER = "sp_edge_export.engines.beside"

_REMEDY = "pip uninstall onnxruntime, pip install onnxruntime-gpu (on a Jetson: see docs/jetson.md); or --device cpu"


def open_backend(
    bundle: Bundle,
    device: str = "auto",
    precision: str | None = None,
    *,
    engines: Path | None = None,
    build_engine: bool = False,
) -> Backend:
    """The engine for a device. One that was asked for and cannot be used is an error; only 'auto' goes on to the next.

    Args:
        bundle: whose graphs to run.
        device: of `DEVICES`, which says what each is. 'auto' gives its reasons in `description`.
        precision: 'fp32', 'fp16' or 'int8', as the bundle was exported. By default its own, with exceptions: 'cpu' takes
            fp32, which is in every bundle; where 'auto' comes to the CPU, it measures what is fastest there
            (`fastest.open_fastest`); and where int8's engines were not kept, since they were slower, 'tensorrt' takes fp16's.
            'bf16' runs the fp32 graphs in OpenVINO on CPUs that have it.
        engines: folder of TensorRT engines; the user's cache by default.
        build_engine: of 'tensorrt' and 'auto': where no engine fits this GPU, build it in a process beside this one, which
            takes minutes of the GPU, and let ONNX Runtime serve until it is there.

    Raises:
        SettingsError: no such device, or options that exclude each other.
        BundleError: the bundle was not exported in that precision.
        MissingExtraError, PlanError, BackendError: the device was asked for and cannot be used.
    """
    if device not in DEVICES:
        raise SettingsError("no such device", expected=" | ".join(DEVICES), got=device)
    if device != "auto":
        _log.debug(f"--device {device} was chosen: nothing is compared")
    if precision == "bf16":
        if device not in {"auto", "openvino"} or build_engine:
            asked = f"--device {device}" + (" --build-engine" if build_engine else "")
            raise SettingsError("bf16 runs in OpenVINO alone", expected="--device openvino", got=asked)
        return _openvino(bundle, precision)
    bundle.graph("query", precision)
    if build_engine:
        if device not in {"auto", "tensorrt"}:
            raise SettingsError("engines are TensorRT's", expected="--device tensorrt or auto", got=f"--device {device}")
        return _building(bundle, precision, engines)
    if device == "auto":
        return _first([partial(_built_tensorrt, bundle, precision, engines), *_without_tensorrt(bundle, precision)])
    if device == "tensorrt":
        return _tensorrt(bundle, precision, engines)
    if device == "openvino":
        return _openvino(bundle, precision)
    return _cpu(bundle, precision) if device == "cpu" else _cuda(bundle, precision)


def _first(openers: list[Callable[[], Backend]]) -> Backend:
    """The first that opens, with what the ones before it said; the last one's error is the caller's."""
    reasons: list[str] = []
    *others, last = openers
    backend = next((found for opener in others if (found := _tried(opener, reasons)) is not None), None)
    if backend is not None:
        _log.debug(f"{backend.title} comes before this CPU's engines: nothing is compared")
    else:
        backend = last()
    backend.why = "; ".join(filter(None, (*reasons, backend.why)))
    backend.why = "auto" + (f": {backend.why}" if backend.why else "")
    return backend


def _tried(opener: Callable[[], Backend], reasons: list[str]) -> Backend | None:
    try:
        return opener()
    except MissingExtraError as error:
        reasons.append(f"{error.package} is not installed")
    except (PlanError, BackendError) as error:
        # A list of providers or plans is for who asked for them; what failed on the way is for everybody.
        said = f"{error.what}: {error.got}" if isinstance(error.__cause__, Exception) and error.got else error.what
        reasons.append(" ".join(said.split()))
    return None


def _without_tensorrt(bundle: Bundle, precision: str | None) -> list[Callable[[], Backend]]:
    return [partial(_cuda, bundle, precision), partial(_fastest, bundle, precision)]


def _built_tensorrt(bundle: Bundle, precision: str | None, engines: Path | None) -> Backend:
    if not plans_of(bundle, engines):  # so that nobody waits for TensorRT's libraries for nothing
        raise PlanError("no TensorRT engine was built")
    return _tensorrt(bundle, precision, engines)


def _tensorrt(bundle: Bundle, precision: str | None, engines: Path | None) -> Backend:
    """The engines of that precision; of an int8 bundle, unless it was asked for, fp16's where int8's are not there."""
    try:
        return open_tensorrt(bundle, precision, folder=engines)
    except PlanError:
        beside = PRECISIONS[bundle.manifest.precision].beside
        if precision or beside not in bundle.manifest.graphs:
            raise
        try:
            return open_tensorrt(bundle, beside, folder=engines)
        except PlanError:
            pass
        raise


def open_on_cpu(bundle: Bundle, device: str, precision: str | None) -> Backend:
    """The engine of 'cpu' or 'openvino'; raises as `open_backend`."""
    return _openvino(bundle, precision) if device == "openvino" else _cpu(bundle, precision)


def _fastest(bundle: Bundle, precision: str | None) -> Backend:
    return open_fastest(bundle, precision, partial(open_on_cpu, bundle))


def _cpu(bundle: Bundle, precision: str | None) -> Backend:
    return OnnxRuntimeBackend(bundle, precision or "fp32")


def _cuda(bundle: Bundle, precision: str | None) -> Backend:
    providers = onnxruntime.get_available_providers()
    if CUDA not in providers:
        raise BackendError(
            "this ONNX Runtime has no CUDA provider",
            expected=CUDA,
            got=", ".join(providers),
            next_step=_REMEDY,
        )
    backend = OnnxRuntimeBackend(bundle, precision, providers=(CUDA, CPU))
    try:
        # A provider that is listed may lack its libraries, which shows when a graph is opened, or code for this GPU, which
        # shows at the first run: wheels for servers load on a Jetson.
        check_golden(backend, bundle, precision or bundle.manifest.precision, next_step=_REMEDY)
    except BaseException:
        backend.close()
        raise
    return backend


def _openvino(bundle: Bundle, precision: str | None) -> Backend:
    backend = OpenVinoBackend(bundle, precision)
    backend.open("query")  # what does not work is known now, rather than at the first frame
    return backend


def _building(bundle: Bundle, precision: str | None, engines: Path | None) -> Backend:
    """TensorRT where its engines are there already, else another engine that hands over once they are."""
    open_engine = partial(_tensorrt, bundle, precision, engines)
    with suppress(PlanError):
        return open_engine()
    open_cuda().close()  # what the engine will need besides; now, and not after minutes of building
    job = {"bundle": str(bundle.path), "precision": precision, "folder": str(engines) if engines else None}
    command = python_command(_BUILDER, json.dumps(job))
    return HandOver(_first(_without_tensorrt(bundle, precision)), command, open_engine)
