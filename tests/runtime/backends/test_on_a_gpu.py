"""What only a GPU can show. For a bundle and engines that were built for this GPU:

    SP_EDGE_GPU_BUNDLE=model.spedge SP_EDGE_GPU_ENGINES=engines pytest -m gpu

Engines are built there by `sp-edge export model.spedge --format engine --engines engines`, or elsewhere with `--target rtx`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.session import CUDA
from sp_edge.engines.device import find_gpu
from sp_edge.engines.sidecar import FLAVOURS
from sp_edge.errors import BackendError, MissingExtraError
from sp_edge.matching.decide import unit
from sp_edge.precisions import PRECISIONS
from sp_edge_runtime.backends.backend import least_cosine
from sp_edge_runtime.backends.cuda import Cuda, Driver
from sp_edge_runtime.backends.cuda_pycuda import PycudaDriver
from sp_edge_runtime.backends.cuda_python import CudaPythonDriver
from sp_edge_runtime.backends.onnx_runtime import OnnxRuntimeBackend
from sp_edge_runtime.backends.tensorrt_runtime import TensorRtBackend, open_tensorrt
from sp_edge_runtime.doctor import trials
from threads import at_once

pytestmark = pytest.mark.gpu


@pytest.fixture(params=[PycudaDriver, CudaPythonDriver])
def cuda(request: pytest.FixtureRequest) -> Iterator[Cuda]:
    try:
        gpu = find_gpu()
        driver: Driver = request.param()
    except (BackendError, MissingExtraError) as cause:
        pytest.skip(str(cause))
    made = Cuda(driver, gpu)
    yield made
    made.close()


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    path = os.environ.get("SP_EDGE_GPU_BUNDLE")
    if not path:
        pytest.skip("SP_EDGE_GPU_BUNDLE names no bundle")
    return Bundle.load(Path(path))


@pytest.fixture
def backend(bundle: Bundle) -> Iterator[TensorRtBackend]:
    engines = os.environ.get("SP_EDGE_GPU_ENGINES")
    with open_tensorrt(bundle, folder=Path(engines) if engines else None) as opened:
        yield opened


def pictures(bundle: Bundle, count: int, seed: int = 0) -> np.ndarray:
    side = bundle.manifest.preprocess.image_size
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_memory_goes_there_and_back(cuda: Cuda) -> None:
    with cuda.current():
        buffer, stream = cuda.buffer(1 << 20), cuda.stream()
        content = np.random.default_rng(0).integers(0, 256, 1 << 20, dtype=np.uint8)
        buffer.array[:] = content
        buffer.upload(stream, 1 << 20)
        stream.synchronise()
        if not cuda.gpu.integrated:
            buffer.array[:] = 0
        buffer.download(stream, 1 << 20)
        stream.synchronise()
        np.testing.assert_array_equal(buffer.array, content)
        buffer.close()
        stream.close()


def test_copies_are_recorded_and_launched(cuda: Cuda) -> None:
    if cuda.gpu.integrated:
        pytest.skip("nothing is copied here")
    with cuda.current():
        buffer, stream = cuda.buffer(4), cuda.stream()
        buffer.array[:] = 1, 2, 3, 4
        buffer.upload(stream, 4)
        stream.synchronise()
        graph = stream.capture(lambda: buffer.download(stream, 4))
        buffer.array[:] = 0
        stream.synchronise()
        assert list(buffer.array) == [0, 0, 0, 0], "recorded, not done"
        graph.launch()
        stream.synchronise()
        assert list(buffer.array) == [1, 2, 3, 4]
        for each in (graph, buffer, stream):
            each.close()


def test_more_memory_than_there_is(cuda: Cuda) -> None:
    with cuda.current(), pytest.raises(BackendError):
        cuda.driver.allocate(1 << 50)


def test_closed_by_another_thread(cuda: Cuda) -> None:
    worker = threading.Thread(target=cuda.close)
    worker.start()
    worker.join()
    with pytest.raises(BackendError, match="given back"), cuda.current():
        pass


def test_the_golden_features(bundle: Bundle, backend: TensorRtBackend) -> None:
    assert least_cosine(backend, bundle.golden()) >= PRECISIONS[bundle.manifest.precision].cosine_min


def test_any_batch_is_what_onnx_runtime_says(bundle: Bundle, backend: TensorRtBackend) -> None:
    least = PRECISIONS[bundle.manifest.precision].cosine_min
    with OnnxRuntimeBackend(bundle) as other:
        for count in (1, 1, 1, 2, 3, 8, 8, 8, 17, 1):
            inputs = {"image": pictures(bundle, count, count)}
            ours, theirs = (each.run("query", inputs)["feature"] for each in (backend, other))
            assert ((unit(ours) * unit(theirs)).sum(axis=1) >= least).all()
    assert "without a CUDA graph" not in backend.description


def test_threads_share_it(bundle: Bundle, backend: TensorRtBackend) -> None:
    images = [pictures(bundle, 2, seed) for seed in range(4)]
    alone = [backend.run("query", {"image": each})["feature"] for each in images]

    def work(number: int) -> None:
        for _ in range(50):
            np.testing.assert_array_equal(backend.run("query", {"image": images[number]})["feature"], alone[number])

    at_once(work, 4)


def test_opened_and_closed_many_times(bundle: Bundle, backend: TensorRtBackend) -> None:
    engines = os.environ.get("SP_EDGE_GPU_ENGINES")
    for _ in range(5):
        with open_tensorrt(bundle, folder=Path(engines) if engines else None) as again:
            again.run("query", {"image": pictures(bundle, 1)})
    backend.run("query", {"image": pictures(bundle, 1)})  # the context that both had is still there


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_doctors_network_runs_in_tensorrt(cuda: Cuda, flavour: str) -> None:
    try:
        assert trials.tensorrt(flavour) >= trials.LEAST
    except MissingExtraError as cause:
        pytest.skip(str(cause))


def test_the_doctors_network_runs_in_onnx_runtime(cuda: Cuda) -> None:
    if CUDA not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no CUDA provider")
    assert trials.onnx_runtime(CUDA) >= trials.LEAST
