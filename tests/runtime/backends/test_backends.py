"""What every backend promises, over each that can run here: TensorRT on the host's stand-in, through each CUDA package."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import toy
from fake_cuda_packages import DRIVERS
from host_cuda import DESKTOP, ORIN, HostDriver
from sp_edge.bundle.bundle import Bundle
from sp_edge.engines.device import Gpu
from sp_edge.errors import BackendError
from sp_edge_runtime.backends.backend import Backend, check_golden, least_cosine
from sp_edge_runtime.backends.cuda import Cuda
from sp_edge_runtime.backends.hand_over import HandOver
from sp_edge_runtime.backends.onnx_runtime import OnnxRuntimeBackend
from sp_edge_runtime.backends.openvino_runtime import OpenVinoBackend, import_openvino
from sp_edge_runtime.backends.tensorrt_runtime import TensorRtBackend
from tensorrt_on_the_host import StandIn, put_plans
from threads import at_once

Opened = tuple[Backend, HostDriver | None]


def onnx_runtime(bundle: Bundle, folder: Path, patch: pytest.MonkeyPatch) -> Opened:
    return OnnxRuntimeBackend(bundle, threads=1), None


def openvino(bundle: Bundle, folder: Path, patch: pytest.MonkeyPatch) -> Opened:
    try:
        import_openvino()
    except ImportError:
        pytest.skip("OpenVINO is not installed")
    return OpenVinoBackend(bundle, threads=1, cache=folder), None


def handing_over(bundle: Bundle, folder: Path, patch: pytest.MonkeyPatch) -> Opened:
    return HandOver(OnnxRuntimeBackend(bundle), ["true"], lambda: OnnxRuntimeBackend(bundle)), None


def tensorrt(package: str, gpu: Gpu) -> Callable[[Bundle, Path, pytest.MonkeyPatch], Opened]:
    def make(bundle: Bundle, folder: Path, patch: pytest.MonkeyPatch) -> Opened:
        device = put_plans(bundle, folder, gpu)
        driver, real = DRIVERS[package](patch)
        return TensorRtBackend(bundle, None, StandIn(real), Cuda(driver, gpu), device, folder=folder), real

    return make


BACKENDS = {
    "onnxruntime": onnx_runtime,
    "openvino": openvino,
    "handing-over": handing_over,
    "tensorrt-host": tensorrt("host", DESKTOP),
    "tensorrt-pycuda": tensorrt("pycuda", DESKTOP),
    "tensorrt-pycuda-jetson": tensorrt("pycuda", ORIN),
    "tensorrt-cuda-python": tensorrt("cuda-python", DESKTOP),
    "tensorrt-cuda-python-jetson": tensorrt("cuda-python", ORIN),
}


@pytest.fixture(scope="module")
def bundle(toy_bundle: Path) -> Bundle:
    return Bundle.load(toy_bundle)


@pytest.fixture(params=BACKENDS)
def backend(
    request: pytest.FixtureRequest, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Backend]:
    made, driver = BACKENDS[request.param](bundle, tmp_path, monkeypatch)
    with made as entered:
        assert entered is made
        yield made
    if driver is not None:
        assert driver.clean


def pictures(count: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, toy.SIDE, toy.SIDE, 3), dtype=np.uint8)


def prompts(count: int) -> np.ndarray:
    return np.random.default_rng(4).normal(size=(count, toy.TEXT.dim)).astype(np.float32)


def test_any_batch_of_both_graphs(backend: Backend) -> None:
    for count in (1, 2, 3, 8, 1, 8, 8, 8):
        images, prompt = pictures(count, count), prompts(count)
        query = backend.run("query", {"image": images})
        support = backend.run("support", {"image": images, "prompt": prompt})
        assert (set(query), set(support)) == ({"feature"}, {"feature", "plain"})
        assert {output.dtype.name for output in (*query.values(), *support.values())} == {"float32"}
        np.testing.assert_allclose(query["feature"], toy.features(images), atol=1e-5)
        np.testing.assert_allclose(support["feature"], toy.features(images, prompt), atol=1e-5)
        np.testing.assert_allclose(support["plain"], toy.features(images), atol=1e-5)


def test_the_golden_features(backend: Backend, bundle: Bundle) -> None:
    assert least_cosine(backend, bundle.golden()) > 0.99999
    assert check_golden(backend, bundle, "fp32", next_step="") > 0.99999


def test_inputs_are_only_read_and_outputs_are_the_callers(backend: Backend) -> None:
    images, prompt = pictures(3), prompts(3)
    for array in (images, prompt):
        array.flags.writeable = False
    first = backend.run("support", {"image": images, "prompt": prompt})
    kept = {name: output.copy() for name, output in first.items()}
    for seed in range(3):
        backend.run("support", {"image": pictures(3, seed), "prompt": prompt})
    for name, output in first.items():
        np.testing.assert_array_equal(output, kept[name])
        output[:] = 0


def test_inputs_in_any_memory(backend: Backend) -> None:
    images = pictures(4)
    strided = np.ascontiguousarray(images[:, ::-1, :, ::-1])[:, ::-1, :, ::-1]
    wide = np.zeros((8, toy.SIDE, toy.SIDE, 3), np.uint8)
    wide[::2] = images
    for same in (strided, np.asfortranarray(images), wide[::2]):
        np.testing.assert_allclose(backend.run("query", {"image": same})["feature"], toy.features(images), atol=1e-5)


@pytest.mark.parametrize(
    ("graph", "inputs", "words"),
    [
        ("query", {"image": np.zeros((1, 16, 32, 3), np.uint8)}, "image uint8 (1, 16, 32, 3)"),
        ("query", {"image": np.zeros((1, 32, 32, 3), np.float32)}, "image float32"),
        ("query", {"image": np.zeros((1, 32, 32, 3), np.int8)}, "image int8"),
        ("query", {"image": np.zeros((0, 32, 32, 3), np.uint8)}, "(0, 32, 32, 3)"),
        ("query", {"image": np.zeros((32, 32, 3), np.uint8)}, "(32, 32, 3)"),
        ("query", {"image": np.uint8(3)}, "image uint8 ()"),
        ("query", {}, "nothing"),
        ("query", {"image": pictures(1), "prompt": prompts(1)}, "prompt float32"),
        ("support", {"image": pictures(1)}, "image uint8"),
        ("support", {"image": pictures(2), "prompt": prompts(1)}, "prompt float32 (1, 8)"),
        ("support", {"image": pictures(1), "prompt": prompts(1).astype(np.float64)}, "prompt float64"),
        ("neither", {"image": pictures(1)}, "neither"),
    ],
)
def test_inputs_that_do_not_fit(backend: Backend, graph: str, inputs: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(BackendError) as caught:
        backend.run(graph, inputs)
    assert words in caught.value.got
    assert caught.value.expected
    images = pictures(2)
    np.testing.assert_allclose(backend.run("query", {"image": images})["feature"], toy.features(images), atol=1e-5)


def test_several_threads_at_once(backend: Backend) -> None:
    def work(seed: int) -> None:
        for count in (1, 2, 2, 3):
            images, prompt = pictures(count, seed), prompts(count)
            query = backend.run("query", {"image": images})["feature"]
            np.testing.assert_allclose(query, toy.features(images), atol=1e-5)
            support = backend.run("support", {"image": images, "prompt": prompt})
            np.testing.assert_allclose(support["feature"], toy.features(images, prompt), atol=1e-5)
            np.testing.assert_allclose(support["plain"], toy.features(images), atol=1e-5)

    at_once(work, 5)


def test_closed_is_closed(backend: Backend) -> None:
    backend.run("query", {"image": pictures(1)})
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        backend.run("query", {"image": pictures(1)})


def test_the_description_names_engine_device_precision_and_why(backend: Backend) -> None:
    assert "Runtime" in backend.title or "OpenVINO" in backend.title or "TensorRT" in backend.title
    assert backend.title.endswith("fp32") or "fp32, without" in backend.title
    backend.why = "auto"
    assert backend.description == f"{backend.title} (auto)"
