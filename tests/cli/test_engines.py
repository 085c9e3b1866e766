"""`sp-edge export BUNDLE --format engine`, and what `sp-edge verify` says of engines."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tensorrt_builder
import toy
from sp_edge.bundle.bundle import Bundle
from sp_edge.cli import cli
from sp_edge.cli.common import run
from sp_edge.engines.plans import find_plan, plans_of
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
    """Where tests/tensorrt_builder.py is called tensorrt."""
    place = tmp_path / "modules"
    place.mkdir()
    shutil.copy(tensorrt_builder.__file__, place / "tensorrt.py")
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
    assert ran.returncode == 0, ran.stderr
    bundle = Bundle.load(own)
    plans = plans_of(bundle, tmp_path / "engines")
    assert [plan.name.split(".tensorrt")[0] for plan in plans] == ["query.fp32.n1", "query.fp32.n8", "support.fp32.n8"]
    for line, plan in zip(sorted(ran.stdout.splitlines()), plans, strict=True):
        assert re.fullmatch(rf"engine: {re.escape(str(plan))}(: [0-9.]+ ms for [18], cosine .* to its graph)?", line)


def test_engines_are_built_once(stand_in: Path, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # The stand-in knows the query graph alone: the support graph is refused, after the query's engines.
    command = ["export", str(own), "--format", "engine", "--engines", str(tmp_path / "engines"), "--batch", "1"]
    assert run(cli, command) == 1
    assert run(cli, command) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("query.fp32.n1.")]
    assert [line.partition(": ")[2] for line in said] == ["built", "was built before"]


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
