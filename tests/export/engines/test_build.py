"""Needs a TensorRT builder, but no GPU: what is built is not run. Where a GPU is needed, a stand-in plays TensorRT."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

import sp_edge
import tensorrt_builder
import toy
from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.manifest import Manifest, file_entries, write_manifest
from sp_edge.engines.device import Device
from sp_edge.engines.plans import Plan, sidecar_of
from sp_edge.errors import BundleError, ExportError
from sp_edge.files import read_json, sha256
from sp_edge.model import PromptedPlaces, build_network
from sp_edge.preprocess import Preprocess
from sp_edge.settings.settings import ModelSettings
from sp_edge.training.checkpoint import Checkpoint
from sp_edge_calibration.graph import load_graph
from sp_edge_calibration.pictures import Pictures
from sp_edge_calibration.ranges import tensor_ranges
from sp_edge_export import export as export_module
from sp_edge_export.engines import build as engine_build
from sp_edge_export.engines.build import build_plan
from sp_edge_export.engines.engine import EngineOptions
from sp_edge_export.export import ExportOptions, export
from sp_edge_export.onnx import export_graphs
from sp_edge_export.precisions.fp16 import to_fp16
from sp_edge_export.precisions.int8 import to_int8

FLAVOURS = ("tensorrt", "tensorrt_rtx")


@pytest.fixture(scope="module", params=FLAVOURS)
def flavour(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return str(request.param)


def build(
    bundle: Bundle, graph: str, precision: str, max_batch: int, folder: Path, flavour: str = "tensorrt", **changes: Any
) -> Plan:
    progress = changes.pop("progress", lambda *_: None)
    options = EngineOptions(flavour, workspace=0.5, optimization_level=0, **changes)
    path, _ = build_plan(bundle, graph, precision, max_batch, options, folder, progress=progress)
    return Plan.load(path)


@pytest.fixture(scope="module")
def bundles(
    bundle: Bundle, checkpoint: Checkpoint, images: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Bundle]:
    """A bundle that was exported for each precision."""

    pictures = Pictures(Path("photos"), images, (), len(images), ())

    def copy(_network: object, _size: int, _dim: int, folder: Path, **_: object) -> dict[str, Path]:
        files = {graph: folder / f"{graph}.onnx" for graph in ("query", "support")}
        for graph, file in files.items():
            file.write_bytes(bundle.graph(graph, "fp32").read_bytes())
        return files

    options = ExportOptions("int8", max_drop=1, calibration=pictures)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_module, "export_graphs", copy)
        patch.setattr(export_module, "has_norms_before", lambda _network: False)
        int8 = export(checkpoint, tmp_path_factory.mktemp("int8") / "b", options)
    return {"fp32": bundle, "fp16": bundle, "int8": int8}


@pytest.mark.parametrize("max_batch", [1, 8])
@pytest.mark.parametrize("graph", ["query", "support"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_graph_builds(
    bundles: dict[str, Bundle], tmp_path: Path, flavour: str, precision: str, graph: str, max_batch: int
) -> None:
    bundle = bundles[precision]
    before = file_entries(bundle.path)
    told: list[tuple[str, int, int]] = []
    plan = build(bundle, graph, precision, max_batch, tmp_path, flavour, progress=lambda *step: told.append(step))
    made = plan.sidecar

    assert file_entries(bundle.path) == before
    assert {p.name for p in plan.path.parent.iterdir()} == {plan.path.name, sidecar_of(plan.path).name}
    assert (made.plan_sha256, made.plan_bytes) == (sha256(plan.path), plan.path.stat().st_size)
    assert made.plan_bytes > 10_000
    assert made.onnx_sha256 == sha256(bundle.graph(graph, precision))
    assert (made.sp_edge, made.bundle, made.graph, made.precision) == (
        sp_edge.__version__,
        bundle.fingerprint,
        graph,
        precision,
    )
    assert made.preprocess == bundle.manifest.preprocess.to_json()
    assert (made.calibration is not None) == (precision == "int8")
    assert made.calibration is None or made.calibration in str(bundle.manifest.stages)
    assert made.device == Device.here(flavour, sys.modules[flavour].__version__)
    assert (made.max_batch, made.workspace, made.optimization_level) == (max_batch, 0.5, 0)
    assert {tensor.name: (tensor.dtype, tensor.shape[1:]) for tensor in (*made.inputs, *made.outputs)} == {
        "image": ("uint8", (64, 64, 3)),
        "feature": ("float32", (192,)),
    } | ({"prompt": ("float32", (16,)), "plain": ("float32", (192,))} if graph == "support" else {})
    assert {tensor.shape[0] for tensor in (*made.inputs, *made.outputs)} == {1 if max_batch == 1 else -1}
    profiles = {tensor.profile for tensor in made.inputs}
    assert profiles == {None} if max_batch == 1 else all(p is not None and p[0][0] == 1 and p[2][0] == 8 for p in profiles)

    assert made.layers["float32"] > 0
    assert ("float16" in made.layers) == (precision != "fp32")
    assert ("int8" in made.layers) == (precision == "int8")

    assert told, "a build that says nothing looks as if it hung"
    assert all(0 <= done <= steps for _, done, steps in told)
    first: dict[str, int] = {}
    last: dict[str, tuple[int, int]] = {}
    for phase, done, steps in told:
        first.setdefault(phase, done)
        last[phase] = (done, steps)
    assert set(first.values()) == {0}
    assert all(done == steps for done, steps in last.values())


def test_half_weights_take_half_the_room(bundles: dict[str, Bundle], tmp_path: Path, flavour: str) -> None:
    sizes = {p: build(bundles[p], "query", p, 1, tmp_path, flavour).sidecar.plan_bytes for p in ("fp32", "fp16")}
    assert sizes["fp16"] < 0.75 * sizes["fp32"]


def untrained(model: ModelSettings, folder: Path, precisions: Sequence[str]) -> Bundle:
    """A network with random weights, in these precisions beside fp32."""
    toy.make_bundle(folder, precisions=("fp32", *precisions))
    network, size = build_network(model, toy.TEXT.dim).eval(), model.image_size
    inputs: dict[str, NDArray[Any]] = {
        "image": np.random.default_rng(0).integers(0, 256, (16, size, size, 3), dtype=np.uint8),
        "prompt": np.tile(toy.prompts().vectors, (2, 1)),
    }
    for graph, source in export_graphs(network, size, toy.TEXT.dim, folder).items():
        rows = inputs if graph == "support" else {"image": inputs["image"]}
        traced = load_graph(source)
        ranges = tensor_ranges(traced, rows)
        if "fp16" in precisions:
            to_fp16(source, folder / f"{graph}.fp16.onnx", ranges)
        if "int8" in precisions:
            to_int8(traced, folder / f"{graph}.int8.onnx", ranges)
    changes: dict[str, Any] = {"preprocess": Preprocess(size, 1.1), "feature_dim": network.feature_dim}
    if isinstance(network, PromptedPlaces):
        scores = network.scores(network.begin(torch.zeros(1, 3, size, size)), torch.zeros(1, toy.TEXT.dim))
        changes["scores"] = tuple(scores.shape[1:])
    manifest = Manifest.from_json(read_json(folder / "manifest.json", BundleError))
    write_manifest(folder, replace(manifest, files=file_entries(folder), **changes))
    return Bundle.load(folder)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The paper's network."""
    folder = tmp_path_factory.mktemp("tiny") / "bundle"
    return untrained(ModelSettings("visformer_tiny", 224), folder, ("fp16", "int8"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "size", "precisions"),
    [
        ("timm:tf_efficientnet_lite0", 224, ("fp16", "int8")),
        ("timm:vit_small_patch14_dinov2", 224, ()),
        ("timm:vit_pe_core_tiny_patch16_384", 384, ()),
        ("open_clip:ViT-B-32", 224, ()),
    ],
)
def test_ready_made_networks_build(tmp_path: Path, backbone: str, size: int, precisions: tuple[str, ...]) -> None:
    pytest.importorskip("tensorrt_rtx")
    bundle = untrained(ModelSettings(backbone, size, "spatial", "last"), tmp_path / "bundle", precisions)
    for precision in ("fp32", *precisions):
        for graph in ("query", "support"):
            made = build(bundle, graph, precision, 8, tmp_path / "engines", "tensorrt_rtx").sidecar
            assert {tensor.name for tensor in made.outputs} == set(bundle.manifest.outputs(graph))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_papers_network_builds(tmp_path: Path, tiny: Bundle, flavour: str, precision: str) -> None:
    for graph, max_batch in (("query", 1), ("query", 8), ("support", 8)):
        made = build(tiny, graph, precision, max_batch, tmp_path, flavour).sidecar
        assert made.plan_bytes > 9_000_000 * {"fp32": 4, "fp16": 2, "int8": 1}[precision]


