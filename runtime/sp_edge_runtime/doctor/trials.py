"""Runs a small network on the GPU and on the CPU. The doctor does so in a process of its own: a GPU's library may end its own.

What is installed, listed and loaded may still hold no code for this GPU, which shows at the first run alone.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.bundle.session import CPU, Session
from sp_edge.errors import BackendError
from sp_edge.matching.decide import row_cosines
from sp_edge_runtime.backends.cuda import open_cuda
from sp_edge_runtime.backends.tensorrt_engine import Log
from sp_edge_runtime.backends.tensorrt_runtime import import_tensorrt

# `image` float32 (1, 3, 16, 16) -> convolution, GELU, pooling, product of matrices, softmax -> `feature` float32 (1, 16).
GRAPH = Path(__file__).with_name("trial.onnx")
LEAST = 0.999  # cosine of the features to the CPU's
_FEATURE = (1, 16)


def image() -> NDArray[np.float32]:
    """What the network is tried with, float32 (1, 3, 16, 16)."""
    return np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)


def onnx_runtime(provider: str) -> float:
    """The least cosine between ONNX Runtime's features on a provider and on the CPU.

    Raises:
        BackendError: the provider does not take the network, fails, or gives other features.
    """
    return _held(_features(provider))


def tensorrt(flavour: str) -> float:
    """The least cosine between the features of an engine that TensorRT builds here and ONNX Runtime's on the CPU.

    Raises:
        MissingExtraError: TensorRT, or a package that speaks to CUDA, is not installed.
        BackendError: it does not load, build or run, or gives other features.
    """
    trt = import_tensorrt(flavour)
    log = Log(trt)

    def given(value: Any, what: str) -> Any:
        said = log.take()
        if not value:
            raise BackendError(f"TensorRT cannot {what} a small network", got=said)
        return value

    with ExitStack() as stack:
        cuda = open_cuda()
        stack.callback(cuda.close)
        stack.enter_context(cuda.current())
        builder = given(trt.Builder(log.logger), "start to build")
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        given(trt.OnnxParser(network, log.logger).parse(GRAPH.read_bytes()), "read")
        config = builder.create_builder_config()
        config.builder_optimization_level = 0  # the quickest build
        plan = given(builder.build_serialized_network(network, config), "build")
        engine = given(trt.Runtime(log.logger).deserialize_cuda_engine(bytes(plan)), "open")
        context = given(engine.create_execution_context(), "prepare")
        stream = cuda.stream()
        stack.callback(stream.close)
        sizes = {"image": image().nbytes, "feature": 4 * math.prod(_FEATURE)}
        buffers = {}
        for name, size in sizes.items():
            buffers[name] = cuda.buffer(size)
            stack.callback(buffers[name].close)
            given(context.set_tensor_address(name, buffers[name].address), "prepare")
        buffers["image"].array[:] = image().reshape(-1).view(np.uint8)
        try:
            buffers["image"].upload(stream, sizes["image"])
            given(context.execute_async_v3(stream.handle), "run")
            buffers["feature"].download(stream, sizes["feature"])
        finally:
            stream.synchronise()
        feature = buffers["feature"].array.view(np.float32).reshape(_FEATURE).copy()
        del context, engine  # before their memory goes
    return _held(feature)


def _features(provider: str) -> NDArray[Any]:
    session = Session(GRAPH.read_bytes(), "a small network", BackendError, providers=(provider,))
    return session.run({"image": image()}, ["feature"])[0]


def _held(feature: NDArray[Any]) -> float:
    least = float(row_cosines(feature, _features(CPU)).min())
    if not least >= LEAST:  # so that NaN does not pass
        raise BackendError(f"a small network has wrong features (cosine {least:.4f})", expected=f"cosine at least {LEAST}")
    return least
