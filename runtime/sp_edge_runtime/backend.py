"""Runs a bundle's graphs on this machine, through ONNX Runtime on the CPU or an NVIDIA GPU."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sp_edge.bundle import Bundle
from sp_edge.errors import BackendError, BundleError, SettingsError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
DEVICES = {"auto": "auto", "cpu": "cpu", "cuda": "cuda", "0": "cuda"}

_TENSORS = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}
_FATAL = 4  # the one severity that ONNX Runtime may still print: its other words come to the user as our errors

Signature = dict[str, tuple[str, tuple[int | str | None, ...]]]


class Backend(Protocol):
    """What a recogniser needs of an inference engine.

    Attributes:
        description: engine, device and precision, for the user: 'ONNX Runtime 1.32 on CPU, fp32'.
    """

    description: str

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Runs one graph.

        Args:
            graph: 'query' (input `image`) or 'support' (inputs `image` and `prompt`).
            inputs: `image` uint8 (N, H, W, 3) RGB, `prompt` float32 (N, T); N is 1 or more. They are only read.

        Returns:
            `feature` float32 (N, D), raw; the caller owns it.

        Raises:
            BackendError: the engine failed.
        """
        ...

    def close(self) -> None:
        """Gives the engine's memory back; a second call does nothing."""
        ...

    def __enter__(self) -> Backend: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class OnnxRuntimeBackend:
    """A bundle's graphs in ONNX Runtime. A graph is opened when first asked for, by whichever thread asks first.

    Args:
        bundle: whose graphs to run.
        precision: 'fp32', 'fp16' or 'int8'; the bundle's own by default.
        providers: ONNX Runtime's execution providers; the first is the one that must take the graphs.
        threads: of one operator; ONNX Runtime's default is one a physical core.

    Raises:
        BundleError: the bundle was not exported in that precision.
        SettingsError: fewer than one thread.
    """

    def __init__(
        self, bundle: Bundle, precision: str | None = None, providers: Sequence[str] = (CPU,), threads: int | None = None
    ) -> None:
        if threads is not None and threads < 1:
            raise SettingsError("the number of threads is out of range", expected="1 or more", got=str(threads))
        self._bundle = bundle
        self._precision = precision or bundle.manifest.precision
        bundle.graph("query", self._precision)
        self._providers = list(providers)
        self._threads = threads
        self._sessions: dict[str, Any] = {}
        self._opening = threading.Lock()
        self._closed = False
        version = ".".join(onnxruntime.__version__.split(".")[:2])
        device = self._providers[0].removesuffix("ExecutionProvider")
        self.description = f"ONNX Runtime {version} on {device}, {self._precision}"

    def open(self, graph: str) -> None:
        """Opens a graph now rather than at its first run.

        Raises:
            BundleError: its inputs or outputs are not what the manifest says.
            BackendError: ONNX Runtime cannot load it, or not with the provider that was asked for.
        """
        self._session(graph)

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Runs one graph; see `Backend.run`. Several threads may call it at once."""
        session = self._session(graph)
        names = [node.name for node in session.get_outputs()]
        try:
            outputs = session.run(names, dict(inputs))
        except Exception as cause:
            given = ", ".join(f"{name} {value.dtype} {value.shape}" for name, value in inputs.items())
            wanted = _words(_given(session.get_inputs()))
            raise BackendError(
                f"ONNX Runtime could not run the {graph} graph", expected=wanted, got=f"{given}: {cause}"
            ) from cause
        return {name: np.asarray(value) for name, value in zip(names, outputs, strict=True)}

    def close(self) -> None:
        """Gives the sessions' memory back; a second call does nothing."""
        with self._opening:
            self._closed = True
            self._sessions = {}

    def __enter__(self) -> OnnxRuntimeBackend:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _session(self, graph: str) -> Any:
        with self._opening:
            if self._closed:
                raise BackendError("the backend was closed", expected="a backend in use")
            if graph not in self._sessions:
                self._sessions[graph] = self._opened(graph)
            return self._sessions[graph]

    def _opened(self, graph: str) -> Any:
        path = self._bundle.graph(graph, self._precision)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _FATAL
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        try:
            # Without `enable_fallback=0` ONNX Runtime would print and go on with other providers.
            session = onnxruntime.InferenceSession(str(path), options, providers=self._providers, enable_fallback=0)
        except Exception as cause:
            raise BackendError(
                f"ONNX Runtime cannot load {path.name}",
                expected=f"a graph that version {onnxruntime.__version__} can run",
                got=str(cause),
                next_step="--device cpu",
            ) from cause
        if session.get_providers()[:1] != self._providers[:1]:
            raise BackendError(
                f"ONNX Runtime did not take {path.name} to {self._providers[0]}",
                expected=self._providers[0],
                got=", ".join(session.get_providers()),
                next_step="its libraries (CUDA, cuDNN) are missing or of another version; --device cpu works without",
            )
        self._check(graph, path.name, session)
        return session

    def _check(self, graph: str, name: str, session: Any) -> None:
        declared: dict[str, dict[str, Any]] = self._bundle.manifest.to_json()["io"][graph]
        expected = {tensor: (_TENSORS[form["dtype"]], tuple(form["shape"])) for tensor, form in declared.items()}
        outputs = {"feature": expected.pop("feature")}
        found = (_given(session.get_inputs()), _given(session.get_outputs()))
        if found != (expected, outputs):
            raise BundleError(
                f"the graph {name} is not what the manifest says",
                expected=f"{_words(expected)} -> {_words(outputs)}",
                got=f"{_words(found[0])} -> {_words(found[1])}",
                next_step="export the bundle again, with a dynamic batch N",
            )