# --- graphs that do not build ---


def broken(kind: str, file: Path) -> None:
    values = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 4]),
        helper.make_tensor_value_info("feature", TensorProto.FLOAT, ["N", 4]),
    ]
    node = helper.make_node("Teleport", ["image"], ["feature"], "beam", domain="acme")
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("acme", 1)]
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    if kind == "giant":
        huge = graph.initializer.add(name="w", data_type=TensorProto.FLOAT)
        huge.dims.append(1 << 40)
        huge.raw_data = b"none"
        graph.node[0].CopyFrom(helper.make_node("Add", ["image", "w"], ["feature"], "sum"))
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), file)


@pytest.mark.parametrize(("kind", "words"), [("unknown operator", "Teleport node 0 'beam'"), ("giant", "initializer: w")])
def test_what_tensorrt_cannot_read(tmp_path: Path, flavour: str, kind: str, words: str) -> None:
    folder = toy.make_bundle(tmp_path / "toy")
    broken(kind, folder / "query.onnx")
    toy.reseal(folder)
    with pytest.raises(ExportError, match=rf"TensorRT .* cannot read query\.onnx[\s\S]*{words}") as raised:
        build(Bundle.load(folder), "query", "fp32", 1, tmp_path / "engines", flavour)
    assert raised.value.exit_code == 1
    assert not list((tmp_path / "engines").rglob("*.plan*"))


