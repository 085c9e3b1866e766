from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pytest

from sp_edge.engines import device
from sp_edge.engines.device import Device, Gpu, driver_version, find_gpu, l4t_release
from sp_edge.errors import BackendError

# As the files stand on the machines named; the versions are of JetPack 6.2 and 7.0 and of a desktop's driver.
ORIN = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025\n"
THOR = "# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64, DATE: Fri Aug 22 00:55:42 UTC 2025\n"
DESKTOP = """NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024
GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)
"""
OPEN = """NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build  (buildbrain@mobile-u64)
GCC version:  collect2: error: ld returned 1 exit status
"""


class Cuda:
    """The driver's library, of an Orin; a call named in `failing` returns its status."""

    def __init__(self, **failing: int) -> None:
        self.failing = failing

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.failing.get(name) or getattr(self, f"_{name}")(*arguments) or 0

    def _cuInit(self, flags: int) -> None:  # noqa: N802 - CUDA's own names
        assert flags == 0

    def _cuDeviceGet(self, handle: Any, ordinal: int) -> None:  # noqa: N802
        assert ordinal == 0
        handle._obj.value = 5

    def _cuDeviceGetName(self, name: Any, size: int, handle: Any) -> None:  # noqa: N802
        assert (size, handle.value) == (256, 5)
        name.value = b"Orin"

    def _cuDeviceTotalMem_v2(self, memory: Any, handle: Any) -> None:  # noqa: N802
        memory._obj.value = 8_000_000_000

    def _cuDeviceGetAttribute(self, number: Any, attribute: int, handle: Any) -> None:  # noqa: N802
        number._obj.value = {75: 8, 76: 7, 18: 1}[attribute]

    def _cuDriverGetVersion(self, number: Any) -> None:  # noqa: N802
        number._obj.value = 12060

    def _cuGetErrorString(self, status: int, text: Any) -> None:  # noqa: N802
        text._obj.value = {100: b"no CUDA-capable device is detected"}.get(status)


def test_the_first_gpu_is_described() -> None:
    asked: list[str] = []

    def load(name: str) -> Cuda:
        asked.append(name)
        return Cuda()

    assert find_gpu(load) == Gpu("Orin", "8.7", 8_000_000_000, integrated=True, cuda="12.6")
    assert asked == ["libcuda.so.1"]


@pytest.mark.parametrize(("status", "words"), [(100, "no CUDA-capable device is detected"), (999, "unknown error")])
@pytest.mark.parametrize("call", ["cuInit", "cuDeviceGet", "cuDeviceGetName", "cuDeviceGetAttribute", "cuDriverGetVersion"])
def test_what_the_driver_refuses_is_told(call: str, status: int, words: str) -> None:
    with pytest.raises(BackendError, match="no NVIDIA GPU") as raised:
        find_gpu(lambda _: Cuda(**{call: status}))
    assert raised.value.got == f"CUDA error {status}, {words}"
    assert call in raised.value.expected


def test_without_a_driver() -> None:
    def load(name: str) -> Any:
        return ctypes.CDLL(f"not installed {name}")

    with pytest.raises(BackendError, match=r"no libcuda\.so\.1"):
        find_gpu(load)


def write(root: Path, name: str, text: str) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.parametrize(("text", "release"), [(ORIN, "36.4.3"), (THOR, "38.2.0"), ("", None), ("# R36\n", None)])
def test_the_jetsons_release(tmp_path: Path, text: str, release: str | None) -> None:
    write(tmp_path, "etc/nv_tegra_release", text)
    assert l4t_release(tmp_path) == release


@pytest.mark.parametrize(
    ("text", "version"), [(DESKTOP, "550.54.15"), (OPEN, "540.4.0"), ("", None), ("NVRM version:\n", None)]
)
def test_the_drivers_version(tmp_path: Path, text: str, version: str | None) -> None:
    write(tmp_path, "proc/driver/nvidia/version", text)
    assert driver_version(tmp_path) == version


def test_elsewhere_nothing_is_made_up(tmp_path: Path) -> None:
    assert l4t_release(tmp_path) is None
    assert driver_version(tmp_path) is None
    (tmp_path / "etc" / "nv_tegra_release").mkdir(parents=True)
    assert l4t_release(tmp_path) is None


def test_this_machine_with_and_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "find_gpu", lambda: Gpu("Orin", "8.7", 8, integrated=True, cuda="12.6"))
    here = Device.here("tensorrt", "10.3.0")
    assert (here.flavour, here.version, here.gpu, here.compute_capability, here.cuda) == (
        "tensorrt",
        "10.3.0",
        "Orin",
        "8.7",
        "12.6",
    )
    assert here.system
    assert here.machine

    def none() -> Gpu:
        raise BackendError("no NVIDIA GPU can be used")

    monkeypatch.setattr(device, "find_gpu", none)
    without = Device.here("tensorrt", "10.3.0")
    assert (without.gpu, without.compute_capability, without.cuda) == (None, None, None)
    assert without.machine == here.machine
