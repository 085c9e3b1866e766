"""Holds one TensorRT plan on the GPU, with its execution context, memory, stream and CUDA graph."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.engines.plans import Plan
from sp_edge.errors import BackendError
from sp_edge_runtime.backends.backend import Forms
from sp_edge_runtime.backends.cuda import Buffer, Cuda, Graph

_DTYPES = {"UINT8": "uint8", "FLOAT": "float32"}  # TensorRT's name -> the manifest's


class LoadedEngine:
    """One plan. All that a run needs is allocated here, for the largest batch; addresses never change.

    The first run of a batch size goes step by step, which lets TensorRT settle; the second records the copies and the
    network into a CUDA graph, which every further run of that size launches at once. Another size begins anew, since a graph
    is bound to the shapes that its execution context had.

    Args:
        plan: read, compared with its sidecar, and only then deserialised.
        inputs, outputs: of its graph, as the manifest has them.
        trt, runtime, log: TensorRT's module, `Runtime` and logger, which outlive this.
        cuda: the GPU, which outlives this.

    Attributes:
        max_batch: largest number of pictures in one run.
        note: why runs are not a CUDA graph; empty while they are, or may become one.

    Raises:
        PlanError: the plan is not what its sidecar says.
        BackendError: TensorRT does not take it, or its tensors are not the manifest's.
    """

    def __init__(self, plan: Plan, inputs: Forms, outputs: Forms, trt: Any, runtime: Any, log: Log, cuda: Cuda) -> None:
        self.max_batch = plan.sidecar.max_batch
        self.note = ""
        self._name = plan.path.name
        self._trt = trt
        self._log = log
        self._cuda = cuda
        self._inputs, self._outputs = tuple(inputs), tuple(outputs)
        forms = {**inputs, **outputs}
        self._forms = {name: (np.dtype(form["dtype"]), tuple(form["shape"][1:])) for name, form in forms.items()}
        self._lock = threading.Lock()
        self._count = 0
        self._graph: Graph | None = None
        self._engine: Any = None
        self._context: Any = None
        self._buffers: dict[str, Buffer] = {}
        self._owned = ExitStack()
        content = plan.read()
        with cuda.current():
            try:
                self._engine = self._given(runtime.deserialize_cuda_engine(content), "deserialize it")
                self._check()
                self._context = self._given(self._engine.create_execution_context(), "make an execution context")
                self._stream = cuda.stream()
                self._owned.callback(self._stream.close)
                for name, (dtype, rest) in self._forms.items():
                    self._buffers[name] = cuda.buffer(self.max_batch * dtype.itemsize * math.prod(rest))
                    self._owned.callback(self._buffers[name].close)
                    address = self._buffers[name].address
                    self._given(self._context.set_tensor_address(name, address) or None, f"take the address of {name}")
            except BaseException:
                self._release()
                raise

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Runs a batch of 1 to `max_batch`, of arrays as the manifest says; the caller owns the outputs.

        Raises:
            BackendError: TensorRT or the GPU failed, or this was closed.
        """
        count = len(inputs["image"])
        with self._lock:
            if self._context is None:  # asked first: the GPU's context must not be pushed while it is given back
                raise BackendError("the backend was closed", expected="a backend in use")
            with self._cuda.current():
                for name, value in inputs.items():
                    np.copyto(self._view(name, count), value)
                try:
                    self._start(count)
                finally:  # whatever was put into the stream must be done before anyone touches the memory again
                    self._stream.synchronise()
                return {name: self._view(name, count).copy() for name in self._outputs}

    def close(self) -> None:
        """Gives the memory back, after the run in flight; a second call does nothing."""
        with self._lock:
            if self._engine is not None:
                with self._cuda.current():
                    self._release()

    def _start(self, count: int) -> None:
        """Puts a run into the stream."""
        if count != self._count:
            self._drop_graph()
            self._count = 0  # until the shapes are set: a failure must not leave the old size believed
            if self.max_batch > 1:
                for name in self._inputs:
                    _, rest = self._forms[name]
                    self._given(self._context.set_input_shape(name, (count, *rest)) or None, f"take {count} pictures")
            self._enqueue(count)
            self._count = count
            return
        if self._graph is None and not self.note:
            try:
                self._graph = self._stream.capture(lambda: self._enqueue(count))
            except BackendError as cause:
                self.note = f"without a CUDA graph ({cause.got or cause.what})"
        if self._graph is not None:
            self._graph.launch()
        else:
            self._enqueue(count)

    def _enqueue(self, count: int) -> None:
        for name in self._inputs:
            self._buffers[name].upload(self._stream, self._size(name, count))
        self._given(self._context.execute_async_v3(self._stream.handle) or None, "run it")
        for name in self._outputs:
            self._buffers[name].download(self._stream, self._size(name, count))

    def _check(self) -> None:
        """The engine's own words about its tensors against the manifest's."""
        engine, trt = self._engine, self._trt
        batch = -1 if self.max_batch > 1 else 1
        expected = {
            name: (
                trt.TensorIOMode.INPUT if name in self._inputs else trt.TensorIOMode.OUTPUT,
                dtype.name,
                (batch, *rest),
            )
            for name, (dtype, rest) in self._forms.items()
        }
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        found = {}
        for name in names:
            dtype = engine.get_tensor_dtype(name).name
            found[name] = (engine.get_tensor_mode(name), _DTYPES.get(dtype, dtype), tuple(engine.get_tensor_shape(name)))
        if found != expected:
            raise BackendError(
                f"the engine {self._name} is not of the bundle's graph",
                expected=_words(expected),
                got=_words(found),
                next_step="build it again",
            )
        largest = self.max_batch
        if largest > 1:
            _, _, shape = engine.get_tensor_profile_shape("image", 0)
            largest = next(iter(shape))
        if largest != self.max_batch:
            raise BackendError(
                f"the engine {self._name} takes another batch than its sidecar says",
                expected=str(self.max_batch),
                got=str(largest),
                next_step="build it again",
            )

    def _given(self, value: Any, what: str) -> Any:
        """What TensorRT gave, which says that it could not by None, with its reasons in the log."""
        said = self._log.take()
        if value is None:
            raise BackendError(f"TensorRT could not {what}: {self._name}", got=said, next_step="--device cpu works without")
        return value

    def _view(self, name: str, count: int) -> NDArray[Any]:
        dtype, rest = self._forms[name]
        return self._buffers[name].array[: self._size(name, count)].view(dtype).reshape(count, *rest)

    def _size(self, name: str, count: int) -> int:
        dtype, rest = self._forms[name]
        return count * dtype.itemsize * math.prod(rest)

    def _drop_graph(self) -> None:
        if self._graph is not None:
            graph, self._graph = self._graph, None
            graph.close()

    def _release(self) -> None:
        """In the order in which one needs the other: graph, execution context, engine, memory, stream."""
        try:
            self._drop_graph()
        finally:
            self._context = None
            self._engine = None
            self._owned.close()
            self._buffers = {}


class Log:
    """TensorRT's errors, kept for ours; the rest is its own chatter.

    Attributes:
        logger: as `trt.Runtime` takes it; it must outlive that.
    """

    def __init__(self, trt: Any) -> None:
        self._said: list[str] = []
        said = self._said

        class Logger(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity <= trt.ILogger.Severity.ERROR:
                    said.append(message)

        self.logger = Logger()

    def take(self) -> str:
        """What was said since the last time."""
        words = "; ".join(self._said)
        self._said.clear()
        return words[-1000:]


def _words(tensors: Mapping[str, tuple[Any, str, tuple[int, ...]]]) -> str:
    return ", ".join(f"{name} {getattr(mode, 'name', mode)} {dtype} {shape}" for name, (mode, dtype, shape) in tensors.items())
