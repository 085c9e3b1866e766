"""Needs a TensorRT builder, but no GPU: what is built is not run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

import sp_edge
import toy
from sp_edge.bundle import Bundle, file_entries
from sp_edge.errors import ExportError, MissingExtraError, SettingsError
from sp_edge.files import sha256
from sp_edge.training.checkpoint import Checkpoint
from sp_edge_export.engine import EngineOptions, build_engine, load_tensorrt
from sp_edge_export.export import ExportOptions, export

FLAVOURS = ("tensorrt", "tensorrt_rtx")
EngineOf = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module", params=FLAVOURS)
def flavour(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return str(request.param)


@pytest.fixture(scope="module")
def bundles(
    bundle: Bundle, checkpoint: Checkpoint, images: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Bundle]:
    """A bundle of each precision."""

    def copy(_network: object, _size: int, _dim: int, folder: Path) -> dict[str, Path]:
        files = {graph: folder / f"{graph}.onnx" for graph in ("query", "support")}
        for graph, file in files.items():
            file.write_bytes(bundle.graph(graph, "fp32").read_bytes())
        return files

    made = {"fp16": bundle}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sp_edge_export.export.export_graphs", copy)
        for precision in ("fp32", "int8"):
            options = ExportOptions(precision, max_drop=1, calibration=images)
            made[precision] = export(checkpoint, tmp_path_factory.mktemp(precision) / "b", options, say=lambda _: None)
    return made


@pytest.mark.parametrize("max_batch", [1, 8])
@pytest.mark.parametrize("graph", ["query", "support"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_graph_builds(
    bundles: dict[str, Bundle], tmp_path: Path, flavour: str, precision: str, graph: str, max_batch: int
) -> None:
    bundle = bundles[precision]
    plan = tmp_path / "new folder" / f"{graph}.plan"
    before = file_entries(bundle.path)
    told: list[tuple[str, int, int]] = []
    options = EngineOptions(flavour, max_batch, workspace=0.5, optimization_level=0)
    sidecar = build_engine(bundle, graph, plan, options, progress=lambda *step: told.append(step))

    assert sidecar == json.loads(plan.with_name(plan.name + ".json").read_text("utf-8"))
    assert {p.name for p in plan.parent.iterdir()} == {f"{graph}.plan", f"{graph}.plan.json"}
    assert file_entries(bundle.path) == before
    assert sidecar["plan"] == {"sha256": sha256(plan), "bytes": plan.stat().st_size}
    source = bundle.graph(graph)
    assert sidecar["onnx"] == {"file": source.name, "sha256": sha256(source)}
    assert plan.stat().st_size > 10_000
    assert (sidecar["kind"], sidecar["schema"], sidecar["sp_edge"]) == ("sp-edge engine", 1, sp_edge.__version__)
    assert (sidecar["graph"], sidecar["precision"]) == (graph, precision)
    assert sidecar["bundle"] == bundle.fingerprint
    assert sidecar["preprocess"] == bundle.manifest.preprocess.to_json()
    assert sidecar["builder"] == {
        "flavour": flavour,
        "version": sys.modules[flavour].__version__,
        "max_batch": max_batch,
        "workspace_gib": 0.5,
        "optimization_level": 0,
    }
    image = {"name": "image", "shape": [-1, 64, 64, 3], "dtype": "uint8"}
    prompt = {"name": "prompt", "shape": [-1, 16], "dtype": "float"}
    assert sidecar["inputs"] == ([image] if graph == "query" else [image, prompt])
    assert sidecar["outputs"] == [{"name": "feature", "shape": [-1, 192], "dtype": "float"}]
    assert all(sidecar["host"].values())

    assert told, "a build that says nothing looks as if it hung"
    assert all(0 <= done <= steps for _, done, steps in told)
    first: dict[str, int] = {}
    last: dict[str, tuple[int, int]] = {}
    for phase, done, steps in told:
        first.setdefault(phase, done)
        last[phase] = (done, steps)
    assert set(first.values()) == {0}
    assert all(done == steps for done, steps in last.values())


def test_an_earlier_engine_is_replaced(bundle: Bundle, tmp_path: Path, flavour: str) -> None:
    plan = tmp_path / "query.plan"
    plan.write_bytes(b"old")
    sidecar = build_engine(bundle, "query", plan, EngineOptions(flavour, optimization_level=0))
    assert sidecar["plan"]["sha256"] == sha256(plan)
    assert plan.stat().st_size > 3


def broken(kind: str, file: Path) -> None:
    if kind == "cut off":
        file.write_bytes(file.read_bytes()[:-40])
        return
    values = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 4]),
        helper.make_tensor_value_info("feature", TensorProto.FLOAT, ["N", 4]),
    ]
    node = helper.make_node("Teleport", ["image"], ["feature"], "beam", domain="acme")
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("acme", 1)]
    model = helper.make_model(helper.make_graph([node], "g", values[:1], values[1:]), opset_imports=opsets, ir_version=9)
    onnx.save(model, file)


@pytest.mark.parametrize(("kind", "words"), [("cut off", "parse|ModelProto|deserialize"), ("unknown operator", "Teleport")])
def test_what_tensorrt_cannot_read(tmp_path: Path, flavour: str, kind: str, words: str) -> None:
    folder = toy.make_bundle(tmp_path / "toy")
    broken(kind, folder / "query.onnx")
    toy.reseal(folder)
    plan = tmp_path / "plans" / "query.plan"
    with pytest.raises(ExportError, match=rf"TensorRT .* cannot read query\.onnx[\s\S]*{words}") as caught:
        build_engine(Bundle.load(folder), "query", plan, EngineOptions(flavour))
    assert caught.value.got.strip()
    assert caught.value.exit_code == 1
    assert not plan.parent.exists()


def test_what_tensorrt_cannot_build(tmp_path: Path, flavour: str) -> None:
    # A graph whose batch is fixed to 3 does not fit a profile from 1 to 8.
    folder = toy.make_bundle(tmp_path / "toy")
    onnx.save(toy.graph("query", batch=3), folder / "query.onnx")
    toy.reseal(folder)
    with pytest.raises(ExportError, match=r"query\.onnx") as caught:
        build_engine(Bundle.load(folder), "query", tmp_path / "query.plan", EngineOptions(flavour, max_batch=8))
    assert caught.value.got.strip()
    assert not (tmp_path / "query.plan").exists()


def test_the_precision_is_the_graphs_own(bundles: dict[str, Bundle], tmp_path: Path, flavour: str) -> None:
    options = EngineOptions(flavour, optimization_level=0)
    sizes = {}
    for precision in ("fp32", "fp16"):
        plan = tmp_path / f"{precision}.plan"
        build_engine(bundles[precision], "query", plan, options)
        sizes[precision] = plan.stat().st_size
    assert sizes["fp16"] < 0.75 * sizes["fp32"], "half weights take half the room"


STOPPED = """
import sys
from pathlib import Path
from sp_edge.bundle import Bundle
from sp_edge_export.engine import EngineOptions, build_engine

