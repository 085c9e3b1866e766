"""Holds one GPU's memory, streams and graphs; whoever is handed one owns it and closes it.

`Cuda` and what it gives are written once, over a `Driver`: pycuda (`cuda_pycuda.py`) or cuda-python (`cuda_python.py`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sp_edge.engines.device import Gpu, find_gpu
from sp_edge.errors import BackendError, MissingExtraError


class Driver(Protocol):
    """What is needed of CUDA's driver API; addresses and handles are integers.

    Every call checks its status and raises BackendError. All but `retain` and `release` act on the context that the calling
    thread has pushed.

    Attributes:
        name: of the package, with its version: 'pycuda 2025.1'.
    """

    name: str

    def retain(self) -> None:
        """Takes a share in the first GPU's primary context, which TensorRT and other libraries use as well."""

    def release(self) -> None:
        """Gives the share back; the context must not be pushed anywhere."""

    def push(self) -> None:
        """Makes the context this thread's."""

    def pop(self) -> None:
        """Takes it from this thread again."""

    def allocate(self, size: int) -> int:
        """Device memory, in bytes -> its address."""
        ...

    def free(self, address: int) -> None:
        """Frees device memory."""

    def allocate_host(self, size: int, *, mapped: bool) -> NDArray[np.uint8]:
        """Page-locked memory: uint8 (size,); `mapped` lets the GPU read and write it in place."""
        ...

    def device_address(self, array: NDArray[np.uint8]) -> int:
        """Where the GPU sees mapped memory."""
        ...

    def free_host(self, array: NDArray[np.uint8]) -> None:
        """Frees page-locked memory; no view of it may be read any more."""

    def create_stream(self) -> int:
        """A stream that does not wait for the default one."""
        ...

    def destroy_stream(self, stream: int) -> None:
        """Destroys a stream."""

    def synchronise(self, stream: int) -> None:
        """Waits until all that was put into the stream is done; errors of that work come out here."""

    def upload(self, address: int, array: NDArray[np.uint8], stream: int) -> None:
        """Copies page-locked memory to the device when the stream comes to it; `array` must not change before."""

    def download(self, array: NDArray[np.uint8], address: int, stream: int) -> None:
        """Copies device memory to page-locked memory, which holds it after `synchronise`."""

    def begin_capture(self, stream: int) -> None:
        """From now on what is put into the stream is recorded rather than done."""

    def end_capture(self, stream: int) -> int:
        """Ends the recording -> a graph that can be launched."""
        ...

    def launch(self, graph: int, stream: int) -> None:
        """Does what was recorded, on the same memory."""

    def destroy_graph(self, graph: int) -> None:
        """Destroys a graph."""


class Cuda:
    """The first GPU's primary context, through one driver; `close` gives its share back, after all that came from it.

    Args:
        driver: what to call.
        gpu: whose context it is. An integrated one (Jetson) shares the host's memory, so nothing is copied there.

    Raises:
        BackendError: the context cannot be had.
    """

    def __init__(self, driver: Driver, gpu: Gpu) -> None:
        self.driver = driver
        self.gpu = gpu
        driver.retain()
        self._open = True

    @contextmanager
    def current(self) -> Iterator[None]:
        """Makes the context the calling thread's; buffers, streams and graphs are made, used and closed within.

        Raises:
            BackendError: it was given back, or the GPU failed.
        """
        if not self._open:
            raise BackendError("the GPU's context was given back", expected="a context in use")
        self.driver.push()
        try:
            yield
        finally:
            self.driver.pop()

    def buffer(self, size: int) -> Buffer:
        """Memory of `size` bytes for the host and the GPU; the caller closes it."""
        return Buffer(self.driver, size, mapped=self.gpu.integrated)

    def stream(self) -> Stream:
        """A stream of its own; the caller closes it."""
        return Stream(self.driver)

    def close(self) -> None:
        """Gives the share in the context back; a second call does nothing."""
        if self._open:
            self._open = False
            self.driver.release()


class Buffer:
    """Page-locked host memory with device memory of the same size, or one memory that both see.

    Attributes:
        array: uint8 (size,), the host's side; not to be touched between an upload or a run and the stream's synchronisation,
            nor after `close`.
        address: the device's side.
    """

    def __init__(self, driver: Driver, size: int, *, mapped: bool) -> None:
        self._driver = driver
        self._mapped = mapped
        self._open = True
        self.array = driver.allocate_host(size, mapped=mapped)
        try:
            self.address = driver.device_address(self.array) if mapped else driver.allocate(size)
        except BaseException:
            driver.free_host(self.array)
            raise

    def upload(self, stream: Stream, size: int) -> None:
        """Puts a copy of the first `size` bytes to the device into the stream; of mapped memory there is none to make."""
        if not self._mapped:
            self._driver.upload(self.address, self.array[:size], stream.handle)

    def download(self, stream: Stream, size: int) -> None:
        """Puts a copy of the first `size` bytes to the host into the stream."""
        if not self._mapped:
            self._driver.download(self.array[:size], self.address, stream.handle)

    def close(self) -> None:
        """Frees both memories; a second call does nothing."""
        if self._open:
            self._open = False
            try:
                if not self._mapped:
                    self._driver.free(self.address)
            finally:
                self._driver.free_host(self.array)


class Stream:
    """Work for the GPU in order.

    Attributes:
        handle: as TensorRT takes it.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._open = True
        self.handle = driver.create_stream()

    def synchronise(self) -> None:
        """Waits for all that was put into the stream.

        Raises:
            BackendError: some of it failed.
        """
        self._driver.synchronise(self.handle)

    def capture(self, work: Callable[[], None]) -> Graph:
        """Records what `work` puts into the stream, without doing it; the caller closes the graph.

        Raises:
            BackendError: CUDA cannot record it; what `work` raises is raised, too.
        """
        self._driver.begin_capture(self.handle)
        try:
            work()
        except BaseException:
            with suppress(BackendError):  # the stream must leave its recording; the first error is the one that says why
                self._driver.destroy_graph(self._driver.end_capture(self.handle))
            raise
        return Graph(self._driver, self._driver.end_capture(self.handle), self.handle)

    def close(self) -> None:
        """Destroys the stream; a second call does nothing."""
        if self._open:
            self._open = False
            self._driver.destroy_stream(self.handle)


class Graph:
    """Recorded work; it reads and writes the memory that it was recorded with."""

    def __init__(self, driver: Driver, handle: int, stream: int) -> None:
        self._driver = driver
        self._handle = handle
        self._stream = stream
        self._open = True

    def launch(self) -> None:
        """Puts the work into its stream."""
        self._driver.launch(self._handle, self._stream)

    def close(self) -> None:
        """Destroys the graph; a second call does nothing."""
        if self._open:
            self._open = False
            self._driver.destroy_graph(self._handle)


def open_cuda() -> Cuda:
    """The first GPU, through pycuda or, where that is not installed, cuda-python.

    Raises:
        BackendError: no GPU, or the package does not work here.
        MissingExtraError: neither is installed.
    """
    gpu = find_gpu()
    for module, kind in (("cuda_pycuda", "PycudaDriver"), ("cuda_python", "CudaPythonDriver")):
        try:
            driver = getattr(importlib.import_module(f"sp_edge_runtime.backends.{module}"), kind)()
        except MissingExtraError:
            continue
        return Cuda(driver, gpu)
    raise MissingExtraError(
        "TensorRT needs a package that speaks to CUDA: pycuda, which pip compiles, or cuda-python, which comes compiled",
        package="pycuda",
        extra="tensorrt",
    )
