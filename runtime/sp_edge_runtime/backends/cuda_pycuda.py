"""CUDA's driver through pycuda; graphs, which pycuda has none of, through the driver's own library."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.engines.device import driver_calls
from sp_edge.errors import BackendError
from sp_edge_runtime.backends.packages import importing

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING
_PORTABLE, _DEVICEMAP = 1, 2  # CU_MEMHOSTALLOC_*
_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may allocate meanwhile


class PycudaDriver:
    """See `sp_edge_runtime.backends.cuda.Driver`. pycuda checks every status itself; its errors get our name here.

    `pycuda.autoinit` is not used: it would make a context of its own, in the thread that imports it, for good.

    Raises:
        MissingExtraError: pycuda is not installed.
        BackendError: it cannot be used.
    """

    def __init__(self) -> None:
        with importing("pycuda", extra="tensorrt", what="cannot speak to CUDA"):
            import pycuda
            import pycuda.driver as cuda
        self._cuda = cuda
        self.name = f"pycuda {pycuda.VERSION_TEXT}"
        self._context: Any = None
        # pycuda frees what nobody holds any more; these are held until they are freed by name.
        self._memory: dict[int, Any] = {}
        self._streams: dict[int, Any] = {}
        with self._named():
            cuda.init()
        self._call = driver_calls(ctypes.CDLL)

    def retain(self) -> None:
        """Takes a share in the first GPU's primary context."""
        with self._named():
            self._context = self._cuda.Device(0).retain_primary_context()

    def release(self) -> None:
        """Gives it back. pycuda does so only from the thread that took it or one that has it pushed."""
        with self._named():
            self._context.push()
            self._context.detach()
        # `detach` takes the context off pycuda's stack, not off the driver's.
        popped = ctypes.c_void_p()
        self._call("cuCtxPopCurrent_v2", ctypes.byref(popped))
        self._context = None

    def push(self) -> None:
        """Makes the context this thread's."""
        with self._named():
            self._context.push()

    def pop(self) -> None:
        """Takes it from this thread; a thread that ends with one pushed would be aborted by pycuda."""
        with self._named():
            self._cuda.Context.pop()

    def allocate(self, size: int) -> int:
        """Device memory."""
        with self._named():
            memory = self._cuda.mem_alloc(size)
        self._memory[int(memory)] = memory
        return int(memory)

    def free(self, address: int) -> None:
        """Frees device memory."""
        with self._named():
            self._memory.pop(address).free()

    def allocate_host(self, size: int, *, mapped: bool) -> NDArray[np.uint8]:
        """Page-locked memory."""
        flags = _PORTABLE | (_DEVICEMAP if mapped else 0)
        with self._named():
            array: NDArray[np.uint8] = self._cuda.pagelocked_empty(size, np.uint8, mem_flags=flags)
        return array

    def device_address(self, array: NDArray[np.uint8]) -> int:
        """Where the GPU sees mapped memory."""
        allocation: Any = array.base
        with self._named():
            return int(allocation.get_device_pointer())

    def free_host(self, array: NDArray[np.uint8]) -> None:
        """Frees page-locked memory."""
        allocation: Any = array.base
        with self._named():
            allocation.free()

    def create_stream(self) -> int:
        """A stream that does not wait for the default one."""
        with self._named():
            stream = self._cuda.Stream(_NON_BLOCKING)
        self._streams[int(stream.handle)] = stream
        return int(stream.handle)

    def destroy_stream(self, stream: int) -> None:
        """Destroys a stream: pycuda does when its object goes."""
        del self._streams[stream]

    def synchronise(self, stream: int) -> None:
        """Waits for the stream; pycuda lets other threads run meanwhile."""
        with self._named():
            self._streams[stream].synchronize()

    def upload(self, address: int, array: NDArray[np.uint8], stream: int) -> None:
        """Copies to the device."""
        with self._named():
            self._cuda.memcpy_htod_async(address, array, self._streams[stream])

    def download(self, array: NDArray[np.uint8], address: int, stream: int) -> None:
        """Copies to the host."""
        with self._named():
            self._cuda.memcpy_dtoh_async(array, address, self._streams[stream])

    def begin_capture(self, stream: int) -> None:
        """Begins to record."""
        self._call("cuStreamBeginCapture_v2", ctypes.c_void_p(stream), _THREAD_LOCAL)

    def end_capture(self, stream: int) -> int:
        """Ends the recording."""
        graph, ready = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuStreamEndCapture", ctypes.c_void_p(stream), ctypes.byref(graph))
        try:
            self._call("cuGraphInstantiateWithFlags", ctypes.byref(ready), graph, ctypes.c_ulonglong(0))
        finally:
            self._call("cuGraphDestroy", graph)
        return ready.value or 0

    def launch(self, graph: int, stream: int) -> None:
        """Does what was recorded."""
        self._call("cuGraphLaunch", ctypes.c_void_p(graph), ctypes.c_void_p(stream))

    def destroy_graph(self, graph: int) -> None:
        """Destroys a graph."""
        self._call("cuGraphExecDestroy", ctypes.c_void_p(graph))

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except self._cuda.Error as cause:
            raise BackendError(
                "the GPU failed", got=str(cause), next_step="sp-edge doctor; --device cpu works without"
            ) from cause