def test_what_takes_something_else_than_the_manifest_says(tmp_path: Path, flavour: str) -> None:
    folder = toy.make_bundle(tmp_path / "toy")
    for model in (toy.graph("query", batch=3), toy.graph("support"), toy.graph("query", side=16)):
        onnx.save(model, folder / "query.onnx")
        toy.reseal(folder)
        with pytest.raises(ExportError, match=r"query\.onnx is not what the manifest says") as raised:
            build(Bundle.load(folder), "query", "fp32", 8, tmp_path / "engines", flavour)
        assert "image uint8 (-1, 32, 32, 3)" in raised.value.expected
        assert raised.value.got != raised.value.expected


def test_a_graph_of_another_precision_than_it_is_called(tmp_path: Path, flavour: str) -> None:
    folder = toy.make_bundle(tmp_path / "toy", precisions=("fp32", "fp16"))
    (folder / "query.fp16.onnx").write_bytes((folder / "query.onnx").read_bytes())
    toy.reseal(folder)
    with pytest.raises(ExportError, match="the network is not the fp16 that was asked for") as raised:
        build(Bundle.load(folder), "query", "fp16", 1, tmp_path / "engines", flavour)
    assert "float32" in raised.value.got
    assert not list((tmp_path / "engines").rglob("*.plan*"))


def test_a_graph_that_changes_after_the_bundle_was_opened(tmp_path: Path, flavour: str) -> None:
    folder = toy.make_bundle(tmp_path / "toy")
    bundle = Bundle.load(folder)
    (folder / "query.onnx").write_bytes(b"another")
    with pytest.raises(BundleError, match=r"has changed: query\.onnx"):
        build(bundle, "query", "fp32", 1, tmp_path / "engines", flavour)


def test_gpus_that_a_version_does_not_know(tmp_path: Path) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    if hasattr(trt, "ComputeCapability"):
        pytest.skip("this TensorRT-RTX knows compute capabilities")
    bundle = Bundle.load(toy.make_bundle(tmp_path / "toy"))
    with pytest.raises(ExportError, match="does not build for every GPU") as raised:
        build(bundle, "query", "fp32", 1, tmp_path / "engines", "tensorrt_rtx", targets=("8.6",))
    assert raised.value.got == "8.6"


