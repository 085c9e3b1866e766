"""Which engines a device gets, and when int8 is not kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import pytest

import toy
from sp_edge.bundle.bundle import Bundle
from sp_edge.engines.plans import Plan, plans_of
from sp_edge.engines.sidecar import Latency, Parity
from sp_edge.errors import ExportError, PlanError
from sp_edge_export.engines import policy
from sp_edge_export.engines.engine import EngineOptions, Progress
from sp_edge_export.engines.policy import build_engines
from toy_plans import put
from without_training import BLOCK


class Backend:
    def __enter__(self) -> Backend:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        pass


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[dict[str, float]], list[str]]:
    """`timed({'int8': 2.0, 'fp16': 1.0})` makes engines that run, in so many ms; gives the precisions that were measured.

    Engines of a precision without a time do not run here.
    """
    measured: list[str] = []

    def prepare(times: dict[str, float]) -> list[str]:
        def build(
            bundle: Bundle, graph: str, _options: object, *, precision: str, max_batch: int, progress: Progress, **_: object
        ) -> object:
            progress("building", 1, 1)
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

        def open_tensorrt(_bundle: Bundle, precision: str, *_: object) -> Backend:
            if precision not in times:
                raise PlanError("no engine fits", got="no NVIDIA GPU")
            return Backend()

        monkeypatch.setattr(policy, "build_engine", build)
        monkeypatch.setattr(policy, "measure", measure)
        monkeypatch.setattr(policy, "open_tensorrt", open_tensorrt)
        return measured

    return prepare


@pytest.fixture
def eight(tmp_path: Path) -> Bundle:
    return Bundle.load(toy.make_bundle(tmp_path / "model.spedge", precisions=("fp32", "fp16", "int8")))


def left(bundle: Bundle, folder: Path) -> list[str]:
    return [plan.name.split(".")[1] for plan in plans_of(bundle, folder)]


@pytest.mark.parametrize(("int8", "force"), [(0.5, False), (2.0, True)])
def test_int8_is_kept_where_it_is_faster_or_by_force(
    eight: Bundle,
    tmp_path: Path,
    timed: Callable[[dict[str, float]], list[str]],
    log: pytest.LogCaptureFixture,
    int8: float,
    force: bool,
) -> None:
    measured = timed({"int8": int8, "fp16": 1.0})
    engines = build_engines(eight, EngineOptions(), precision="int8", force=force, folder=tmp_path)
    assert measured == ["int8"] * 3 + ["fp16"] * 3
    assert [each.plan.sidecar.precision for each in engines] == ["int8"] * 3
    assert str(engines[0]).endswith(f".plan: {int8:.2f} ms for 1, cosine 1.000000 or better to its graph")
    assert sorted(left(eight, tmp_path)) == ["fp16"] * 3 + ["int8"] * 3
    assert ("int8 is slower than fp16 here, 2.00 ms against 1.00 ms; kept, as asked for" in log.messages) == force


def test_slower_int8_is_not_kept(eight: Bundle, tmp_path: Path, timed: Callable[[dict[str, float]], list[str]]) -> None:
    timed({"int8": 2.0, "fp16": 1.0})
    with pytest.raises(ExportError, match=r"int8 is slower than fp16 on this GPU[\s\S]*2\.00 ms against 1\.00 ms"):
        build_engines(eight, EngineOptions(), precision="int8", folder=tmp_path)
    assert left(eight, tmp_path) == ["fp16"] * 3


def test_engines_that_do_not_run_here_are_kept_and_said_to_be_unmeasured(
    eight: Bundle, tmp_path: Path, timed: Callable[[dict[str, float]], list[str]], log: pytest.LogCaptureFixture
) -> None:
    timed({})
    engines = build_engines(eight, EngineOptions(), precision="int8", folder=tmp_path)
    assert [str(each) for each in engines] == [str(each.plan.path) for each in engines]
    warnings = [record.getMessage() for record in log.records if record.levelname == "WARNING"]
    assert warnings == ["not measured: no NVIDIA GPU", "int8 was not timed against fp16: it is the slower one on some GPUs"]
    assert left(eight, tmp_path) == ["int8"] * 3


def test_every_engine_has_a_bar(eight: Bundle, tmp_path: Path, timed: Callable[[dict[str, float]], list[str]]) -> None:
    seen: list[str] = []

    @contextmanager
    def bar(title: str) -> Iterator[Progress]:
        seen.append(title)
        yield lambda *step: seen.append(str(step))

    timed({})
    build_engines(eight, EngineOptions(), precision="fp16", max_batch=1, folder=tmp_path, bar=bar)
    step = "('building', 1, 1)"
    assert seen == ["building query, batch 1", step, "building support, batch 1", step]


MAIN = "from sp_edge_export.engines.beside import main; main(sys.argv[1])"


def beside(bundle: Path, folder: Path | None) -> subprocess.CompletedProcess[str]:
    """Runs the process that a backend starts beside itself, as a device that has no torch would."""
    job = json.dumps({"bundle": str(bundle), "precision": None, "folder": str(folder) if folder else None})
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, "-c", BLOCK + MAIN, job], capture_output=True, text=True, check=False, env=env)


def test_the_process_beside_ends_with_its_error(tmp_path: Path) -> None:
    ran = beside(tmp_path / "none.spedge", None)
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: ")
    assert "none.spedge" in ran.stderr
    assert "Traceback" not in ran.stderr