def stop(*_):
    raise KeyboardInterrupt

try:
    build_engine(Bundle.load(Path(sys.argv[1])), "query", Path(sys.argv[2]), EngineOptions(sys.argv[3]), progress=stop)
except KeyboardInterrupt:
    print("stopped")
"""


def test_ctrl_c_in_the_middle_of_a_build(toy_bundle: Path, tmp_path: Path, flavour: str) -> None:
    command = [sys.executable, "-c", STOPPED, str(toy_bundle), str(tmp_path / "query.plan"), flavour]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "stopped\n"), ran.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"flavour": "tensorflow"},
        {"max_batch": 0},
        {"max_batch": 1025},
        {"workspace": 0.0},
        {"workspace": -1.0},
        {"workspace": float("nan")},
        {"workspace": float("inf")},
        {"workspace": 1e30},
        {"optimization_level": -1},
        {"optimization_level": 6},
    ],
)
def test_options_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as caught:
        EngineOptions(**change)
    assert caught.value.expected
    assert str(next(iter(change.values()))) in caught.value.got


def test_options_at_the_edge_are_taken() -> None:
    EngineOptions("tensorrt_rtx", 1024, 1e-3, 5)
    EngineOptions("tensorrt", 1, 64, 0)


@pytest.mark.parametrize(
    ("name", "package", "extra"), [("tensorrt", "tensorrt", "tensorrt"), ("tensorrt_rtx", "tensorrt-rtx", "rtx")]
)
def test_a_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=rf"the package {package}\n[\s\S]*pip install 'sp-edge\[{extra}\]'") as caught:
        load_tensorrt(name)
    assert caught.value.exit_code == 2
