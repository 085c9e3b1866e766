"""CUDA's driver through cuda-python."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.errors import BackendError
from sp_edge_runtime.backends.packages import importing


class CudaPythonDriver:
    """See `backends.cuda.Driver`. Each function of cuda.bindings gives (status, result...), which `_check` looks at.

    Raises:
        MissingExtraError: cuda-python is not installed.
        BackendError: it cannot be used.
    """

    def __init__(self) -> None:
        with importing("cuda", extra="tensorrt", what="cannot speak to CUDA"):
            import cuda.bindings
            from cuda.bindings import driver

        self._cuda = driver
        self.name = f"cuda-python {cuda.bindings.__version__}"
        self._device: Any = None
        self._context: Any = None
        try:
            status = driver.cuInit(0)
        except Exception as cause:  # the library is looked for at the first call; its absence has no common type
            raise BackendError("no NVIDIA GPU can be used", expected="NVIDIA's driver", got=str(cause)) from cause
        self._check("cuInit", status)

    def retain(self) -> None:
        """Takes a share in the first GPU's primary context."""
        self._device = self._check("cuDeviceGet", self._cuda.cuDeviceGet(0))
        self._context = self._check("cuDevicePrimaryCtxRetain", self._cuda.cuDevicePrimaryCtxRetain(self._device))

    def release(self) -> None:
        """Gives it back."""
        self._check("cuDevicePrimaryCtxRelease", self._cuda.cuDevicePrimaryCtxRelease(self._device))

    def push(self) -> None:
        """Makes the context this thread's."""
        self._check("cuCtxPushCurrent", self._cuda.cuCtxPushCurrent(self._context))

    def pop(self) -> None:
        """Takes it from this thread."""
        self._check("cuCtxPopCurrent", self._cuda.cuCtxPopCurrent())

    def allocate(self, size: int) -> int:
        """Device memory."""
        return int(self._check("cuMemAlloc", self._cuda.cuMemAlloc(size)))

    def free(self, address: int) -> None:
        """Frees device memory."""
        self._check("cuMemFree", self._cuda.cuMemFree(address))

    def allocate_host(self, size: int, *, mapped: bool) -> NDArray[np.uint8]:
        """Page-locked memory."""
        flags = self._cuda.CU_MEMHOSTALLOC_PORTABLE | (self._cuda.CU_MEMHOSTALLOC_DEVICEMAP if mapped else 0)
        address = int(self._check("cuMemHostAlloc", self._cuda.cuMemHostAlloc(size, flags)))
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def device_address(self, array: NDArray[np.uint8]) -> int:
        """Where the GPU sees mapped memory."""
        return int(self._check("cuMemHostGetDevicePointer", self._cuda.cuMemHostGetDevicePointer(array.ctypes.data, 0)))

    def free_host(self, array: NDArray[np.uint8]) -> None:
        """Frees page-locked memory."""
        self._check("cuMemFreeHost", self._cuda.cuMemFreeHost(array.ctypes.data))

    def create_stream(self) -> int:
        """A stream that does not wait for the default one."""
        flags = self._cuda.CUstream_flags.CU_STREAM_NON_BLOCKING
        return int(self._check("cuStreamCreate", self._cuda.cuStreamCreate(int(flags))))

    def destroy_stream(self, stream: int) -> None:
        """Destroys a stream."""
        self._check("cuStreamDestroy", self._cuda.cuStreamDestroy(stream))

    def synchronise(self, stream: int) -> None:
        """Waits for the stream."""
        self._check("cuStreamSynchronize", self._cuda.cuStreamSynchronize(stream))

    def upload(self, address: int, array: NDArray[np.uint8], stream: int) -> None:
        """Copies to the device."""
        self._check("cuMemcpyHtoDAsync", self._cuda.cuMemcpyHtoDAsync(address, array.ctypes.data, array.nbytes, stream))

    def download(self, array: NDArray[np.uint8], address: int, stream: int) -> None:
        """Copies to the host."""
        self._check("cuMemcpyDtoHAsync", self._cuda.cuMemcpyDtoHAsync(array.ctypes.data, address, array.nbytes, stream))

    def begin_capture(self, stream: int) -> None:
        """Begins to record; other threads may allocate meanwhile."""
        mode = self._cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._check("cuStreamBeginCapture", self._cuda.cuStreamBeginCapture(stream, mode))

    def end_capture(self, stream: int) -> int:
        """Ends the recording."""
        graph = self._check("cuStreamEndCapture", self._cuda.cuStreamEndCapture(stream))
        try:
            return int(self._check("cuGraphInstantiate", self._cuda.cuGraphInstantiate(graph, 0)))
        finally:
            self._check("cuGraphDestroy", self._cuda.cuGraphDestroy(graph))

    def launch(self, graph: int, stream: int) -> None:
        """Does what was recorded."""
        self._check("cuGraphLaunch", self._cuda.cuGraphLaunch(graph, stream))

    def destroy_graph(self, graph: int) -> None:
        """Destroys a graph."""
        self._check("cuGraphExecDestroy", self._cuda.cuGraphExecDestroy(graph))

    def _check(self, name: str, result: tuple[Any, ...]) -> Any:
        status, *values = result
        if status != self._cuda.CUresult.CUDA_SUCCESS:
            raise BackendError(
                "the GPU failed",
                expected=f"{name} to succeed",
                got=f"CUDA error {int(status)}, {getattr(status, 'name', '')}",
                next_step="sp-edge doctor; --device cpu works without",
            )
        return values[0] if values else None
