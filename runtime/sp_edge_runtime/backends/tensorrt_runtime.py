"""Runs a bundle's graphs through TensorRT or TensorRT-RTX, from plans that were built for this machine."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.manifest import GRAPHS
from sp_edge.engines.device import Device
from sp_edge.engines.plans import find_plan, find_plans
from sp_edge.engines.sidecar import FLAVOURS, TITLES
from sp_edge.errors import BackendError, MissingExtraError, PlanError
from sp_edge_runtime.backends.backend import Backend, GraphIO, check_golden
from sp_edge_runtime.backends.cuda import Cuda, open_cuda
from sp_edge_runtime.backends.packages import importing
from sp_edge_runtime.backends.tensorrt_engine import LoadedEngine, Log


class TensorRtBackend(Backend):
    """A bundle's graphs in TensorRT: of each, every plan that fits this machine.

    A batch goes to the plan with the smallest profile that takes it; a larger one is cut to the largest profile. The features
    come to the host, since matching them with the bank is a small product of matrices that the CPU is done with in the time
    of a launch, and a bank may change between two frames.

    Args:
        bundle: whose graphs to run.
        precision: fp32, fp16 or int8; the bundle's own by default.
        trt: the module tensorrt or tensorrt_rtx.
        cuda: the GPU; this backend closes it, also where it cannot be made.
        device: this machine, as `Device.here` gives it.
        folder: of all plans; the user's cache by default.

    Raises:
        BundleError: the bundle was not exported in that precision.
        PlanError: no plan fits a graph; no other is ever deserialised.
        BackendError: TensorRT or the GPU failed, or the golden pictures get other features than they should.
    """

    def __init__(
        self, bundle: Bundle, precision: str | None, trt: Any, cuda: Cuda, device: Device, *, folder: Path | None = None
    ) -> None:
        self._precision = precision or bundle.manifest.precision
        self._io = GraphIO(bundle)
        self._cuda = cuda
        self._closed = threading.Event()
        self._engines: dict[str, list[LoadedEngine]] = {}
        self._owned = ExitStack()
        self._owned.callback(cuda.close)
        try:
            bundle.graph("query", self._precision)
            plans = {graph: find_plans(bundle, graph, self._precision, 1, device, folder=folder) for graph in GRAPHS}
            log = Log(trt)
            runtime = trt.Runtime(log.logger)
            for graph in GRAPHS:
                inputs, outputs = self._io.inputs[graph], self._io.outputs[graph]
                engines = self._engines.setdefault(graph, [])
                for plan in plans[graph]:
                    engines.append(LoadedEngine(plan, inputs, outputs, trt, runtime, log, cuda))
                    self._owned.callback(engines[-1].close)
            self._name = f"{TITLES[device.flavour]} {device.version} on {cuda.gpu.name} through {cuda.driver.name}"
            next_step = (
                f"delete the folder {plans['query'][0].path.parent} and build its engines again; --device cpu works without"
            )
            check_golden(self, bundle, self._precision, next_step=next_step)
        except BaseException:
            self.close()
            raise

    @property
    def title(self) -> str:
        """Such as 'TensorRT 10.3.0 on Orin through pycuda 2025.1, fp16'."""
        notes = dict.fromkeys(e.note for engines in self._engines.values() for e in engines if e.note)
        return ", ".join([self._name, self._precision, *notes])

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Runs one graph; see `Backend.run`. One graph's plan serves one thread at a time, the others wait."""
        checked = self._io.check(graph, inputs)
        if self._closed.is_set():
            raise BackendError("the backend was closed", expected="a backend in use")
        engines, count = self._engines[graph], len(checked["image"])
        parts, start = [], 0
        while start < count:
            left = count - start
            chosen = next((each for each in engines if each.max_batch >= left), engines[-1])
            stop = start + min(left, chosen.max_batch)
            parts.append(chosen.run({name: value[start:stop] for name, value in checked.items()}))
            start = stop
        return parts[0] if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def close(self) -> None:
        """Gives the GPU's memory back, once the runs in flight have ended; a second call does nothing."""
        self._closed.set()
        self._owned.close()


def open_tensorrt(
    bundle: Bundle, precision: str | None = None, flavour: str | None = None, folder: Path | None = None
) -> TensorRtBackend:
    """The first of TensorRT and TensorRT-RTX that is installed and has plans for this machine.

    Args:
        bundle, precision: as above.
        flavour: tensorrt or tensorrt_rtx, and no other.
        folder: of all plans; the user's cache by default.

    Raises:
        MissingExtraError: neither is installed, or no package that speaks to CUDA.
        PlanError: no plan fits; `got` says why.
        BackendError: it is installed and does not load; there is no GPU, or it failed.
    """
    chosen = precision or bundle.manifest.precision
    bundle.graph("query", chosen)
    missing: list[MissingExtraError] = []
    failures: list[PlanError | BackendError] = []
    for name in [flavour] if flavour else FLAVOURS:
        try:
            trt = import_tensorrt(name)
            device = Device.here(name, trt.__version__)
            for graph in GRAPHS:
                find_plan(bundle, graph, chosen, 1, device, folder=folder)
        except MissingExtraError as absent:  # noqa: PERF203 - two rounds at most
            missing.append(absent)
        except (PlanError, BackendError) as unfit:
            failures.append(unfit)
        else:
            return TensorRtBackend(bundle, chosen, trt, open_cuda(), device, folder=folder)
    if not failures:
        raise missing[0]
    first = failures[0]
    got = "; ".join(dict.fromkeys(failure.got for failure in failures))
    raise type(first)(first.what, expected=first.expected, got=got, next_step=first.next_step) from first


def import_tensorrt(flavour: str) -> ModuleType:
    """The module tensorrt or tensorrt_rtx.

    Raises:
        MissingExtraError: it is not installed.
        BackendError: it is installed and does not load.
    """
    what = (
        "cannot run on --device tensorrt; on a Jetson, JetPack brings tensorrt for the system's Python, and a virtual"
        " environment sees it with --system-site-packages"
    )
    with importing(flavour, extra="rtx" if flavour == "tensorrt_rtx" else "tensorrt", what=what):
        return importlib.import_module(flavour)
