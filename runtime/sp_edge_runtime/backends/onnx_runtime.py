"""Runs a bundle's graphs through ONNX Runtime, on the CPU or an NVIDIA GPU."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import BackendError, BundleError, SettingsError
from sp_edge_runtime.backends.backend import Backend, Forms, GraphIO

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

_TENSORS = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}
_FATAL = 4  # the one severity that ONNX Runtime may still print: its other words come to the user as our errors

Signature = dict[str, tuple[str, tuple[int | str | None, ...]]]


class OnnxRuntimeBackend(Backend):
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
        self._io = GraphIO(bundle)
        self._providers = list(providers)
        self._threads = threads
        self._sessions: dict[str, Any] = {}
        self._opening = threading.Lock()
        self._closed = False
        version = ".".join(onnxruntime.__version__.split(".")[:2])
        device = self._providers[0].removesuffix("ExecutionProvider")
        self._title = f"ONNX Runtime {version} on {device}, {self._precision}"

    @property
    def title(self) -> str:
        """Such as 'ONNX Runtime 1.32 on CPU, fp32'."""
        return self._title

    def open(self, graph: str) -> None:
        """Opens a graph now rather than at its first run.

        Raises:
            BundleError: its inputs or outputs are not what the manifest says.
            BackendError: ONNX Runtime cannot load it, or not with the provider that was asked for.
        """
        self._session(graph)

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Runs one graph; see `Backend.run`."""
        checked = self._io.check(graph, inputs)
        session, names = self._session(graph), list(self._io.outputs[graph])
        try:
            outputs = session.run(names, checked)
        except Exception as cause:
            raise BackendError(f"ONNX Runtime could not run the {graph} graph", got=str(cause)) from cause
        return {name: np.asarray(value) for name, value in zip(names, outputs, strict=True)}

    def close(self) -> None:
        """Gives the sessions' memory back; a second call does nothing."""
        with self._opening:
            self._closed = True
            self._sessions = {}

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
        # Threads that wait for the next run by spinning would take the cores from decoding, preprocessing and enrolment.
        options.add_session_config_entry("session.force_spinning_stop", "1")
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
        expected = (_declared(self._io.inputs[graph]), _declared(self._io.outputs[graph]))
        found = (_given(session.get_inputs()), _given(session.get_outputs()))
        if found != expected:
            raise BundleError(
                f"the graph {name} is not what the manifest says",
                expected=" -> ".join(map(_words, expected)),
                got=" -> ".join(map(_words, found)),
                next_step="export the bundle again, with a dynamic batch N",
            )


def _declared(forms: Forms) -> Signature:
    return {name: (_TENSORS[form["dtype"]], tuple(form["shape"])) for name, form in forms.items()}


def _given(nodes: Iterable[Any]) -> Signature:
    """What a session says of its inputs or outputs; a batch that may vary is 'N', whatever the graph calls it."""
    found = {}
    for node in nodes:
        batch, *rest = node.shape or [0]
        found[node.name] = (node.type, (batch if isinstance(batch, int) else "N", *rest))
    return found


def _words(signature: Signature) -> str:
    return ", ".join(f"{name} {kind} ({', '.join(map(str, shape))})" for name, (kind, shape) in signature.items())
