from __future__ import annotations

import io
import itertools
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from sp_edge_runtime.bench import energy
from sp_edge_runtime.bench.energy import Nvml, Tegrastats, board_watts, open_meter

NANO = (
    "11-30-2026 10:00:00 RAM 2448/7620MB (lfb 2x1MB) CPU [1%@729,0%@729] cpu@50.5C VDD_IN 4513mW/4500mW "
    "VDD_CPU_GPU_CV 530mW/530mW VDD_SOC 1464mW/1464mW"
)
AGX = "RAM 1/2MB VDD_GPU_SOC 2400mW/2400mW VDD_CPU_CV 400mW/400mW VIN_SYS_5V0 3200mW/3200mW VDDQ_VDD2_1V8AO 600mW/600mW"


def test_the_power_of_the_whole_board_is_read() -> None:
    assert board_watts(NANO) == 4.513
    assert board_watts(AGX) == 6.0
    assert board_watts("RAM 1/2MB POM_5V_IN 2100/2100 POM_5V_GPU 0/0") == 2.1
    assert board_watts("RAM 2448/7620MB SWAP 0/3810MB") is None


class _Process:
    """Prints lines, and is ended."""

    def __init__(self, *lines: str) -> None:
        self.stdout = io.StringIO("".join(f"{line}\n" for line in lines))
        self.ended = False

    def terminate(self) -> None:
        self.ended = True

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_power_is_added_up_over_time() -> None:
    process: Any = _Process("RAM 1/2MB VDD_IN 2000mW/2000mW", "no figures", "RAM 1/2MB VDD_IN 4000mW/4000mW")
    meter = Tegrastats(process, clock=itertools.count().__next__)
    meter._thread.join(10)
    # Begun at 0, 2 W from 1 on, 4 W from 2 on.
    assert meter.joules() == 2 + 4
    assert meter.joules() == 2 + 4 + 4
    meter.close()
    assert process.ended


def test_tegrastats_is_a_program_that_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "tegrastats"
    program.write_text(f"#!/bin/sh\necho '{NANO}'\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    meter = open_meter()
    assert isinstance(meter, Tegrastats)
    meter.close()
    program.write_text("#!/bin/sh\necho 'no figures'\nexec sleep 60\n")
    monkeypatch.setattr(energy, "_nvml", lambda: None)
    assert open_meter() is None


def nvml(*, counts: bool, card: bool = True) -> types.ModuleType:
    module = types.ModuleType("pynvml")
    module.shut = 0  # type: ignore[attr-defined]

    class NVMLError(Exception):
        pass

    def shut() -> None:
        module.shut += 1  # type: ignore[attr-defined]

    def energy_of(_card: int) -> int:
        if not counts:
            raise NVMLError
        return 2500

    def init() -> None:
        if not card:
            raise NVMLError

    parts = {"NVMLError": NVMLError, "nvmlInit": init, "nvmlShutdown": shut}
    parts |= {"nvmlDeviceGetHandleByIndex": lambda n: n, "nvmlDeviceGetTotalEnergyConsumption": energy_of}
    vars(module).update(parts)
    return module


def test_a_graphics_card_counts_by_itself_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "_tegrastats", lambda: None)
    module = nvml(counts=True)
    monkeypatch.setitem(sys.modules, "pynvml", module)
    meter = open_meter()
    assert isinstance(meter, Nvml)
    assert meter.joules() == 2.5
    assert meter.devices == ("cuda", "tensorrt")
    meter.close()
    assert module.shut == 1
    for other in (nvml(counts=False), nvml(counts=True, card=False)):
        monkeypatch.setitem(sys.modules, "pynvml", other)
        assert open_meter() is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert open_meter() is None


def test_a_program_that_cannot_be_started_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy.shutil, "which", lambda name: str(tmp_path / "gone"))
    assert energy._tegrastats() is None
    assert subprocess  # the real one was asked
