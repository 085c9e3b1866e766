"""Says what this machine is to TensorRT: its GPU, driver, system and, on a Jetson, its Linux for Tegra (L4T)."""

from __future__ import annotations

import ctypes
import os
import platform
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sp_edge.errors import BackendError

# Attributes of a device in CUDA's driver API (CUdevice_attribute).
_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18


@dataclass(frozen=True)
class Gpu:
    """The first NVIDIA GPU that CUDA shows; CUDA_VISIBLE_DEVICES counts.

    Attributes:
        name: such as 'Orin'.
        compute_capability: such as '8.7'.
        memory: bytes in all.
        integrated: it shares the host's memory, as on a Jetson.
        cuda: newest CUDA that the driver knows, such as '12.6'.
    """

    name: str
    compute_capability: str
    memory: int
    integrated: bool
    cuda: str


@dataclass(frozen=True)
class Device:
    """What an engine was built on, or is to run on.

    Attributes:
        flavour: tensorrt or tensorrt_rtx.
        version: of that package, in full.
        compute_capability: of the GPU; None without one.
        gpu: its name; None without one.
        driver: NVIDIA's driver, such as '580.65.06'; None where nothing says.
        cuda: newest CUDA that the driver knows; None without a GPU.
        l4t: Linux for Tegra, such as '36.4.3'; None where this is no Jetson.
        system: such as 'Linux'.
        machine: such as 'aarch64'.
    """

    flavour: str
    version: str
    compute_capability: str | None
    gpu: str | None
    driver: str | None
    cuda: str | None
    l4t: str | None
    system: str
    machine: str

    @classmethod
    def here(cls, flavour: str, version: str) -> Device:
        """This machine, with the TensorRT that the caller has imported."""
        capability = name = cuda = None
        with suppress(BackendError):
            gpu = find_gpu()
            capability, name, cuda = gpu.compute_capability, gpu.name, gpu.cuda
        system, machine = platform.system(), platform.machine()
        return cls(flavour, version, capability, name, driver_version(), cuda, l4t_release(), system, machine)


def usable_cores() -> int:
    """How many of the processor's cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def find_gpu(load: Callable[[str], Any] = ctypes.CDLL) -> Gpu:
    """Asks the driver for the first GPU; no context is made and no memory taken.

    Args:
        load: opens a shared library by its name.

    Raises:
        BackendError: there is no driver, or no GPU that it can use; `got` has the reason.
    """
    call = driver_calls(load)
    number, handle, name, memory = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t()
    call("cuInit", 0)
    call("cuDeviceGet", ctypes.byref(handle), 0)
    call("cuDeviceGetName", name, len(name), handle)
    call("cuDeviceTotalMem_v2", ctypes.byref(memory), handle)
    found = []
    for attribute in (_MAJOR, _MINOR, _INTEGRATED):
        call("cuDeviceGetAttribute", ctypes.byref(number), attribute, handle)
        found.append(number.value)
    call("cuDriverGetVersion", ctypes.byref(number))
    major, minor, integrated = found
    return Gpu(
        name=name.value.decode(errors="replace"),
        compute_capability=f"{major}.{minor}",
        memory=memory.value,
        integrated=bool(integrated),
        cuda=f"{number.value // 1000}.{number.value % 1000 // 10}",
    )


def free_gpu_memory(load: Callable[[str], Any] = ctypes.CDLL) -> int:
    """Bytes that are free on the first GPU; for a moment its primary context is held.

    Raises:
        BackendError: there is no GPU that can be used.
    """
    call = driver_calls(load)
    handle, context = ctypes.c_int(), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    call("cuInit", 0)
    call("cuDeviceGet", ctypes.byref(handle), 0)
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), handle)
    try:
        call("cuCtxPushCurrent_v2", context)
        call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        call("cuCtxPopCurrent_v2", ctypes.byref(context))
    finally:
        call("cuDevicePrimaryCtxRelease_v2", handle)
    return free.value


def driver_calls(load: Callable[[str], Any]) -> Callable[..., None]:
    """What calls a function of CUDA's driver API by its name, and checks what it returns.

    Raises:
        BackendError: there is no driver; later, from a call, that it failed.
    """
    try:
        cuda = load("libcuda.so.1")
    except OSError as cause:
        raise BackendError("no NVIDIA GPU can be used", expected="NVIDIA's driver", got="no libcuda.so.1") from cause

    def call(name: str, *arguments: Any) -> None:
        status = getattr(cuda, name)(*arguments)
        if status != 0:
            text = ctypes.c_char_p()
            cuda.cuGetErrorString(status, ctypes.byref(text))
            said = (text.value or b"unknown error").decode(errors="replace")
            raise BackendError("no NVIDIA GPU can be used", expected=f"{name} to succeed", got=f"CUDA error {status}, {said}")

    return call


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes of the host's memory that a program can still have, swap included; None where nothing says."""
    said = read_text(root / "proc/meminfo") or ""
    found = dict(re.findall(r"^(MemAvailable|SwapFree):\s+(\d+) kB$", said, re.MULTILINE))
    return 1024 * (int(found["MemAvailable"]) + int(found.get("SwapFree", 0))) if "MemAvailable" in found else None


def driver_version(root: Path = Path("/")) -> str | None:
    """Version of NVIDIA's kernel driver, below another root in tests; None where there is none."""
    said = read_text(root / "proc/driver/nvidia/version") or ""
    found = re.search(r"^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)*)\s", said, re.MULTILINE)
    return found[1] if found else None


def l4t_release(root: Path = Path("/")) -> str | None:
    """Release of Linux for Tegra, such as '36.4.3'; None where this is no Jetson."""
    said = read_text(root / "etc/nv_tegra_release") or ""
    found = re.search(r"# R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)", said)
    return f"{found[1]}.{found[2]}" if found else None


def read_text(path: Path) -> str | None:
    """A small file's text; None where it cannot be read."""
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return None
