"""How a builder's process is started, heard and ended. What it builds: test_engine_build.py."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import tensorrt_builder
import toy
from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.manifest import file_entries
from sp_edge.engines.device import Gpu
from sp_edge.engines.plans import Plan, find_plan, plans_of
from sp_edge.errors import BackendError, BundleError, ExportError, MissingExtraError, SettingsError
from sp_edge_calibration import session
from sp_edge_export.engines import engine
from sp_edge_export.engines.engine import EngineOptions, build_engine, check_memory, load_tensorrt, plans_for

Build = Callable[..., tuple[Plan, bool]]


def found(folder: Path) -> list[str]:
    """All files that building left, but its lock."""
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock") if folder.exists() else []


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """`stand_in('hangs')` makes builders import tests/tensorrt_builder.py in that mode; gives where it leaves its notes."""
    place = tmp_path / "modules"
    place.mkdir()
    shutil.copy(tensorrt_builder.__file__, place / "tensorrt.py")
    monkeypatch.syspath_prepend(place)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    notes = tmp_path / "notes"
    monkeypatch.setenv("STAND_IN_NOTES", str(notes))

    def set_mode(mode: str) -> Path:
        monkeypatch.setenv("STAND_IN", mode)
        return notes

    return set_mode


@pytest.fixture
def build(toy_bundle: Path, tmp_path: Path) -> Build:
    bundle = Bundle.load(toy_bundle)
    return lambda **changes: build_engine(bundle, "query", EngineOptions(), folder=tmp_path / "engines", **changes)


# --- the process ---


def test_a_builder_is_a_process_of_its_own_without_torch(stand_in: Callable[[str], Path], build: Build) -> None:
    notes = stand_in("chatty")
    told: list[tuple[str, int, int]] = []
    plan, built = build(progress=lambda *step: told.append(step))
    assert built
    assert plan.read() == b"a plan"
    assert plan.sidecar.device.version == "10.3.0"
    assert told == [("outer", 0, 2)]
    pid, *modules = notes.read_text().splitlines()
    assert int(pid) != os.getpid()
    assert "sp_edge_export.engines.build" in modules
    assert not {"torch", "onnx", "onnxruntime", "timm"} & set(modules)


def test_what_was_built_is_not_built_again(stand_in: Callable[[str], Path], build: Build) -> None:
    notes = stand_in("")
    first, built = build()
    notes.unlink()
    again, built_again = build()
    assert (built, built_again) == (True, False)
    assert again == first
    assert not notes.exists()
    first.path.write_bytes(b"damage")
    assert build()[1]
    assert Plan.load(first.path).read() == b"a plan"


def test_two_builders_of_one_plan_take_turns(stand_in: Callable[[str], Path], build: Build) -> None:
    stand_in("")
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(build()[1])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False, False, True]


@pytest.mark.parametrize(
    ("mode", "words", "next_step"),
    [
        ("killed", "ended by SIGKILL", "lower --workspace"),
        ("crashes", "ended by SIGABRT; double free", ""),
        ("nothing", "could not build query.onnx", ""),
        ("no start", "cannot start its builder[\\s\\S]*returned nullptr", "--target rtx builds without a GPU"),
        ("memory", "too little memory", "add swap"),
    ],
)
def test_a_builder_that_fails(
    stand_in: Callable[[str], Path], build: Build, tmp_path: Path, mode: str, words: str, next_step: str
) -> None:
    stand_in(mode)
    with pytest.raises(ExportError, match=words) as raised:
        build()
    assert next_step in raised.value.next_step
    assert raised.value.exit_code == 1
    assert found(tmp_path / "engines") == []


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z"
    except OSError:
        return True


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def test_ctrl_c_in_the_middle_of_a_build(stand_in: Callable[[str], Path], build: Build, tmp_path: Path) -> None:
    notes = stand_in("hangs")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(progress=stop)
    assert gone(int(notes.read_text().splitlines()[0]))
    assert found(tmp_path / "engines") == []


PARENT = """
import sys
from pathlib import Path
from sp_edge.bundle.bundle import Bundle
from sp_edge_export.engines.engine import EngineOptions, build_engine
build_engine(Bundle.load(Path(sys.argv[1])), "query", EngineOptions(), folder=Path(sys.argv[2]))
"""


def test_a_builder_ends_with_the_process_that_asked(stand_in: Callable[[str], Path], toy_bundle: Path, tmp_path: Path) -> None:
    notes = stand_in("hangs")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(toy_bundle), str(tmp_path / "engines")], env=env)
    wait_until(lambda: notes.exists() and notes.read_text() != "")
    builder = int(notes.read_text().splitlines()[0])
    assert not gone(builder)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until(lambda: gone(builder))
    assert found(tmp_path / "engines") == []


def test_a_folder_that_cannot_be_written(stand_in: Callable[[str], Path], toy_bundle: Path, tmp_path: Path) -> None:
    stand_in("")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ExportError, match="cannot write the engine") as raised:
        build_engine(Bundle.load(toy_bundle), "query", EngineOptions(), folder=tmp_path / "file")
    assert raised.value.next_step == "--engines DIR"


# --- real builders ---


@pytest.mark.parametrize("flavour", ["tensorrt", "tensorrt_rtx"])
def test_a_real_builder(toy_bundle: Path, tmp_path: Path, flavour: str) -> None:
    pytest.importorskip(flavour)
    bundle, before = Bundle.load(toy_bundle), file_entries(toy_bundle)
    plan, built = build_engine(bundle, "query", EngineOptions(flavour, optimization_level=0), folder=tmp_path)
    assert built
    assert plans_of(bundle, tmp_path) == [plan.path]
    assert len(plan.read()) == plan.sidecar.plan_bytes > 1000
    assert file_entries(toy_bundle) == before
    if plan.sidecar.device.gpu is not None:
        assert find_plan(bundle, "query", "fp32", 1, plan.sidecar.device, folder=tmp_path) == plan


def external(place: str) -> onnx.ModelProto:
    model = toy.graph("query")
    model.graph.initializer.remove(next(tensor for tensor in model.graph.initializer if tensor.name == "one"))
    outside = model.graph.initializer.add(name="one", data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    entry = outside.external_data.add()
    entry.key, entry.value = "location", place
    return model


@pytest.mark.parametrize("place", ["weights.bin", "../weights.bin", "{absolute}"])
def test_a_graph_reads_no_file_beside_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    pytest.importorskip("tensorrt")
    folder = toy.make_bundle(tmp_path / "toy")
    for where in (tmp_path, folder, tmp_path / "here"):
        where.mkdir(exist_ok=True)
        (where / "weights.bin").write_bytes(np.float32(1).tobytes())
    model = external(place.format(absolute=tmp_path / "weights.bin"))
    (folder / "query.onnx").write_bytes(model.SerializeToString())
    (folder / "weights.bin").unlink()
    toy.reseal(folder)
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ExportError, match=r"query\.onnx has weights outside: one"):
        build_engine(Bundle.load(folder), "query", EngineOptions(), folder=tmp_path / "engines")
    monkeypatch.setattr(session, "check_graph", lambda *_: None)  # as where onnx is not installed
    with pytest.raises(ExportError, match=r"cannot read query\.onnx"):
        build_engine(Bundle.load(folder), "query", EngineOptions(), folder=tmp_path / "engines")
    assert found(tmp_path / "engines") == []


# --- what is refused before ---


def test_a_precision_that_the_bundle_does_not_have(build: Build) -> None:
    with pytest.raises(BundleError, match="no int8 graphs"):
        build(precision="int8")


@pytest.mark.parametrize(
    ("name", "package", "extra"), [("tensorrt", "tensorrt", "tensorrt"), ("tensorrt_rtx", "tensorrt-rtx", "rtx")]
)
def test_a_missing_package_says_how_to_get_it(
    toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str
) -> None:
    monkeypatch.setattr(engine, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=rf"the package {package}\n[\s\S]*pip install 'sp-edge\[{extra}\]'") as raised:
        build_engine(Bundle.load(toy_bundle), "query", EngineOptions(name), folder=tmp_path)
    assert raised.value.exit_code == 2
    assert "--system-site-packages" in str(raised.value)


def test_a_tensorrt_whose_libraries_do_not_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tensorrt.py").write_text("raise OSError('libnvinfer.so.10: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(ExportError, match=r"does not load[\s\S]*libnvinfer.so.10") as raised:
        load_tensorrt("tensorrt")
    assert raised.value.next_step == "sp-edge doctor"


ORIN = Gpu("Orin", "8.7", 8 << 30, integrated=True, cuda="12.6")
GIB = 1 << 30


@pytest.mark.parametrize(
    ("free", "gpu", "enough"),
    [
        (None, None, True),
        (int(1.5 * GIB), None, True),
        (int(1.3 * GIB), None, False),
        (int(1.5 * GIB), ORIN, False),
        (int(3.5 * GIB), ORIN, True),
    ],
)
def test_memory_is_looked_at_first(monkeypatch: pytest.MonkeyPatch, free: int | None, gpu: Gpu | None, enough: bool) -> None:
    # 1 GiB, four copies of a graph of 0.1 GiB, and a workspace of 2 GiB where the GPU shares the host's memory.
    def find() -> Gpu:
        if gpu is None:
            raise BackendError("no NVIDIA GPU can be used")
        return gpu

    monkeypatch.setattr(engine, "free_memory", lambda: free)
    monkeypatch.setattr(engine, "find_gpu", find)
    if enough:
        check_memory(GIB // 10, 2.0)
        return
    with pytest.raises(ExportError, match="too little memory") as raised:
        check_memory(GIB // 10, 2.0)
    assert raised.value.expected == ("3.4 GiB free, swap included" if gpu else "1.4 GiB free, swap included")
    assert "--workspace" in raised.value.next_step


def test_a_stream_gets_a_static_plan_and_enrolment_a_profile() -> None:
    assert plans_for(8) == (("query", 1), ("query", 8), ("support", 8))
    assert plans_for(1) == (("query", 1), ("support", 1))
    for outside in (0, -1, 1025):
        with pytest.raises(SettingsError, match="batch"):
            plans_for(outside)


@pytest.mark.parametrize(
    "change",
    [
        {"flavour": "tensorflow"},
        {"workspace": 0.0},
        {"workspace": -1.0},
        {"workspace": float("nan")},
        {"workspace": float("inf")},
        {"workspace": 1e30},
        {"optimization_level": -1},
        {"optimization_level": 6},
        {"targets": ("8.6",)},
        {"flavour": "tensorrt_rtx", "targets": ("sm86",)},
        {"flavour": "tensorrt_rtx", "targets": ("8.6", "")},
    ],
)
def test_options_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as raised:
        EngineOptions(**change)
    assert raised.value.expected
    assert raised.value.got


def test_options_at_the_edge_are_taken() -> None:
    EngineOptions("tensorrt_rtx", 1e-3, 5, ("7.5", "12.0"))
    EngineOptions("tensorrt", 1024, 0)
