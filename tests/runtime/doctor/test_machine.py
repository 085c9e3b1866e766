from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

import toy
import toy_host
from sp_edge.bundle.bundle import Bundle
from sp_edge_runtime.backends import fastest as measuring
from sp_edge_runtime.backends.trials import Trial
from sp_edge_runtime.doctor import machine as doctor_machine
from sp_edge_runtime.doctor.finding import MISSING, OK, WARN, Host
from sp_edge_runtime.doctor.machine import disk, fastest, gpu, jetson, memory, power, python


def test_python_must_be_3_10(tmp_path: Path) -> None:
    (found,) = python(toy_host.host(tmp_path, python=(3, 9, 18)))
    assert (found.state, found.found, found.needed) == (MISSING, "3.9.18", True)
    (found,) = python(toy_host.host(tmp_path, python=(3, 12, 3)))
    assert (found.state, found.found) == (OK, "3.12.3")


def test_a_jetsons_environment_must_see_jetpack(tmp_path: Path) -> None:
    assert [found.state for found in python(toy_host.jetson(tmp_path))] == [OK]
    closed = {"env/pyvenv.cfg": "home = /usr/bin\ninclude-system-site-packages = false\n"}
    (found,) = python(toy_host.jetson(tmp_path, files=closed))
    assert found.state == WARN
    assert f"python3 -m venv --system-site-packages {tmp_path / 'env'}" in found.remedy
    (found,) = python(toy_host.host(tmp_path / "desktop", files=closed))
    assert found.state == OK


def release(major: int, minor: str) -> dict[str, str]:
    return {"etc/nv_tegra_release": f"# R{major} (release), REVISION: {minor}, GCID: 1, BOARD: generic\n"}


@pytest.mark.parametrize(
    ("files", "programs", "state", "words", "remedy"),
    [
        ({}, {}, OK, "Developer Kit Super, JetPack 6.2, L4T 36.4.3", ""),
        (release(38, "2.0"), {"dpkg-query": "7.0-b128"}, OK, "JetPack 7.0-b128, L4T 38.2.0", ""),
        ({}, {"dpkg-query": ""}, WARN, "JetPack 6, L4T 36.4.3, not all of JetPack", "sudo apt-get install nvidia-jetpack"),
        (release(39, "2.0"), {"dpkg-query": ""}, WARN, "JetPack 7.2, L4T 39.2.0", "nvidia-jetpack"),
        (release(36, "3.0"), {}, WARN, "L4T 36.3.0", "JetPack 6.1 or newer"),
        (release(35, "4.1"), {"dpkg-query": "5.1.2-b104"}, MISSING, "L4T 35.4.1", "flash JetPack 6.1 or newer"),
    ],
)
def test_jetpack(tmp_path: Path, files: dict[str, str], programs: dict[str, str], state: str, words: str, remedy: str) -> None:
    (found,) = jetson(toy_host.jetson(tmp_path, files=files, programs=programs))
    assert found.state == state
    assert words in found.found
    assert remedy in found.remedy
    assert found.found.startswith("NVIDIA Jetson Orin Nano")


def test_elsewhere_there_is_no_jetson_and_no_power_mode(tmp_path: Path) -> None:
    desktop = toy_host.host(tmp_path, gpu=toy_host.RTX)
    assert list(jetson(desktop)) == []
    assert list(power(desktop)) == []


def test_the_gpu(tmp_path: Path) -> None:
    (found,) = gpu(toy_host.jetson(tmp_path / "orin"))
    assert found.found == "Orin, compute capability 8.7, 8.0 GiB shared with the host, CUDA 12.6, driver 540.4.0"
    (found,) = gpu(toy_host.host(tmp_path / "desktop", gpu=toy_host.RTX))
    assert found.found == "NVIDIA GeForce RTX 4090, compute capability 8.9, 24.0 GiB, CUDA 13.0"
    (found,) = gpu(toy_host.jetson(tmp_path / "container", gpu=None))
    assert (found.state, found.found) == (MISSING, "no libcuda.so.1")
    assert "--runtime nvidia" in found.remedy
    (found,) = gpu(toy_host.host(tmp_path / "none"))
    assert "install its driver" in found.remedy


