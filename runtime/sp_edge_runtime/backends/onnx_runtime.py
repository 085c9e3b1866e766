"""Runs a bundle's graphs through ONNX Runtime, on the CPU or an NVIDIA GPU."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.session import CPU, VERSION, Session, Signature
from sp_edge.errors import BackendError, SettingsError
from sp_edge_runtime.backends.backend import Backend, Forms, GraphIO


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
        self._providers = tuple(providers)
        self._threads = threads
        self._sessions: dict[str, Session] = {}
        self._opening = threading.Lock()
        self._closed = False
        device = self._providers[0].removesuffix("ExecutionProvider")
        self._title = f"ONNX Runtime {VERSION} on {device}, {self._precision}"

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
        return dict(zip(names, session.run(checked, names), strict=True))

    def close(self) -> None:
        """Gives the sessions' memory back; a second call does nothing."""
        with self._opening:
            self._closed = True
            self._sessions = {}

    def _session(self, graph: str) -> Session:
        with self._opening:
            if self._closed:
                raise BackendError("the backend was closed", expected="a backend in use")
            if graph not in self._sessions:
                self._sessions[graph] = self._opened(graph)
            return self._sessions[graph]

    def _opened(self, graph: str) -> Session:
        on_cpu = self._providers[0] == CPU
        session = Session(
            self._bundle.read_graph(graph, self._precision, for_cpu=on_cpu),
            self._bundle.graph(graph, self._precision, for_cpu=on_cpu).name,
            BackendError,
            providers=self._providers,
            threads=self._threads,
            # Threads that wait for the next run by spinning would take the cores from decoding, preprocessing and enrollment.
            settings={"session.force_spinning_stop": "1"},
            next_step="" if on_cpu else "--device cpu",
        )
        expected = (_declared(forms[graph]) for forms in (self._io.inputs, self._io.outputs))
        session.check(*expected, next_step="export the bundle again, with a dynamic batch N")
        return session


def _declared(forms: Forms) -> Signature:
    return {name: (form["dtype"], tuple(form["shape"])) for name, form in forms.items()}
