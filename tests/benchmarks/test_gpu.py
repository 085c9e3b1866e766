from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def gpu(open_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return open_benchmark("gpu")


def test_the_parts_fit_into_one_call(gpu: ModuleType) -> None:
    assert next(iter(gpu.PARTS)) == "machine"
    assert all(seconds <= 150 for _, seconds in gpu.PARTS.values())


def test_a_part_runs_in_a_process_of_its_own(gpu: ModuleType, toy_bundle: Path) -> None:
    part = gpu.run_part("building", toy_bundle, "cpu", 60)
    assert part["found"] == {"built": {}}
    assert part["seconds"] > 0


def test_a_part_that_fails_or_hangs_costs_only_itself(gpu: ModuleType, toy_bundle: Path, tmp_path: Path) -> None:
    failed = gpu.run_part("engines", tmp_path / "nowhere.spedge", "cpu", 60)
    assert failed["failed"] == "ended with 1"
    assert "nowhere.spedge" in "\n".join(failed["said"])
    assert "not done after" in gpu.run_part("machine", toy_bundle, "cpu", 0.01)["failed"]


@pytest.mark.parametrize("end", ["import time; time.sleep(60)", "raise SystemExit(3)"])
def test_what_a_part_started_ends_with_it(gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    noted = tmp_path / "child"
    child = f"import os, pathlib, time; pathlib.Path({str(noted)!r}).write_text(str(os.getpid())); time.sleep(60)"
    program = tmp_path / "part.py"
    program.write_text(
        "import pathlib, subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}])\n"
        f"while not (pathlib.Path({str(noted)!r}).exists() and pathlib.Path({str(noted)!r}).read_text()): time.sleep(0.01)\n"
        f"{end}\n"
    )
    monkeypatch.setattr(gpu, "__file__", str(program))
    began = time.monotonic()
    assert gpu.run_part("training", tmp_path, "cpu", 2.0)["failed"] in ("not done after 2 s", "ended with 3")
    assert time.monotonic() - began < 30
    state = Path(f"/proc/{noted.read_text()}/stat")
    until = time.monotonic() + 10
    while state.exists() and ") Z" not in state.read_text() and time.monotonic() < until:
        time.sleep(0.01)
    assert not state.exists() or ") Z" in state.read_text(), "it goes on"


def test_every_part_gets_its_share_of_what_is_left(
    gpu: ModuleType, toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[float] = []

    def part(name: str, bundle: Path, device: str, seconds: float) -> dict[str, object]:
        given.append(seconds)
        return {"found": {"batches": {"1": {}}} if name == "pytorch" else [], "seconds": 1.0}

    monkeypatch.setattr(gpu, "run_part", part)
    out = tmp_path / "gpu.json"
    monkeypatch.setattr(sys, "argv", ["gpu.py", str(toy_bundle), "--device", "cpu", "--seconds", "100", "--json", str(out)])
    gpu.main()
    assert given == pytest.approx([30, 30, 85, 85, 60, 85, 85, 85], abs=2)
    assert list(json.loads(out.read_text("utf-8"))["parts"]) == list(gpu.PARTS)
    monkeypatch.setattr(sys, "argv", ["gpu.py", str(toy_bundle), "--device", "cpu", "--seconds", "1"])
    gpu.main()
    assert capsys.readouterr().out.count("no time left") == len(gpu.PARTS)


def test_goals_are_told_of_what_was_measured(gpu: ModuleType) -> None:
    assert gpu.goals({"pytorch": {"failed": "no CUDA"}}) == []
    batches = {"1": {"CUDA graph, half": {"median": 0.25}, "eager, float32": {"median": 4.0}}}
    stages = [{"stage": "tune", "ratio": 6.0}]
    assert gpu.goals({"pytorch": {"found": {"batches": batches}}, "training": {"found": stages}}) == [
        ["ms at batch 1, CUDA graph", "0.250", "<= 0.35"],
        ["eager over CUDA graph", "16.0", ">= 8"],
        ["training over the plain loop, tune", "6.0", ">= 5"],
    ]
