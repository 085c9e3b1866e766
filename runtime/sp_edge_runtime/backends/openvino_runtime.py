"""Runs a bundle's graphs through OpenVINO on the CPU."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.onnx_file import check_whole
from sp_edge.errors import BackendError, BundleError, InputError, SettingsError
from sp_edge.files import cache_folder
from sp_edge_runtime.backends.backend import Backend, GraphIO, UnfitError, check_golden
from sp_edge_runtime.backends.packages import importing

if TYPE_CHECKING:
    from collections.abc import Iterator

DEVICE = "CPU"
_DTYPES = {"uint8": "u8", "float32": "f32"}
_importing = threading.Lock()


@functools.cache
def _core() -> Any:
    """OpenVINO itself, once for the process and never given back.

    Its CPU plugin gives the thread that loads it a stack for signals, and unmaps that with the last core; dropped in another
    thread, the first would take its next signal, such as Ctrl+C, on memory that is no longer its own.
    """
    return import_openvino().Core()


def import_openvino() -> Any:
    """The package, which by itself reports every import over the network: a machine with a camera calls nobody unasked.

    Raises:
        ImportError: it is not installed.
    """
    reports = "openvino_telemetry"
    with _importing:  # so that no thread takes the mark away from under another
        marked = reports not in sys.modules
        if marked:
            sys.modules[reports] = None  # type: ignore[assignment]  # as if it were not installed, which OpenVINO takes
        try:
            import openvino
        finally:
            if marked:
                del sys.modules[reports]
    return openvino


class OpenVinoBackend(Backend):
    """A bundle's graphs in OpenVINO, compiled when first asked for: once for a batch of one, once for all others.

    OpenVINO would choose bfloat16 by itself on a CPU that has it. Here the precision is what was asked for: fp32 computes in
    float32, fp16 too (from half-precision weights), int8 as its graphs say, and bf16 takes the fp32 graphs. Whatever is not
    fp32 is held against the golden pictures before anything else runs.

    Args:
        bundle: whose graphs to run.
        precision: fp32, bf16, fp16 or int8; the bundle's own by default.
        threads: of one run; OpenVINO's default is one a physical core.
        cache: folder for compiled graphs, by default sp-edge/openvino among the user's caches; never in the bundle.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        BundleError: the bundle was not exported in that precision.
        SettingsError: fewer than one thread.
        BackendError: OpenVINO does not load, the CPU has no bf16, a graph cannot be compiled, or the golden features do not
            come out.
    """

    def __init__(
        self, bundle: Bundle, precision: str | None = None, *, threads: int | None = None, cache: Path | None = None
    ) -> None:
        if threads is not None and threads < 1:
            raise SettingsError("the number of threads is out of range", expected="1 or more", got=str(threads))
        with importing("openvino", extra="openvino", what="cannot run on --device openvino"):
            openvino = import_openvino()
        self._precision = precision or bundle.manifest.precision
        self._bundle, self._graphs = bundle, "fp32" if self._precision == "bf16" else self._precision
        bundle.graph("query", self._graphs)
        self._io = GraphIO(bundle)
        with _named("OpenVINO does not work here"):
            self._core = _core()
            abilities = self._core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
        if self._precision == "bf16" and "BF16" not in abilities:
            raise UnfitError(
                "this CPU has no bfloat16",
                expected="AVX512_BF16 or AMX",
                got=", ".join(abilities),
                next_step="--precision fp32",
            )
        self._settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "bf16" if self._precision == "bf16" else "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        if threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = threads
        self._cache = cache or _usual_cache()
        self._compiled: dict[tuple[str, bool], _Compiled] = {}
        self._compiling = threading.Lock()
        self._closed = False
        version = ".".join(openvino.__version__.split(".")[:2])
        self._title = f"OpenVINO {version} on {DEVICE}, {self._precision}"
        if self._precision != "fp32":
            least = check_golden(self, bundle, self._precision, next_step="--precision fp32, or --device cpu")
            self._title += f" (golden pictures: cosine {least:.5f})"

    @property
    def title(self) -> str:
        """Such as 'OpenVINO 2026.4 on CPU, bf16 (golden pictures: cosine 0.99999)'."""
        return self._title

    def open(self, graph: str) -> None:
        """Compiles a graph for a batch of one now rather than at its first run.

        Raises:
            BundleError: its inputs or outputs are not what the manifest says.
            BackendError: OpenVINO cannot load it.
        """
        self._ready(graph, single=True)

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Runs one graph; see `Backend.run`."""
        checked = self._io.check(graph, inputs)
        compiled = self._ready(graph, single=len(checked["image"]) == 1)
        with _named(f"OpenVINO could not run the {graph} graph"):
            return compiled.run(checked)

    def close(self) -> None:
        """Gives the compiled graphs' memory back; a second call does nothing."""
        with self._compiling:
            self._closed = True
            self._compiled = {}

    def _ready(self, graph: str, *, single: bool) -> _Compiled:
        with self._compiling:
            if self._closed:
                raise BackendError("the backend was closed", expected="a backend in use")
            if (graph, single) not in self._compiled:
                self._compiled[graph, single] = self._compile(graph, single)
            return self._compiled[graph, single]

    def _compile(self, graph: str, single: bool) -> _Compiled:
        """Compiles a graph; for a batch of one with fixed shapes, which OpenVINO runs faster than those that may vary."""
        file = self._bundle.graph(graph, self._graphs, for_cpu=True)
        name, digest = file.name, self._bundle.manifest.files[file.relative_to(self._bundle.path).as_posix()][0]
        content = self._bundle.read_graph(graph, self._graphs, for_cpu=True)
        with _named(f"OpenVINO cannot load {name}", next_step="--device cpu"):
            check_whole(content)
            model = self._core.read_model(content, b"")
        self._check(graph, name, model)
        with _named(f"OpenVINO cannot load {name}", next_step="--device cpu"):
            if single:
                model.reshape({name: [1, *form["shape"][1:]] for name, form in self._io.inputs[graph].items()})
            settings = {**self._settings, **_cache_of(digest, self._cache)}
            return _Compiled(self._core.compile_model(model, DEVICE, settings), tuple(self._io.outputs[graph]))

    def _check(self, graph: str, file: str, model: Any) -> None:
        io = {**self._io.inputs[graph], **self._io.outputs[graph]}
        expected = {f"{name} {_DTYPES[form['dtype']]} {_words(form['shape'][1:])}" for name, form in io.items()}
        found = {
            f"{port.any_name} {port.element_type.get_type_name()} {_words(list(port.partial_shape)[1:])}"
            for port in (*model.inputs, *model.outputs)
        }
        if found != expected or not all(port.partial_shape[0].is_dynamic for port in model.inputs):
            raise BundleError(
                f"the graph {file} is not what the manifest says",
                expected=f"{', '.join(sorted(expected))}, batch N",
                got=", ".join(sorted(found)),
                next_step="export the bundle again, with a dynamic batch N",
            )


