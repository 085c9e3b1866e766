from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

import toy
from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.manifest import GOLDEN, file_entries, write_manifest
from sp_edge.data.pictures import PictureSet
from sp_edge.errors import BundleError, DataError, ExportError, PromptError, SettingsError
from sp_edge.model import PromptedNetwork
from sp_edge.prompts.familiarity import Familiarity
from sp_edge.prompts.table import PromptTable
from sp_edge.tensors import load_tensors, save_tensors
from sp_edge.training.checkpoint import Checkpoint
from sp_edge.training.evaluate import encode
from sp_edge_calibration.pictures import Pictures
from sp_edge_export import export as module
from sp_edge_export import material
from sp_edge_export.export import ExportOptions, export
from sp_edge_export.precisions.conversion import Conversion, Converted
from sp_edge_export.probe import Reference, make_probe
from sp_edge_export.verify import Parity, check_golden
from sp_edge_runtime.backends.backend import least_cosine
from sp_edge_runtime.backends.devices import open_backend
from sp_edge_runtime.recognizer import Recognizer


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- what export writes ---


def test_the_bundle_says_where_it_comes_from(bundle: Bundle, checkpoint: Checkpoint) -> None:
    manifest = bundle.manifest
    assert entries(bundle.path.parent) == ["model.spedge"]
    assert set(manifest.graphs) == {"fp32", "fp16"}
    assert manifest.precision == "fp16"
    assert manifest.feature_dim == 192
    assert manifest.preprocess.to_json()["image_size"] == 64
    assert manifest.text == checkpoint.prompts.text
    assert manifest.calibration.distance > 0
    assert bundle.background().within.shape == (manifest.feature_dim, manifest.feature_dim)
    assert manifest.strength == checkpoint.network.strength
    assert manifest.training["settings"] == checkpoint.settings.to_json()
    assert manifest.training["record"] == {"note": "never trained"}
    assert {"sp-edge", "torch", "onnx", "onnxruntime"} <= set(manifest.versions)
    assert bundle.prompts.names == checkpoint.prompts.names
    np.testing.assert_array_equal(bundle.prompts.vectors, checkpoint.prompts.vectors)
    assert {f"golden/{i}.png" for i in range(8)} | {"README.md"} <= set(manifest.files)
    assert "visformer_mini" in (bundle.path / "README.md").read_text("utf-8")


def test_a_bundle_of_scored_places_says_their_grid_and_carries_what_names_alone_say(
    checkpoint: Checkpoint, build_small: Callable[..., PromptedNetwork], tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"interaction": "spatial", "layer": "last", "text_prototype": True, "text_share": 0.3}
    network = build_small(**changes)
    network.familiarity = Familiarity.of(checkpoint.prompts.vectors)
    model = dataclasses.replace(checkpoint.settings.model, **changes)
    settings = dataclasses.replace(
        checkpoint.settings, model=model, tune=dataclasses.replace(checkpoint.settings.tune, choose_strength=False)
    )
    placed = dataclasses.replace(checkpoint, network=network, settings=settings)
    made = export(placed, tmp_path / "model.spedge", ExportOptions("fp16", max_drop=1, pictures=48))
    assert made.manifest.scores == (2, 2)
    assert made.manifest.outputs("support") == ("feature", "plain", "scores")
    assert [stage["score_difference"] < 0.05 for stage in made.manifest.stages] == [True, True]
    golden = made.golden()
    assert golden.scores is not None
    assert golden.scores.shape == (8, 2, 2)
    assert set(check_golden(made)) == {"fp32", "fp16"}
    text, ours = made.text_prototype(), network.text_prototype
    assert text is not None
    assert ours is not None
    np.testing.assert_array_equal(text(golden.prompts), ours.to_numpy()(golden.prompts))
    tensors, described = load_tensors(made.path / GOLDEN, BundleError)
    save_tensors(made.path / GOLDEN, {**tensors, "scores": tensors["scores"] + 1}, {"images": described["images"]})
    write_manifest(made.path, dataclasses.replace(made.manifest, files=file_entries(made.path)))
    with pytest.raises(ExportError, match="score places otherwise here"):
        check_golden(Bundle.load(made.path))