@pytest.mark.parametrize(("available", "swap", "state"), [(3 << 20, 0, OK), (1 << 20, 1 << 20, OK), (1 << 20, 1 << 19, WARN)])
def test_memory_counts_swap(tmp_path: Path, available: int, swap: int, state: str) -> None:
    files = {"proc/meminfo": f"MemTotal: 9 kB\nMemAvailable:    {available} kB\nSwapFree:   {swap} kB\n"}
    (found,) = memory(toy_host.jetson(tmp_path, files=files))
    assert (found.state, found.found) == (state, f"{(available + swap) / (1 << 20):.1f} GiB free, swap included")
    assert bool(found.remedy) == (state == WARN)


def test_memory_that_nothing_tells_of(tmp_path: Path) -> None:
    assert list(memory(toy_host.host(tmp_path))) == []


@pytest.mark.parametrize(("free", "state"), [(5 << 30, OK), (1 << 29, WARN)])
def test_room_for_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: str) -> None:
    monkeypatch.setattr(doctor_machine, "default_folder", lambda: tmp_path / "not" / "yet" / "there")
    asked: list[Path] = []
    monkeypatch.setattr(doctor_machine.shutil, "disk_usage", lambda path: asked.append(path) or SimpleNamespace(free=free))
    (found,) = disk(toy_host.host(tmp_path))
    assert found.state == state
    assert asked == [tmp_path]


@pytest.mark.parametrize(
    ("said", "state", "remedy"),
    [
        ("NV Power Mode: MAXN_SUPER\n2\n", OK, ""),
        ("NV Power Mode: 15W\n0\n", WARN, "sudo nvpmodel -m 2 "),
        ("NV Fan Mode:quiet\nNV Power Mode: MODE_25W\n1\n", WARN, "sudo nvpmodel -m 2 "),
        ("NVPM ERROR: Error opening /var/lib/nvpmodel/status", WARN, "sudo nvpmodel -q"),
    ],
)
def test_the_power_mode_and_the_number_of_the_fastest(tmp_path: Path, said: str, state: str, remedy: str) -> None:
    (found,) = power(toy_host.jetson(tmp_path, programs={"nvpmodel": said}))
    assert found.state == state
    assert found.remedy.startswith(remedy)


def test_the_fastest_mode_of_an_agx_is_its_own(tmp_path: Path) -> None:
    files = {"etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=2 NAME=MODE_30W >\n"}
    (found,) = power(toy_host.jetson(tmp_path, files=files, programs={"nvpmodel": "NV Power Mode: MODE_30W\n2\n"}))
    assert found.remedy.startswith("sudo nvpmodel -m 0 ")


def test_what_runs_fastest_is_told_of_the_bundles_that_were_measured_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here() -> Host:
        return toy_host.host(tmp_path, modules={"sp_edge_runtime.backends.fastest": f"a library\n{measuring.told(3)}"})

    monkeypatch.setattr(measuring, "cache_folder", lambda name, error, *, next_step: tmp_path / name)
    assert list(fastest(here())) == [], "nothing was measured"
    slow, quick = Trial("cpu", "fp32", 9.0, 1.0), Trial("openvino", "int8", 3.25, 0.98765)
    bundle = Bundle.load(toy.make_bundle(tmp_path / "bundle"))
    measuring._remember(tmp_path / "fastest/1.json", bundle, [slow, quick, Trial("openvino", "bf16", why="no bf16")])
    (found,) = fastest(here())
    assert (found.name, found.state) == ("fastest", OK)
    assert found.found == (
        f"{bundle.path}: OpenVINO int8 (3.2 ms, cosine 0.9877); "
        "not ONNX Runtime fp32 (9.0 ms, cosine 1.0000), OpenVINO bf16 (no bf16)"
    )
    monkeypatch.setattr(measuring, "openvino_version", lambda: "2027.1")
    assert list(fastest(here())) == [], "of another machine, or of other software"


def test_the_fastest_is_asked_in_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise RuntimeError('a broken installation')")
    monkeypatch.syspath_prepend(tmp_path)
    assert list(fastest(Host())) == []
    (tmp_path / "onnxruntime.py").unlink()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert list(fastest(Host())) == []