def _usual_cache() -> Path | None:
    """The folder among the user's caches; None where there is no home or nothing can be written: compiled anew each time."""
    with suppress(InputError, OSError):
        folder = cache_folder("openvino", SettingsError, next_step="")
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    return None


def _cache_of(digest: str, folder: Path | None) -> dict[str, str]:
    """The setting for a folder of this graph's own: OpenVINO 2025.4 takes graphs for the same that differ in weights alone."""
    return {} if folder is None else {"CACHE_DIR": str(folder / digest[:16])}


class _Compiled:
    """A compiled graph with the requests that wait for work: one request serves one thread at a time."""

    def __init__(self, model: Any, outputs: tuple[str, ...]) -> None:
        self._model = model
        self._outputs = outputs
        self._idle: list[Any] = []

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """The outputs, in memory of their own: the request's is overwritten by its next run."""
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._model.create_infer_request()
        request.infer(dict(inputs), share_inputs=True)
        outputs = {name: np.array(request.get_tensor(name).data, np.float32) for name in self._outputs}
        self._idle.append(request)
        return outputs


@contextmanager
def _named(what: str, *, next_step: str = "") -> Iterator[None]:
    """Gives OpenVINO's errors, which have no common type, our name."""
    try:
        yield
    except Exception as cause:
        raise BackendError(what, got=str(cause).strip(), next_step=next_step) from cause


def _words(shape: list[Any]) -> str:
    return "x".join(str(side) for side in shape)
