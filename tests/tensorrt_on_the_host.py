"""Stands in for TensorRT as the runtime uses it: reads a plan and runs it, by ONNX Runtime on the host.

A plan is a line of JSON and the graph. The execution context is as particular as the real one: shapes within the profile,
every address set, one run after each change of shapes before a capture, and no launch of a graph after another change.
"""

from __future__ import annotations

import enum
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime

from host_cuda import HostDriver, MisuseError, device_of
from sp_edge.bundle.bundle import Bundle
from sp_edge.engines.device import Device, Gpu
from toy_plans import put

DTYPES = {"tensor(uint8)": ("UINT8", np.uint8), "tensor(float)": ("FLOAT", np.float32)}


def put_plans(bundle: Bundle, folder: Path, gpu: Gpu, batches: dict[str, tuple[int, ...]] | None = None) -> Device:
    """Plans for both graphs, as if they had been built for a GPU; gives the machine that has it."""
    device = device_of(gpu)
    for graph, sizes in (batches or {"query": (1, 4), "support": (4,)}).items():
        for size in sizes:
            put(bundle, folder, device, graph=graph, max_batch=size, content=plan_of(bundle.graph(graph, "fp32"), size))
    return device


def plan_of(graph: Path, max_batch: int, **changes: Any) -> bytes:
    """What `deserialize_cuda_engine` takes."""
    return json.dumps({"max_batch": max_batch, **changes}).encode() + b"\n" + graph.read_bytes()


class TensorIOMode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class StandIn:
    """The module, over one driver.

    Attributes:
        refuses: what fails: 'parse', 'build', 'deserialise', 'context', 'address', 'shape' or 'execute'; or 'wrong' numbers.
        executed: pictures of each run that was put into a stream or recorded.
    """

    __version__ = "10.3.0"
    TensorIOMode = TensorIOMode

    class NetworkDefinitionCreationFlag(enum.IntEnum):
        STRONGLY_TYPED = 1

    class ILogger:
        class Severity(enum.IntEnum):
            INTERNAL_ERROR = 0
            ERROR = 1
            WARNING = 2

        def log(self, severity: Severity, message: str) -> None:
            raise NotImplementedError

    def __init__(self, driver: HostDriver) -> None:
        self.driver = driver
        self.refuses = ""
        self.executed: list[int] = []

    def Runtime(self, log: Any) -> Runtime:  # noqa: N802 - TensorRT's name
        return Runtime(self, log)

    def Builder(self, log: Any) -> Builder:  # noqa: N802
        return Builder(self, log)

    def OnnxParser(self, network: Network, log: Any) -> Parser:  # noqa: N802
        return Parser(self, network, log)

    def refused(self, what: str, log: Any) -> bool:
        if self.refuses != what:
            return False
        log.log(self.ILogger.Severity.WARNING, "chatter")
        log.log(self.ILogger.Severity.ERROR, f"Error Code 1: {what}")
        return True


class Network:
    graph = b""


class Parser:
    def __init__(self, trt: StandIn, network: Network, log: Any) -> None:
        self._trt, self._network, self._log = trt, network, log

    def parse(self, content: bytes) -> bool:
        self._network.graph = content
        return not self._trt.refused("parse", self._log)


class Builder:
    """Builds static graphs of one picture."""

    def __init__(self, trt: StandIn, log: Any) -> None:
        self._trt, self._log = trt, log

    def create_network(self, flags: int) -> Network:
        assert flags == 1 << StandIn.NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return Network()

    def create_builder_config(self) -> SimpleNamespace:
        return SimpleNamespace()

    def build_serialized_network(self, network: Network, config: SimpleNamespace) -> bytes | None:
        return None if self._trt.refused("build", self._log) else b'{"max_batch": 1}\n' + network.graph


class Runtime:
    def __init__(self, trt: StandIn, log: Any) -> None:
        self._trt, self._log = trt, log

    def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
        if not self._trt.driver.depth:
            raise MisuseError("deserialised without the context")
        return None if self._trt.refused("deserialise", self._log) else Engine(self._trt, self._log, content)


class Engine:
    def __init__(self, trt: StandIn, log: Any, content: bytes) -> None:
        head, _, graph = content.partition(b"\n")
        self.said = json.loads(head)
        self.trt, self.log = trt, log
        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        self.inputs, self.outputs = list(self.session.get_inputs()), list(self.session.get_outputs())
        self.nodes = {node.name: node for node in (*self.inputs, *self.outputs)}
        self.num_io_tensors = len(self.nodes)
        self.max_batch = self.said["max_batch"]
        self.profile_batch = self.said.get("profile", self.max_batch)

    def get_tensor_name(self, index: int) -> str:
        return list(self.nodes)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.OUTPUT if name in {node.name for node in self.outputs} else TensorIOMode.INPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return enum.Enum("DataType", {DTYPES[self.nodes[name].type][0]: 0})(0)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1 if self.max_batch > 1 else 1, *self.nodes[name].shape[1:])

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        assert index == 0
        return [(n, *self.nodes[name].shape[1:]) for n in (1, self.profile_batch, self.profile_batch)]

    def create_execution_context(self) -> Context | None:
        if not self.trt.driver.depth:
            raise MisuseError("made a context without CUDA's")
        return None if self.trt.refused("context", self.log) else Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._addresses: dict[str, int] = {}
        static = engine.max_batch == 1
        self._shapes = {node.name: (1, *node.shape[1:]) for node in engine.inputs} if static else {}
        self._change = 0
        self._settled = -1

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if self._engine.trt.refused("shape", self._engine.log):
            return False
        if self._engine.max_batch == 1 or not 1 <= shape[0] <= self._engine.max_batch:
            raise MisuseError("a shape outside the profile")
        self._shapes[name] = shape
        self._change += 1
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return not self._engine.trt.refused("address", self._engine.log)

    def execute_async_v3(self, stream: int) -> bool:
        engine, driver = self._engine, self._engine.trt.driver
        if not driver.depth:
            raise MisuseError("executed without the context")
        if set(self._addresses) != set(engine.nodes) or set(self._shapes) != {node.name for node in engine.inputs}:
            raise MisuseError("executed without every address and shape")
        counts = {shape[0] for shape in self._shapes.values()}
        if len(counts) != 1:
            raise MisuseError("inputs of several batches")
        if engine.trt.refused("execute", engine.log):
            return False
        recording, change = driver.recording(stream), self._change
        if recording and self._settled != change:
            raise MisuseError("captured before a run has settled the shapes")
        self._settled = change
        (count,) = counts
        engine.trt.executed.append(count)

        def step() -> None:
            if change != self._change:
                raise MisuseError("launched for other shapes than the context's")
            inputs = {node.name: self._memory(node, count) for node in engine.inputs}
            for node, value in zip(engine.outputs, engine.session.run(None, inputs), strict=True):
                np.copyto(self._memory(node, count), value[:, ::-1] if engine.trt.refuses == "wrong" else value)

        driver.put(stream, step)
        return True

    def _memory(self, node: Any, count: int) -> np.ndarray:
        dtype = np.dtype(DTYPES[node.type][1])
        shape = (count, *node.shape[1:])
        memory = self._engine.trt.driver.memory(self._addresses[node.name], int(np.prod(shape)) * dtype.itemsize)
        return memory.view(dtype).reshape(shape)
