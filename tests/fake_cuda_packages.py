"""The packages pycuda and cuda-python as far as sp-edge uses them, with their documented names, over a HostDriver.

pycuda is as particular as the real one: its objects need a current context, pop what they pushed, and are freed once.
"""

from __future__ import annotations

import ctypes
import enum
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import sp_edge_runtime.backends.cuda_pycuda
from host_cuda import HostDriver, MisuseError
from sp_edge.errors import BackendError
from sp_edge_runtime.backends.cuda import Driver
from sp_edge_runtime.backends.cuda_pycuda import PycudaDriver
from sp_edge_runtime.backends.cuda_python import CudaPythonDriver


def pycuda_over(host: HostDriver) -> tuple[ModuleType, ModuleType]:
    """The modules pycuda and pycuda.driver."""

    class Error(Exception):
        pass

    def guarded(function: Any, *arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except BackendError as cause:
            raise Error(cause.got) from cause

    class Allocation:
        def __init__(self, size: int) -> None:
            self._address = guarded(host.allocate, size)

        def __int__(self) -> int:
            return self._address

        def free(self) -> None:
            guarded(host.free, self._address)

    class PagelockedHostAllocation:
        """Gives its memory by the array interface, as the real one does: it is the base of the array."""

        def __init__(self, size: int, flags: int) -> None:
            self._array = guarded(host.allocate_host, size, mapped=bool(flags & 2))
            self.__array_interface__ = self._array.__array_interface__

        def get_device_pointer(self) -> int:
            return guarded(host.device_address, self._array)

        def free(self) -> None:
            guarded(host.free_host, self._array)

    def pagelocked_empty(shape: int, dtype: type, order: str = "C", mem_flags: int = 0) -> np.ndarray:
        assert (dtype, order) == (np.uint8, "C")
        return np.asarray(PagelockedHostAllocation(shape, mem_flags))

    class Stream:
        def __init__(self, flags: int = 0) -> None:
            assert flags == 1, "not one that waits for the default stream"
            self.handle = guarded(host.create_stream)

        def __del__(self) -> None:
            if hasattr(self, "handle"):
                host.destroy_stream(self.handle)

        def synchronize(self) -> None:
            guarded(host.synchronise, self.handle)

    class Context:
        def __init__(self) -> None:
            guarded(host.retain)

        def push(self) -> None:
            guarded(host.push)

        @staticmethod
        def pop() -> None:
            guarded(host.pop)

        def detach(self) -> None:
            if not host.depth:
                raise MisuseError("from another thread pycuda would detach nothing")
            # The real one leaves the context on the driver's stack; the host wants it popped before it is released.
            host.detaching = True

    class Device:
        def __init__(self, number: int) -> None:
            assert number == 0

        def retain_primary_context(self) -> Context:
            return Context()

    driver = ModuleType("pycuda.driver")
    vars(driver).update(
        Error=Error,
        init=lambda flags=0: None,
        Device=Device,
        Context=Context,
        Stream=Stream,
        mem_alloc=Allocation,
        pagelocked_empty=pagelocked_empty,
        memcpy_htod_async=lambda dest, src, stream=None: guarded(host.upload, int(dest), src, stream.handle),
        memcpy_dtoh_async=lambda dest, src, stream=None: guarded(host.download, dest, int(src), stream.handle),
    )
    package = ModuleType("pycuda")
    package.VERSION_TEXT = "2025.1"
    package.driver = driver
    return package, driver


def libcuda_over(host: HostDriver) -> Any:
    """What `driver_calls(load)` gives: CUDA's own functions, by name, with ctypes' arguments."""
    captured: dict[int, int] = {}

    def pop_current(context: Any) -> None:
        host.pop()
        if host.__dict__.pop("detaching", False):
            host.release()

    def end_capture(stream: ctypes.c_void_p, graph: Any) -> None:
        graph._obj.value = host.end_capture(stream.value)

    def instantiate(ready: Any, graph: ctypes.c_void_p, flags: ctypes.c_ulonglong) -> None:
        assert flags.value == 0
        captured[graph.value] = ready._obj.value = graph.value

    functions = {
        "cuCtxPopCurrent_v2": pop_current,
        "cuStreamBeginCapture_v2": lambda stream, mode: host.begin_capture(stream.value),
        "cuStreamEndCapture": end_capture,
        "cuGraphInstantiateWithFlags": instantiate,
        "cuGraphDestroy": lambda graph: None,
        "cuGraphLaunch": lambda graph, stream: host.launch(graph.value, stream.value),
        "cuGraphExecDestroy": lambda graph: host.destroy_graph(graph.value),
    }
    return lambda name, *arguments: functions[name](*arguments)


class CUresult(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_OUT_OF_MEMORY = 2


def cuda_bindings_over(host: HostDriver) -> ModuleType:
    """The module cuda.bindings.driver."""
    arrays: dict[int, np.ndarray] = {}

    def wrapped(function: Any) -> Any:
        def call(*arguments: Any) -> tuple[Any, ...]:
            try:
                result = function(*arguments)
            except BackendError:
                return (CUresult.CUDA_ERROR_OUT_OF_MEMORY, None)
            return (CUresult.CUDA_SUCCESS,) if result is None else (CUresult.CUDA_SUCCESS, result)

        return call

    def host_alloc(size: int, flags: int) -> int:
        array = host.allocate_host(size, mapped=bool(flags & 2))
        arrays[array.ctypes.data] = array
        return array.ctypes.data

    def part(address: int, size: int) -> np.ndarray:
        return arrays[address][:size]

    functions = {
        "cuInit": lambda flags: None,
        "cuDeviceGet": lambda ordinal: ordinal,
        "cuDevicePrimaryCtxRetain": lambda device: host.retain() or "context",
        "cuDevicePrimaryCtxRelease": lambda device: host.release(),
        "cuCtxPushCurrent": lambda context: host.push(),
        "cuCtxPopCurrent": lambda: host.pop() or "context",
        "cuMemAlloc": host.allocate,
        "cuMemFree": host.free,
        "cuMemHostAlloc": host_alloc,
        "cuMemHostGetDevicePointer": lambda address, flags: host.device_address(arrays[address]),
        "cuMemFreeHost": lambda address: host.free_host(arrays.pop(address)),
        "cuStreamCreate": lambda flags: host.create_stream(),
        "cuStreamDestroy": host.destroy_stream,
        "cuStreamSynchronize": host.synchronise,
        "cuMemcpyHtoDAsync": lambda to, source, size, stream: host.upload(to, part(source, size), stream),
        "cuMemcpyDtoHAsync": lambda to, source, size, stream: host.download(part(to, size), source, stream),
        "cuStreamBeginCapture": lambda stream, mode: host.begin_capture(stream),
        "cuStreamEndCapture": host.end_capture,
        "cuGraphInstantiate": lambda graph, flags: graph,
        "cuGraphDestroy": lambda graph: None,
        "cuGraphLaunch": host.launch,
        "cuGraphExecDestroy": host.destroy_graph,
    }
    module = ModuleType("cuda.bindings.driver")
    vars(module).update({name: wrapped(function) for name, function in functions.items()})
    vars(module).update(
        CUresult=CUresult,
        CU_MEMHOSTALLOC_PORTABLE=1,
        CU_MEMHOSTALLOC_DEVICEMAP=2,
        CUstream_flags=SimpleNamespace(CU_STREAM_NON_BLOCKING=1),
        CUstreamCaptureMode=SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL=1),
    )
    return module


Made = tuple[Driver, HostDriver]


def host_driver(_: pytest.MonkeyPatch) -> Made:
    driver = HostDriver()
    return driver, driver


def pycuda(patch: pytest.MonkeyPatch) -> Made:
    driver = HostDriver()
    package, module = pycuda_over(driver)
    patch.setitem(sys.modules, "pycuda", package)
    patch.setitem(sys.modules, "pycuda.driver", module)
    patch.setattr(sp_edge_runtime.backends.cuda_pycuda, "driver_calls", lambda load: libcuda_over(driver))
    return PycudaDriver(), driver


def cuda_python(patch: pytest.MonkeyPatch) -> Made:
    driver = HostDriver()
    bindings = ModuleType("cuda.bindings")
    bindings.__version__ = "13.0"
    bindings.driver = cuda_bindings_over(driver)
    package = ModuleType("cuda")
    package.bindings = bindings
    patch.setitem(sys.modules, "cuda", package)
    patch.setitem(sys.modules, "cuda.bindings", bindings)
    patch.setitem(sys.modules, "cuda.bindings.driver", bindings.driver)
    return CudaPythonDriver(), driver


DRIVERS = {"host": host_driver, "pycuda": pycuda, "cuda-python": cuda_python}
