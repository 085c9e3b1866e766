"""`sp-edge export BUNDLE --format engine`, and what `sp-edge verify` says of engines."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import tensorrt_stand_in
import toy
from sp_edge.bundle.bundle import Bundle
from sp_edge.cli import cli
from sp_edge.cli.common import run
from sp_edge.engines.plans import Plan, find_plan, plans_of
from sp_edge.engines.sidecar import Latency, Parity
from toy_plans import DEVICE, put
from without_training import BLOCK

WITHOUT_TORCH = (
    BLOCK
    + """
from sp_edge.cli import main
main()
"""
)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where tests/tensorrt_stand_in.py is called tensorrt."""
    place = tmp_path / "modules"
    place.mkdir()
    shutil.copy(tensorrt_stand_in.__file__, place / "tensorrt.py")
    monkeypatch.syspath_prepend(place)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    return place


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return toy.make_bundle(tmp_path / "model.spedge")


def test_a_device_builds_engines_without_torch_and_onnx(own: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", WITHOUT_TORCH, "export", str(own), "--format", "engine", "--optimization-level", "0"]
    command += ["--engines", str(tmp_path / "engines")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert (ran.returncode, ran.stderr) == (0, "")
    bundle = Bundle.load(own)
    plans = plans_of(bundle, tmp_path / "engines")
    assert [plan.name.split(".tensorrt")[0] for plan in plans] == ["query.fp32.n1", "query.fp32.n8", "support.fp32.n8"]
    *built, measured = ran.stdout.splitlines()
    assert sorted(built) == [f"engine: {plan}" for plan in plans]
    assert measured.startswith(("not measured: ", "support.fp32.n8: "))


def test_engines_are_built_once(stand_in: Path, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # The stand-in knows the query graph alone: the support graph is refused, after the query's engines.
    command = ["export", str(own), "--format", "engine", "--engines", str(tmp_path / "engines"), "--batch", "1"]
    assert run(cli, command) == 1
    assert run(cli, command) == 1
    first, again = capsys.readouterr().out.splitlines()
    assert first.startswith("engine: ")
    assert again == f"{first} (was built before)"


class Backend:
    """Runs the toy's graphs; each run of int8 takes `slower` times as long as one of fp16."""

    def __enter__(self) -> Backend:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[dict[str, float]], list[str]]:
    """`timed({'int8': 2.0, 'fp16': 1.0})` makes engines that run, in so many ms; gives the precisions that were measured."""
    measured: list[str] = []

    def prepare(times: dict[str, float]) -> list[str]:
        def build(bundle: Bundle, graph: str, _options: object, *, precision: str, max_batch: int, **_: object) -> object:
            names = bundle.manifest.graphs[precision][graph]
            digest, _size = bundle.manifest.files[names]
            path = put(
                bundle, tmp_path, graph=graph, max_batch=max_batch, precision=precision, onnx_file=names, onnx_sha256=digest
            )
            return Plan.load(path), True

        def measure(plan: Plan, _bundle: Bundle, _backend: Backend) -> Plan:
            measured.append(plan.sidecar.precision)
            ms = times[plan.sidecar.precision]
            return Plan(plan.path, replace(plan.sidecar, latency=Latency(ms, ms, 1, 9), parity=Parity(1.0, 1.0, 8)))

        monkeypatch.setattr("sp_edge_export.engines.engine.build_engine", build)
        monkeypatch.setattr("sp_edge_export.engines.measure.measure", measure)
        runtime = SimpleNamespace(open_tensorrt=lambda *_: Backend())
        monkeypatch.setitem(sys.modules, "sp_edge_runtime.backends.tensorrt_runtime", runtime)
        return measured

    return prepare


@pytest.mark.parametrize(("int8", "force", "code"), [(0.5, False, 0), (2.0, False, 1), (2.0, True, 0)])
def test_slower_int8_is_kept_by_force_alone(
    stand_in: Path,
    tmp_path: Path,
    timed: Callable[[dict[str, float]], list[str]],
    capsys: pytest.CaptureFixture[str],
    int8: float,
    force: bool,
    code: int,
) -> None:
    own = toy.make_bundle(tmp_path / "model.spedge", precisions=("fp32", "fp16", "int8"))
    measured = timed({"int8": int8, "fp16": 1.0})
    assert run(cli, ["export", str(own), "--format", "engine", *(["--force"] if force else [])]) == code
    assert measured == ["int8"] * 3 + ["fp16"] * 3
    said = capsys.readouterr()
    assert "query.int8.n1: " in said.out
    left = [plan.name.split(".")[1] for plan in plans_of(Bundle.load(own), tmp_path)]
    assert left.count("fp16") == 3
    assert left.count("int8") == (0 if code else 3)
    assert ("int8 is slower than fp16 here, 2.00 ms against 1.00 ms; kept" in said.out) == force
    assert ("int8 is slower than fp16 on this GPU" in said.err) == (code == 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--compute-capability", "8.6"], "only TensorRT-RTX builds for other GPUs"),
        (["--workspace", "0"], "out of range"),
        (["--precision", "int8"], "no int8 graphs"),
    ],
)
def test_what_cannot_be_built_is_refused(
    stand_in: Path, own: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(cli, ["export", str(own), "--format", "engine", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_verify_says_what_keeps_an_engine_from_fitting(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = Bundle.load(own)
    plan = put(bundle, tmp_path / "engines", DEVICE)
    command = ["verify", str(own), "--engines", str(tmp_path / "engines"), "--json", str(tmp_path / "figures.json")]
    assert run(cli, command) == 0
    assert f"engine {plan.name}: whole, but not for this machine: " in capsys.readouterr().out
    (state,) = json.loads((tmp_path / "figures.json").read_text())["engines"]
    assert state["plan"] == str(plan)
    assert state["differences"]
    assert find_plan(bundle, "query", "fp32", 1, DEVICE, folder=tmp_path / "engines").path == plan


def test_verify_refuses_a_damaged_engine(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = put(Bundle.load(own), tmp_path / "engines", DEVICE)
    plan.write_bytes(b"plen")
    assert run(cli, ["verify", str(own), "--engines", str(tmp_path / "engines")]) == 2
    said = capsys.readouterr()
    assert f"engine {plan.name}: damaged" in said.out
    assert "1 of 1 engines are damaged" in said.err
