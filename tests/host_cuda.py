"""CUDA's driver on the host, as strict as the real one and stricter: what would be undefined there is an error here.

What is put into a stream happens at `synchronise` and not before, so that who forgets it reads old memory. Memory that was
freed is gone; handles are used once; every call needs the context of the thread that makes it. A graph reads and writes the
memory that it was recorded with.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import numpy as np

from sp_edge.engines.device import Device, Gpu
from sp_edge.errors import BackendError
from sp_edge_runtime.backends.cuda import Cuda

ORIN = Gpu(name="Orin", compute_capability="8.7", memory=8 << 30, integrated=True, cuda="12.6")
DESKTOP = Gpu(name="RTX 4090", compute_capability="8.9", memory=24 << 30, integrated=False, cuda="13.0")


def device_of(gpu: Gpu, flavour: str = "tensorrt") -> Device:
    """The machine with that GPU."""
    l4t, machine = ("36.4.3", "aarch64") if gpu.integrated else (None, "x86_64")
    return Device(flavour, "10.3.0", gpu.compute_capability, gpu.name, "580.0", gpu.cuda, l4t, "Linux", machine)


class MisuseError(AssertionError):
    """What a program must not do."""


class HostDriver:
    """See `sp_edge_runtime.backends.cuda.Driver`.

    Attributes:
        calls: the names of all calls so far.
        asked: those of them that may fail: all but those that give something back, wait or push.
        fails: which of `asked`, from 0, raises BackendError.
        no_graphs: ending a capture raises BackendError.
    """

    name = "host"

    def __init__(self) -> None:
        self.shares = 0
        self.fails: int | None = None
        self.no_graphs = False
        self.calls: list[str] = []
        self.asked: list[str] = []
        self._addresses = itertools.count(0x1000_0000, 0x10_0000)
        self._device: dict[int, np.ndarray] = {}
        self._host: dict[int, tuple[np.ndarray, bool]] = {}
        self._streams: dict[int, list[Callable[[], None]]] = {}
        self._recording: dict[int, list[Callable[[], None]]] = {}
        self._graphs: dict[int, tuple[int, list[Callable[[], None]]]] = {}
        self._pushed = threading.local()

    def retain(self) -> None:
        self._call("retain", current=False)
        self.shares += 1

    def release(self) -> None:
        self._call("release", current=False, may_fail=False)
        if self.shares < 1:
            raise MisuseError("released more often than retained")
        if self.depth:
            raise MisuseError("released while pushed")
        self.shares -= 1

    @property
    def depth(self) -> int:
        """How often this thread has pushed the context."""
        return getattr(self._pushed, "depth", 0)

    def push(self) -> None:
        self._call("push", current=False, may_fail=False)
        if self.shares < 1:
            raise BackendError("the GPU's context was given back")
        self._pushed.depth = self.depth + 1

    def pop(self) -> None:
        self._call("pop", may_fail=False)
        self._pushed.depth -= 1

    def allocate(self, size: int) -> int:
        self._call("allocate")
        if size < 1:
            raise MisuseError("nothing to allocate")
        address = next(self._addresses)
        self._device[address] = np.full(size, 0xCD, np.uint8)
        return address

    def free(self, address: int) -> None:
        self._call("free", may_fail=False)
        self._idle()
        if self._device.pop(address, None) is None:
            raise MisuseError("freed what is not allocated")

    def allocate_host(self, size: int, *, mapped: bool) -> np.ndarray:
        self._call("allocate_host")
        array = np.full(size, 0xCD, np.uint8)
        self._host[array.ctypes.data] = array, mapped
        return array

    def device_address(self, array: np.ndarray) -> int:
        self._call("device_address")
        kept, mapped = self._host[array.ctypes.data]
        if not mapped:
            raise MisuseError("not mapped memory")
        address = next(self._addresses)
        self._device[address] = kept
        return address

    def free_host(self, array: np.ndarray) -> None:
        self._call("free_host", may_fail=False)
        self._idle()
        kept, _ = self._host.pop(array.ctypes.data, (None, False))
        if kept is None:
            raise MisuseError("freed what is not allocated")
        self._device = {address: memory for address, memory in self._device.items() if memory is not kept}
        kept[:] = 0xEE

    def create_stream(self) -> int:
        self._call("create_stream")
        handle = next(self._addresses)
        self._streams[handle] = []
        return handle

    def destroy_stream(self, stream: int) -> None:
        self._call("destroy_stream", may_fail=False)
        if self._work(stream):
            raise MisuseError("destroyed with work in it")
        del self._streams[stream]

    def synchronise(self, stream: int) -> None:
        self._call("synchronise", may_fail=False)
        if stream in self._recording:
            raise MisuseError("synchronised while recording")
        work, self._streams[stream] = self._work(stream), []
        for step in work:
            step()

    def upload(self, address: int, array: np.ndarray, stream: int) -> None:
        self._call("upload")
        self._page_locked(array)
        self.put(stream, lambda: np.copyto(self.memory(address, array.nbytes), array))

    def download(self, array: np.ndarray, address: int, stream: int) -> None:
        self._call("download")
        self._page_locked(array)
        self.put(stream, lambda: np.copyto(array, self.memory(address, array.nbytes)))

    def begin_capture(self, stream: int) -> None:
        self._call("begin_capture")
        if self._work(stream) or stream in self._recording:
            raise MisuseError("capture of a stream that is not idle")
        self._recording[stream] = []

    def end_capture(self, stream: int) -> int:
        self._call("end_capture", may_fail=False)
        work = self._recording.pop(stream, None)
        if work is None:
            raise MisuseError("nothing is recorded")
        if self.no_graphs:
            raise BackendError("the GPU failed", got="CUDA error 900, operation not permitted when stream is capturing")
        handle = next(self._addresses)
        self._graphs[handle] = stream, work
        return handle

    def launch(self, graph: int, stream: int) -> None:
        self._call("launch")
        home, work = self._graphs[graph]
        if home != stream or stream in self._recording:
            raise MisuseError("launched elsewhere than it was recorded for")
        self._work(stream).extend(work)

    def destroy_graph(self, graph: int) -> None:
        self._call("destroy_graph", may_fail=False)
        if self._graphs.pop(graph, None) is None:
            raise MisuseError("destroyed what is none")

    # For who stands in for TensorRT.

    def recording(self, stream: int) -> bool:
        """Whether what is put into a stream is recorded."""
        self._work(stream)
        return stream in self._recording

    def put(self, stream: int, step: Callable[[], None]) -> None:
        """Puts work into a stream."""
        work = self._work(stream)
        self._recording.get(stream, work).append(step)

    def memory(self, address: int, size: int) -> np.ndarray:
        """Device memory at an address, uint8 (size,)."""
        kept = self._device.get(address)
        if kept is None or len(kept) < size:
            raise MisuseError(f"{size} bytes at an address that has not got them")
        return kept[:size]

    @property
    def clean(self) -> bool:
        """Whether everything was given back, and this thread has nothing pushed."""
        left = (self._device, self._host, self._streams, self._recording, self._graphs)
        return not any(left) and not self.shares and not self.depth

    def _work(self, stream: int) -> list[Callable[[], None]]:
        if stream not in self._streams:
            raise MisuseError("no such stream")
        return self._streams[stream]

    def _idle(self) -> None:
        if any(self._streams.values()):
            raise MisuseError("freed while work is under way")

    def _page_locked(self, array: np.ndarray) -> None:
        if not any(np.shares_memory(array, kept) for kept, _ in self._host.values()):
            raise MisuseError("an asynchronous copy needs page-locked memory")

    def _call(self, name: str, *, current: bool = True, may_fail: bool = True) -> None:
        self.calls.append(name)
        if current and not self.depth:
            raise MisuseError(f"{name} without the context")
        if may_fail:
            self.asked.append(name)
            if len(self.asked) - 1 == self.fails:
                raise BackendError("the GPU failed", got=f"{name} was told to")


def host_cuda(gpu: Gpu = DESKTOP) -> Cuda:
    """A GPU that is none; its driver is `.driver`."""
    return Cuda(HostDriver(), gpu)
