"""The CUDA seam: what it owns, through the host's driver and through both packages' names."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fake_cuda_packages
import sp_edge_runtime.backends.cuda_python
from fake_cuda_packages import DRIVERS, Made, cuda_python, pycuda
from host_cuda import DESKTOP, ORIN, HostDriver, MisuseError
from sp_edge.engines.device import Gpu
from sp_edge.errors import BackendError, MissingExtraError
from sp_edge_runtime.backends import cuda as seam
from sp_edge_runtime.backends.cuda import Cuda, open_cuda
from sp_edge_runtime.backends.cuda_python import CudaPythonDriver


@pytest.fixture(params=DRIVERS)
def made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Made:
    make: Callable[[pytest.MonkeyPatch], Made] = DRIVERS[request.param]
    return make(monkeypatch)


@pytest.mark.parametrize("gpu", [DESKTOP, ORIN], ids=["desktop", "jetson"])
def test_memory_goes_there_and_back(made: Made, gpu: Gpu) -> None:
    driver, real = made
    cuda = Cuda(driver, gpu)
    with cuda.current():
        one, two, stream = cuda.buffer(8), cuda.buffer(8), cuda.stream()
        one.array[:] = range(8)
        one.upload(stream, 8)
        real.put(stream.handle, lambda: np.copyto(real.memory(two.address, 8), real.memory(one.address, 8)[::-1]))
        two.download(stream, 4)
        assert set(two.array) == {0xCD}, "nothing happens before the stream is waited for"
        stream.synchronise()
        assert list(two.array[:4]) == [7, 6, 5, 4]
        assert set(two.array[4:]) == ({0xCD} if gpu is DESKTOP else {0, 1, 2, 3})
        for each in (one, two, stream, one, two, stream):  # the second time does nothing
            each.close()
    cuda.close()
    cuda.close()
    assert real.clean
    assert ("upload" in real.calls) == (gpu is DESKTOP), "a Jetson's memory is the GPU's"


def test_a_graph_does_again_what_was_recorded(made: Made) -> None:
    driver, real = made
    cuda = Cuda(driver, DESKTOP)
    with cuda.current():
        buffer, stream = cuda.buffer(2), cuda.stream()

        def work() -> None:
            buffer.upload(stream, 2)
            real.put(stream.handle, lambda: np.copyto(real.memory(buffer.address, 2), real.memory(buffer.address, 2) * 2))
            buffer.download(stream, 2)

        buffer.array[:] = 1, 2
        graph = stream.capture(work)
        stream.synchronise()
        assert list(buffer.array) == [1, 2], "recorded, not done"
        for expected in ([2, 4], [4, 8]):
            graph.launch()
            stream.synchronise()
            assert list(buffer.array) == expected
        for each in (graph, graph, buffer, stream):
            each.close()
    cuda.close()
    assert real.clean


def test_a_recording_that_fails_leaves_the_stream_usable(made: Made) -> None:
    driver, real = made
    cuda = Cuda(driver, DESKTOP)

    def work() -> None:
        raise BackendError("no")

    with cuda.current():
        stream = cuda.stream()
        with pytest.raises(BackendError, match="no"):
            stream.capture(work)
        stream.capture(lambda: None).close()
        stream.close()
    cuda.close()
    assert real.clean


def test_what_the_gpu_says_becomes_our_error(made: Made) -> None:
    driver, real = made
    real.fails = 1
    cuda = Cuda(driver, DESKTOP)
    with cuda.current(), pytest.raises(BackendError, match="the GPU failed") as caught:
        cuda.buffer(8)
    assert caught.value.got
    cuda.close()
    assert real.clean


def test_host_memory_is_given_back_where_the_gpu_has_none_left(made: Made) -> None:
    driver, real = made
    real.fails = 2
    cuda = Cuda(driver, DESKTOP)
    with cuda.current(), pytest.raises(BackendError):
        cuda.buffer(8)
    assert real.calls.count("allocate_host") == real.calls.count("free_host") == 1
    cuda.close()
    assert real.clean


def test_a_context_that_was_given_back(made: Made) -> None:
    driver, _ = made
    cuda = Cuda(driver, DESKTOP)
    cuda.close()
    with pytest.raises(BackendError, match="given back"), cuda.current():
        pass


def test_the_host_is_strict() -> None:
    driver = HostDriver()
    cuda = Cuda(driver, DESKTOP)
    with pytest.raises(MisuseError, match="without the context"):
        cuda.buffer(1)
    with cuda.current():
        buffer, stream = cuda.buffer(4), cuda.stream()
        with pytest.raises(MisuseError, match="page-locked"):
            driver.upload(buffer.address, np.zeros(4, np.uint8), stream.handle)
        buffer.upload(stream, 4)
        with pytest.raises(MisuseError, match="under way"):
            buffer.close()
        stream.synchronise()
        with pytest.raises(MisuseError, match="has not got them"):
            driver.memory(buffer.address, 5)
        assert not driver.clean


@pytest.mark.parametrize("missing", ["pycuda", "both"])
def test_pycuda_first_then_cuda_python(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seam, "find_gpu", lambda: DESKTOP)
    pycuda(monkeypatch)
    cuda_python(monkeypatch)
    with pytest.MonkeyPatch.context() as patch:
        cuda = open_cuda()
        assert cuda.driver.name == "pycuda 2025.1"
        cuda.close()
        patch.setitem(sys.modules, "pycuda", None)
        if missing == "pycuda":
            cuda = open_cuda()
            assert cuda.driver.name == "cuda-python 13.0"
            cuda.close()
        else:
            patch.setitem(sys.modules, "cuda.bindings", None)
            with pytest.raises(MissingExtraError, match=r"sp-edge\[tensorrt\]"):
                open_cuda()


def test_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Gpu:
        raise BackendError("no NVIDIA GPU can be used")

    monkeypatch.setattr(seam, "find_gpu", none)
    with pytest.raises(BackendError, match="no NVIDIA GPU"):
        open_cuda()


def test_cuda_python_has_the_functions_with_as_many_arguments() -> None:
    real = pytest.importorskip("cuda.bindings.driver")
    tree = ast.parse(Path(sp_edge_runtime.backends.cuda_python.__file__).read_text("utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    used = {node.func.attr: len(node.args) for node in calls if node.func.attr.startswith("cu")}
    assert len(used) > 20
    for name, count in used.items():
        head = (inspect.getdoc(getattr(real, name)) or "").splitlines()[0]
        inside = head[head.index("(") + 1 : head.index(")")]
        assert count == len([part for part in inside.split(",") if part.strip()]), head
    for name in ("CU_MEMHOSTALLOC_PORTABLE", "CU_MEMHOSTALLOC_DEVICEMAP"):
        assert int(getattr(real, name)) == getattr(fake_cuda_packages.cuda_bindings_over(HostDriver()), name)
    assert real.CUstream_flags.CU_STREAM_NON_BLOCKING == 1
    assert real.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL == 1


def test_the_driver_of_this_machine_says_so_where_there_is_none() -> None:
    pytest.importorskip("cuda.bindings.driver")
    try:
        seam.find_gpu()
    except BackendError:
        with pytest.raises(BackendError, match="no NVIDIA GPU"):
            CudaPythonDriver()
    else:
        pytest.skip("this machine has a GPU")