def test_what_progress_raises_stops_the_build(toy_bundle: Path, tmp_path: Path, flavour: str) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(Bundle.load(toy_bundle), "query", "fp32", 1, tmp_path, flavour, progress=stop)
    assert not list(tmp_path.rglob("*.plan*"))


# --- with a GPU ---


ORIN = Device("tensorrt", "10.3.0", "8.7", "Orin", "540.4.0", "12.6", "36.4.3", "Linux", "aarch64")


@pytest.fixture
def orin(monkeypatch: pytest.MonkeyPatch, toy_bundle: Path, tmp_path: Path) -> Any:
    """Builds the toy's query graph with the stand-in as if this were an Orin with 4 GiB free; gives the plan."""
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt_builder)
    monkeypatch.setattr(engine_build.Device, "here", lambda *_: ORIN)
    monkeypatch.setattr(engine_build, "free_gpu_memory", lambda: 4 << 30)
    monkeypatch.setattr(tensorrt_builder, "taken", [])
    bundle = Bundle.load(toy_bundle)
    return lambda max_batch=1, **changes: build(bundle, "query", "fp32", max_batch, tmp_path, **changes)


def test_what_was_measured_serves_the_next_build(orin: Any, tmp_path: Path) -> None:
    assert orin().sidecar.kernels == {"float32": 1}
    orin(max_batch=8)
    assert tensorrt_builder.taken == [b"", b"measured "]
    assert [p.name for p in (tmp_path / "timing").iterdir()] == ["tensorrt-10.3.0.sm87-orin.cache"]


@pytest.mark.parametrize("content", [b"", b"garbage", b"x" * 500])
def test_a_damaged_timing_cache_is_discarded_with_a_word(
    orin: Any, tmp_path: Path, content: bytes, log: pytest.LogCaptureFixture
) -> None:
    orin()
    (file,) = (tmp_path / "timing").iterdir()
    sound = file.read_bytes()
    file.write_bytes(content)
    orin(max_batch=8)
    assert [words for words in log.messages if "damaged" in words]
    assert tensorrt_builder.taken == [b"", b""]
    assert file.read_bytes() == sound


def test_a_timing_cache_that_tensorrt_refuses(
    orin: Any, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    orin()
    monkeypatch.setitem(tensorrt_builder.TAKES, "cache", False)
    orin(max_batch=8)
    assert log.messages == ["TensorRT does not take the timing cache tensorrt-10.3.0.sm87-orin.cache, so all is measured anew"]
    assert tensorrt_builder.taken == [b"", b"measured ", b""]


def test_the_built_engine_must_have_the_precision(orin: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    layers = {"Layers": [{"Outputs": [{"Format/Datatype": "Half"}]}]}
    monkeypatch.setattr(tensorrt_builder, "INSPECTED", json.dumps(layers))
    with pytest.raises(ExportError, match="the engine is not the fp32 that was asked for") as raised:
        orin()
    assert raised.value.got == "1 in float16"
    assert not list(tmp_path.rglob("*.plan*"))


def test_an_engine_that_says_nothing_of_its_layers_is_taken(orin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_builder, "INSPECTED", '{"Layers": ["conv", "softmax"]}')
    assert orin().sidecar.kernels is None


def test_an_engine_that_does_not_open_where_it_was_built(orin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tensorrt_builder.TAKES, "engine", False)
    with pytest.raises(ExportError, match="cannot open the engine that it built"):
        orin()


def test_too_little_gpu_memory(orin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_build, "free_gpu_memory", lambda: 1 << 28)
    with pytest.raises(ExportError, match="too little GPU memory") as raised:
        orin()
    assert (raised.value.expected, raised.value.got) == ("0.5 GiB free, as the workspace", "0.2 GiB on Orin")


def test_a_newer_driver_asks_for_no_new_build_and_new_settings_do(orin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    orin()
    monkeypatch.setattr(engine_build.Device, "here", lambda *_: replace(ORIN, driver="580.0", cuda="13.0"))
    orin()
    assert len(tensorrt_builder.taken) == 1
    monkeypatch.setattr(engine_build.Device, "here", lambda *_: replace(ORIN, l4t="36.5.0"))
    orin()
    assert len(tensorrt_builder.taken) == 2