def test_every_stage_is_recorded_against_the_one_before(bundle: Bundle) -> None:
    stages = json.loads((bundle.path / "manifest.json").read_text("utf-8"))["stages"]
    assert [(stage["stage"], stage["against"]) for stage in stages] == [("fp32", "pytorch"), ("fp16", "fp32")]
    for stage in stages:
        assert stage["pictures"] == 192
        assert 0.999 < stage["cosine_min"] <= stage["cosine_mean"] <= 1.000001
        assert stage["largest_difference"] > 0
        assert stage["accuracy"]["episodes"] == stage["accuracy_before"]["episodes"] == 600
        assert 0.2 < stage["accuracy_before"]["mean"] <= 1
    assert stages[0]["accuracy"] == stages[1]["accuracy_before"]
    assert stages[1]["largest_difference"] > stages[0]["largest_difference"]


def test_golden_pictures_are_pytorchs_and_reproduce(bundle: Bundle, checkpoint: Checkpoint) -> None:
    golden = bundle.golden()
    features = encode(checkpoint.network, golden.images, golden.prompts)
    np.testing.assert_allclose(golden.query, features.query, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(golden.support, features.support, rtol=1e-4, atol=1e-4)
    assert len(np.unique(golden.query, axis=0)) == 8
    check_golden(bundle)


def test_the_runtime_takes_it(bundle: Bundle, images: NDArray[np.uint8]) -> None:
    with Recognizer.load(bundle.path, device="cpu") as recognizer:
        names = bundle.prompts.names[:2]
        for name, image in zip(names, images, strict=False):
            recognizer.enroll(name, [image])
        assert recognizer.bank.names == names
        assert recognizer.classify(images[0]).name in names


@pytest.mark.usefixtures("traced")
def test_fp32_alone(checkpoint: Checkpoint, bundle: Bundle, tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    made = export(checkpoint, tmp_path / "deep" / "er" / "model.spedge", ExportOptions(text="none"))
    assert made.path == tmp_path / "deep" / "er" / "model.spedge"
    assert set(made.manifest.graphs) == {"fp32"}
    assert [stage["stage"] for stage in made.manifest.stages] == ["fp32"]
    assert made.fingerprint == bundle.fingerprint, "banks go with either"
    assert log.messages[0] == "exporting to ONNX"
    assert log.messages[1].startswith("fp32 against pytorch: cosine 1.0000")
    again = export(checkpoint, tmp_path / "again.spedge", ExportOptions(text="none"))
    first, second = ({e.relative_to(b.path): e.read_bytes() for e in b.path.rglob("*") if e.is_file()} for b in (made, again))
    assert first == second, "the same bytes in every file"


@pytest.mark.usefixtures("traced")
def test_int8(checkpoint: Checkpoint, images: NDArray[np.uint8], tmp_path: Path) -> None:
    options = ExportOptions("int8", max_drop=1, calibration=Pictures(Path("photos"), images, (), 24, ()))
    made = export(checkpoint, tmp_path / "b", options)
    assert made.manifest.graphs["int8"] == {"query": "query.int8.onnx", "support": "support.int8.onnx"}
    assert made.manifest.precision == "int8"
    assert [stage["stage"] for stage in made.manifest.stages] == ["fp32", "fp16", "int8", "int8-cpu"], (
        "for where fp16 is the faster one, and for CPUs"
    )
    assert 0.98 < made.manifest.stages[2]["cosine_mean"] < 0.999999 < made.manifest.stages[1]["cosine_mean"]
    assert made.manifest.cpu_graphs["int8"] == {"query": "query.int8-cpu.onnx", "support": "support.int8-cpu.onnx"}
    assert set(check_golden(made)) == {"fp32", "fp16", "int8", "int8-cpu"}
    assert entries(tmp_path) == ["b"]
    stage = made.manifest.stages[2]
    assert stage["calibration"]["sha256"] == hashlib.sha256(images.tobytes()).hexdigest(), "all of them were chosen"
    assert set(stage["tried"]) == {"folded"}, "a copy of the graphs has no other way to be folded"
    assert (stage["float16"], stage["float32"]) == ([], {"query": [], "support": []})
    for_cpu = made.manifest.stages[3]
    assert (for_cpu["against"], for_cpu["float32"], for_cpu["passed"]) == ("fp32", {"query": [], "support": []}, True)
    assert 0.98 < for_cpu["cosine_mean"] < 0.999999
    assert for_cpu["calibration"] == stage["calibration"]
    for graph in ("query", "support"):
        types = Counter(node.op_type for node in onnx.load(made.graph(graph, "int8", for_cpu=True)).graph.node)
        kept = Counter(node.op_type for node in onnx.load(made.graph(graph, "fp32")).graph.node)
        assert types["Conv"] == kept["Conv"]
        assert types["Relu"] == 0 < kept["Relu"]
    with open_backend(made, "cpu", "int8") as backend:
        assert least_cosine(backend, made.golden()) > 0.98


@pytest.mark.usefixtures("traced")
def test_a_form_for_cpus_that_does_not_pass_is_left_out(
    checkpoint: Checkpoint,
    images: NDArray[np.uint8],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    log: pytest.LogCaptureFixture,
) -> None:
    real = Parity.failure

    def failure(self: Parity, max_drop: float) -> ExportError | None:
        return ExportError("too far off", got="0.5") if self.stage == "int8-cpu" else real(self, max_drop)

    monkeypatch.setattr(Parity, "failure", failure)
    monkeypatch.setattr("sp_edge_export.precisions.int8.sensitivities", lambda *_, **__: {"backbone.stem.0": 1.0})
    options = ExportOptions("int8", max_drop=1, calibration=Pictures(Path("photos"), images, (), 24, ()), text="none")
    made = export(checkpoint, tmp_path / "b", options)
    assert not made.manifest.cpu_graphs
    assert not list(made.path.glob("*-cpu*"))
    assert [(stage["stage"], stage["passed"]) for stage in made.manifest.stages[2:]] == [("int8", True), ("int8-cpu", False)]
    assert any("int8 will be slow on CPUs, without a form for them: too far off, 0.5" in word for word in log.messages)
    assert made.graph("query", "int8", for_cpu=True) == made.graph("query", "int8")


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("enough", [True, False])
def test_int8_is_judged_on_other_pictures_than_it_was_searched_on_or_the_manifest_says_so(
    checkpoint: Checkpoint, images: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enough: bool
) -> None:
    seen: dict[str, list[set[bytes]]] = {"fp16": [], "int8": [], "int8-cpu": []}
    compare = Reference.compare

    def recorded(self: Reference, precision: str, graphs: Any) -> Any:
        seen[precision].append({image.tobytes() for image in self.probe.images})
        return compare(self, precision, graphs)

    monkeypatch.setattr(Reference, "compare", recorded)
    monkeypatch.setattr("sp_edge_export.probe.HALVED", 4 if enough else 5)
    options = ExportOptions("int8", max_drop=1, calibration=Pictures(Path("photos"), images, (), 24, ()), text="none")
    _, fp16, int8, for_cpu = export(checkpoint, tmp_path / "b", options).manifest.stages
    assert (for_cpu["searched"], for_cpu["pictures"]) == (int8["searched"], int8["pictures"])
    assert seen["int8-cpu"] == seen["int8"]
    *searched, judged = seen["int8"]
    assert searched
    if enough:
        assert not judged & set.union(*searched)
        assert judged | set.union(*searched) == seen["fp16"][0], "what was not searched for is judged by all"
        assert int8["searched"] == {"on": "other pictures than the gate's", "pictures": 96}
        assert (fp16["pictures"], int8["pictures"]) == (192, 96)
    else:
        assert all(judged == pictures for pictures in searched)
        assert int8["searched"] == {"on": "the gate's own pictures", "pictures": 192}
        assert (fp16["pictures"], int8["pictures"]) == (192, 192)
    assert "searched" not in fp16
    assert (int8["asked"]["max_drop"], int8["passed"]) == (1, True)


@pytest.mark.usefixtures("traced")
def test_further_prompts(checkpoint: Checkpoint, tmp_path: Path) -> None:
    text = checkpoint.prompts.text
    known = checkpoint.prompts.names[0]
    further = PromptTable(text, ("my mug", known), np.full((2, text.dim), 2.25, np.float32))
    made = export(checkpoint, tmp_path / "b", ExportOptions(prompts=further))
    assert set(made.prompts.names) == {*checkpoint.prompts.names, "my mug"}
    for name in ("my mug", known):
        np.testing.assert_array_equal(made.prompts.vector(name), further.vectors[0])
    other = PromptTable(dataclasses.replace(text, norm=1.0), ("my mug",), np.zeros((1, text.dim), np.float32))
    with pytest.raises(PromptError, match="made in different ways"):
        export(checkpoint, tmp_path / "c", ExportOptions(prompts=other))
    assert entries(tmp_path) == ["b"]


# --- what it refuses ---


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"precision": "fp8"}, "unknown precision"),
        ({"max_drop": -0.1}, "max-drop"),
        ({"max_drop": 1.1}, "max-drop"),
        ({"max_drop": float("nan")}, "max-drop"),
        ({"precision": "int8"}, r"int8 needs calibration pictures[\s\S]*--data"),
        ({"calibration": "pictures"}, "fp32 needs no calibration pictures"),
        ({"opset": 18}, "unknown opset"),
    ],
)
def test_options_that_cannot_be(change: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        ExportOptions(**change)


@pytest.mark.usefixtures("traced")
def test_calibration_pictures_of_another_size(checkpoint: Checkpoint, tmp_path: Path) -> None:
    pictures = Pictures(Path("photos"), np.zeros((16, 32, 32, 3), np.uint8), (), 16, ())
    with pytest.raises(DataError, match="of another size"):
        export(checkpoint, tmp_path / "b", ExportOptions("int8", max_drop=1, calibration=pictures))
    assert not entries(tmp_path)


@pytest.mark.parametrize("names", [None, ["holiday.jpg"], ["manifest.json", "model.onnx"]])
def test_what_is_no_bundle_is_not_replaced(checkpoint: Checkpoint, tmp_path: Path, names: list[str] | None) -> None:
    out = tmp_path / "photos"
    if names is None:
        out.write_text("precious")
    else:
        out.mkdir()
        for name in names:
            (out / name).write_text("{}")
    with pytest.raises(SettingsError, match="photos is in the way"):
        export(checkpoint, out, ExportOptions())
    assert entries(tmp_path) == ["photos"]
    assert out.read_text() == "precious" if names is None else entries(out) == names


def test_a_bundle_with_something_of_the_users_in_it_is_not_replaced(checkpoint: Checkpoint, tmp_path: Path) -> None:
    bundle = toy.make_bundle(tmp_path / "b", text_encoder=True)
    (bundle / "classes.spbank").write_text("precious")
    with pytest.raises(SettingsError, match=r"in the way[\s\S]*classes\.spbank"):
        export(checkpoint, bundle, ExportOptions())
    assert (bundle / "classes.spbank").read_text() == "precious"


def test_too_few_pictures_to_verify_with(checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = checkpoint.prompts.names[:2]
    labels = np.array([0, 0, 0, 1, 1])
    pictures = PictureSet(np.zeros((5, 64, 64, 3), np.uint8), labels, names, {"all": np.arange(5)})
    monkeypatch.setattr(material, "probe_pictures", lambda *_: pictures)
    with pytest.raises(DataError, match=r"two classes with three pictures[\s\S]*\[3, 2\]"):
        export(checkpoint, tmp_path / "b", ExportOptions())
    assert not entries(tmp_path)


def test_a_place_that_cannot_be_written_is_known_at_once(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(material, "probe_pictures", lambda *_: pytest.fail("minutes of work were begun"))
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match="file"):
        export(checkpoint, tmp_path / "file" / "b", ExportOptions())
    with pytest.raises(OSError, match="proc"):
        export(checkpoint, Path("/proc/nothing/b"), ExportOptions())


def test_the_probe_takes_few_pictures_of_many_classes(checkpoint: Checkpoint) -> None:
    names = checkpoint.prompts.names[:300]
    labels = np.repeat(np.arange(300), 7)
    labels[:5] = 299  # leaves two of the first class
    pictures = PictureSet(np.zeros((2100, 2, 2, 3), np.uint8), labels, names, {})
    probe = make_probe(pictures, checkpoint.prompts, 60)
    classes, counts = np.unique(probe.labels, return_counts=True)
    assert (len(classes), set(counts)) == (10, {6})
    assert (probe.n_way, probe.n_query) == (5, 5)
    assert 0 not in classes
    np.testing.assert_array_equal(probe.prompts, checkpoint.prompts.vectors[probe.labels])


# --- an earlier bundle ---


def scramble(folder: Path) -> None:
    """Makes the exported graphs compute something else, as a faulty exporter would."""
    import onnx
    from onnx import numpy_helper

    for graph in ("query", "support"):
        model = onnx.load(folder / f"{graph}.onnx")
        weight = next(c for c in model.graph.initializer if c.name.endswith("stage2.0.mlp.conv3.weight"))
        values = np.random.default_rng(0).normal(size=numpy_helper.to_array(weight).shape).astype(np.float32)
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
        onnx.save(model, folder / f"{graph}.onnx")


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("earlier", [True, False])
@pytest.mark.parametrize("stage", ["fp32", "fp16", "accuracy", "golden"])
def test_a_stage_that_fails_leaves_all_as_it_was(
    checkpoint: Checkpoint, own_bundle: Path, monkeypatch: pytest.MonkeyPatch, stage: str, earlier: bool
) -> None:
    out = own_bundle if earlier else own_bundle.with_name("new.spedge")
    options, error, words = ExportOptions("fp16", max_drop=1), ExportError, f"the {stage} graphs compute other features"
    if stage == "fp32":
        traced = module.export_graphs

        def faulty(network: Any, size: int, dim: int, folder: Path, **options: Any) -> dict[str, Path]:
            files = traced(network, size, dim, folder, **options)
            scramble(folder)
            return files

        monkeypatch.setattr(module, "export_graphs", faulty)
    elif stage == "fp16":

        def worse(job: Conversion) -> Converted:
            kept = {graph: source.read_bytes() for graph, source in job.sources.items()}
            scramble(job.sources["query"].parent)
            for graph, source in job.sources.items():
                job.targets[graph].write_bytes(source.read_bytes())
                source.write_bytes(kept[graph])
            return Converted(job.targets, {"float32": {}})

        monkeypatch.setattr(module, "CONVERSIONS", {"fp16": worse})
    elif stage == "accuracy":
        words = "the fp16 graphs are less accurate than fp32"
        compare = Reference.compare

        def drop(self: Reference, *given: Any) -> Any:
            parity = compare(self, *given)
            return dataclasses.replace(parity, drop=dataclasses.replace(parity.drop, mean=-0.5))

        monkeypatch.setattr(Reference, "compare", drop)
        options = ExportOptions("fp16", max_drop=0.05)
    else:
        error, words = OSError, "disk"  # type: ignore[assignment]

        def full(*_: object) -> None:
            raise OSError("the disk is full")

        monkeypatch.setattr(module, "_write_golden", full)
    before, there = file_entries(own_bundle), entries(own_bundle.parent)
    with pytest.raises(error, match=words) as caught:
        export(checkpoint, out, options)
    report = out.with_name(out.name + ".failed.json")
    if error is ExportError:
        assert str(report) in str(caught.value)
        told = json.loads(report.read_text("utf-8"))
        assert told["failed"]["stage"] == ("fp32" if stage == "fp32" else "fp16")
        assert [s["stage"] for s in told["stages"]] == (["fp32"] if stage == "fp32" else ["fp32", "fp16"])
        layers = [layer["layer"] for layer in told["layers"]]
        assert layers[:2] == ["backbone.stem.0", "backbone.patch_embed1.proj"]
        if stage != "accuracy":
            assert told["worst_layer"]["layer"] == "backbone.stage2.0.mlp.conv3", "the one whose weights were scrambled"
            assert "worst layer: backbone.stage2.0.mlp.conv3" in str(caught.value)
        report.unlink()
    assert entries(own_bundle.parent) == there
    assert file_entries(own_bundle) == before
    Bundle.load(own_bundle)


@pytest.mark.usefixtures("traced")
def test_a_new_bundle_replaces_the_earlier_one_as_a_whole(checkpoint: Checkpoint, own_bundle: Path) -> None:
    (own_bundle / "query.int8.onnx").write_text("of the earlier network")
    failed = own_bundle.with_name(own_bundle.name + ".failed.json")
    failed.write_text("{}")
    made = export(checkpoint, own_bundle, ExportOptions())
    assert set(made.manifest.graphs) == {"fp32"}
    assert not (own_bundle / "query.fp16.onnx").exists()
    assert not (own_bundle / "query.int8.onnx").exists(), "a graph of the earlier network must not stand beside new ones"
    assert not failed.exists(), "nor the report of an attempt that failed"
    assert entries(own_bundle.parent) == [own_bundle.name]


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from sp_edge_calibration.pictures import Pictures
from sp_edge_export import export as module
from sp_edge_export import material
from sp_edge.training.checkpoint import Checkpoint

checkpoint, bundle, out, how, where = sys.argv[1:]
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts the tests in the background ignores it

def copy(network, size, dim, folder, **options):
    return {g: Path(shutil.copy(Path(bundle) / f"{g}.onnx", folder / f"{g}.onnx")) for g in ("query", "support")}

def stop(*_, **__):
    os.kill(os.getpid(), getattr(signal, how))

module.export_graphs = copy
setattr(module, where, stop)
module.export(Checkpoint.load(Path(checkpoint)), Path(out), module.ExportOptions())
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(
    ("how", "where"),
    [("SIGKILL", "export_graphs"), ("SIGKILL", "write_manifest"), ("SIGINT", "_write_golden")],
)
def test_a_kill_in_the_middle_leaves_nothing_half_written(
    checkpoint: Checkpoint, bundle: Bundle, own_bundle: Path, tmp_path: Path, how: str, where: str
) -> None:
    checkpoint.save(tmp_path / "checkpoint.safetensors")
    before = file_entries(own_bundle)
    out = own_bundle if how == "SIGKILL" else tmp_path / "new.spedge"
    arguments = [str(tmp_path / "checkpoint.safetensors"), str(bundle.path), str(out), how, where]
    ran = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == -getattr(signal, how), ran.stderr
    assert file_entries(own_bundle) == before
    Bundle.load(own_bundle)
    visible = [name for name in entries(tmp_path) if not name.startswith(".")]
    assert visible == ["checkpoint.safetensors", "copy.spedge"]
    if how == "SIGINT":
        assert visible == entries(tmp_path), "Ctrl-C cleans up, too"
