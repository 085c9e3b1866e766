"""Reads what the board or the graphics card says of its energy: tegrastats on a Jetson, NVML elsewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

PROGRAM = "tegrastats"
EVERY_MS = 100
# The rails that are all of a board, the first that a line has: one for most boards, a sum on AGX Orin.
_RAILS = (("VDD_IN",), ("VIN",), ("POM_5V_IN",), ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"))


class Meter(Protocol):
    """Counts energy.

    Attributes:
        what: of what the energy is, in words.
        devices: of `open_backend`, whose work it counts; empty for all.
    """

    what: str
    devices: tuple[str, ...]

    def joules(self) -> float:
        """Since some moment; differences count."""
        ...

    def close(self) -> None:
        """Stops counting."""
        ...


def open_meter() -> Meter | None:
    """The one that this machine has; None where nothing tells."""
    for opener in (_tegrastats, _nvml):
        meter = opener()
        if meter is not None:
            return meter
    return None


def board_watts(line: str) -> float | None:
    """What a line of tegrastats says that the whole board takes now; None where it does not say."""
    rails = {name: int(milliwatts) for name, milliwatts in re.findall(r"\b([A-Z][A-Z0-9_]+) (\d+)(?:mW)?/\d+(?:mW)?", line)}
    for wanted in _RAILS:
        if all(name in rails for name in wanted):
            return sum(rails[name] for name in wanted) / 1000
    return None


class Tegrastats:
    """Adds up what tegrastats prints, from a thread of its own.

    Args:
        process: which prints its lines; it is ended by `close`.
    """

    what = "the whole board"
    devices: tuple[str, ...] = ()

    def __init__(self, process: subprocess.Popen[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._process, self._clock = process, clock
        self._joules, self._watts, self._since = 0.0, 0.0, clock()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def joules(self) -> float:
        """Up to now; between two lines the power is the last line's."""
        with self._lock:
            self._add()
            return self._joules

    def close(self) -> None:
        """Ends the program."""
        self._process.terminate()
        with self._process:
            self._thread.join()

    def _add(self) -> None:
        now = self._clock()
        self._joules += self._watts * (now - self._since)
        self._since = now

    def _read(self) -> None:
        for line in self._process.stdout or ():
            watts = board_watts(line)
            if watts is not None:
                with self._lock:
                    self._add()
                    self._watts = watts


class Nvml:
    """What the first NVIDIA graphics card has counted since its driver was loaded.

    Args:
        nvml: the module pynvml, of the package nvidia-ml-py, initialized.
    """

    what = "the graphics card alone"
    devices: tuple[str, ...] = ("cuda", "tensorrt")  # beside the others it idles

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._card = nvml.nvmlDeviceGetHandleByIndex(0)
        self.joules()  # cards before Volta do not count

    def joules(self) -> float:
        """Since the driver was loaded."""
        return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._card)) / 1000

    def close(self) -> None:
        """Gives NVML back."""
        self._nvml.nvmlShutdown()


def _tegrastats() -> Meter | None:
    path = shutil.which(PROGRAM)
    if path is None:
        return None
    try:
        process = subprocess.Popen([path, "--interval", str(EVERY_MS)], stdout=subprocess.PIPE, text=True)  # noqa: S603
    except OSError:
        return None
    said = process.stdout.readline() if process.stdout else ""
    if board_watts(said) is None:
        process.kill()
        with process:
            return None
    return Tegrastats(process)


def _nvml() -> Meter | None:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return Nvml(pynvml)
    except pynvml.NVMLError:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
        return None