def open_backend(bundle: Bundle, device: str = "auto", precision: str | None = None) -> OnnxRuntimeBackend:
    """The backend for a device; its `description` says which was taken and why.

    Args:
        bundle: whose graphs to run.
        device: 'cpu'; 'cuda' or '0', an NVIDIA GPU; 'auto', the GPU where ONNX Runtime can use one, else the CPU.
        precision: 'fp32', 'fp16' or 'int8'; the bundle's own by default.

    Raises:
        SettingsError: no such device.
        BundleError: the bundle was not exported in that precision.
        BackendError: the GPU was asked for and cannot be used.
    """
    if device not in DEVICES:
        raise SettingsError("no such device", expected=" | ".join(DEVICES), got=device)
    wanted, has_cuda = DEVICES[device], CUDA in onnxruntime.get_available_providers()
    if wanted == "cpu":
        return OnnxRuntimeBackend(bundle, precision)
    if not has_cuda and wanted == "cuda":
        raise BackendError(
            "this ONNX Runtime cannot use an NVIDIA GPU",
            expected=CUDA,
            got=", ".join(onnxruntime.get_available_providers()),
            next_step="pip uninstall onnxruntime, pip install onnxruntime-gpu (on Jetson: NVIDIA's wheel); or --device cpu",
        )
    why = "auto: no CUDA provider"
    if has_cuda:
        backend = OnnxRuntimeBackend(bundle, precision, providers=(CUDA, CPU))
        try:
            # The provider can be listed and yet lack its libraries; that shows only when a graph is opened.
            backend.open("query")
        except BackendError as cause:
            if wanted == "cuda":
                raise
            why = f"auto: CUDA does not work here, {cause.got or cause.what}"
        else:
            backend.description += " (auto: the CUDA provider works)" if wanted == "auto" else ""
            return backend
    backend = OnnxRuntimeBackend(bundle, precision)
    backend.description += f" ({why})"
    return backend


def _given(nodes: Iterable[Any]) -> Signature:
    """What a session says of its inputs or outputs; a batch that may vary is 'N', whatever the graph calls it."""
    found = {}
    for node in nodes:
        batch, *rest = node.shape or [0]
        found[node.name] = (node.type, (batch if isinstance(batch, int) else "N", *rest))
    return found


def _words(signature: Signature) -> str:
    return ", ".join(f"{name} {kind} ({', '.join(map(str, shape))})" for name, (kind, shape) in signature.items())
