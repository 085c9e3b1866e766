from __future__ import annotations

import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto

from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.identity import graph_digest
from sp_edge.bundle.manifest import GRAPHS, OUTPUTS
from sp_edge.errors import ExportError
from sp_edge.matching.decide import row_cosines
from sp_edge.model import PromptedNetwork, PromptedPlaces
from sp_edge.model.normalization import Normalization
from sp_edge.training.checkpoint import Checkpoint
from sp_edge_calibration.graph import load_graph
from sp_edge_calibration.ranges import tensor_ranges
from sp_edge_export.onnx import export_graphs
from sp_edge_export.precisions.fp16 import to_fp16

LAYERS = ("attn.qkv", "attn.proj", "mlp.conv1", "mlp.conv3")  # of a block in stage 3


def run(file: Path, output: str = "feature", **inputs: NDArray[np.generic]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return np.asarray(session.run([output], inputs)[0])


def prompts_of(checkpoint: Checkpoint, count: int) -> NDArray[np.float32]:
    return checkpoint.prompts.vectors[:count]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@torch.no_grad()
def test_any_batch_agrees_with_pytorch(bundle: Bundle, checkpoint: Checkpoint, images: NDArray[np.uint8], count: int) -> None:
    batch, prompts = images[:count].copy(), prompts_of(checkpoint, count)
    pixels = Normalization()(torch.from_numpy(batch))
    for graph, prompt in (("query", None), ("support", prompts)):
        expected = checkpoint.network(pixels, None if prompt is None else torch.from_numpy(prompt)).numpy()
        got = run(bundle.graph(graph, "fp32"), image=batch, **({} if prompt is None else {"prompt": prompt}))
        assert got.dtype == np.float32
        assert got.shape == expected.shape == (count, 192)
        assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_support_graph_gives_the_query_graphs_feature_too(
    bundle: Bundle, checkpoint: Checkpoint, images: NDArray[np.uint8], precision: str
) -> None:
    query = run(bundle.graph("query", precision), image=images[:8])
    plain = run(bundle.graph("support", precision), "plain", image=images[:8], prompt=prompts_of(checkpoint, 8))
    np.testing.assert_allclose(plain, query, rtol=0, atol=(1e-6 if precision == "fp32" else 1e-3) * np.abs(query).max())
    convolutions = [
        Counter(n.name for n in onnx.load(bundle.graph(g, precision)).graph.node if n.op_type == "Conv") for g in GRAPHS
    ]
    twice = {f"backbone.stage3.{block}.{layer}/2" for block in (1, 2) for layer in LAYERS}
    assert set(convolutions[1]) - set(convolutions[0]) == twice, "what comes before the prompt is computed once"


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone": "visformer_tiny_84", "image_size": 36, "layer": "2-1", "projector": "mlp3", "pooling": "patch"},
        {"backbone": "resnet12", "image_size": 32, "interaction": "channel", "layer": "last", "prompt_strength": 0.6},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
@torch.no_grad()
def test_other_networks_agree_with_pytorch_too(
    build_small: Callable[..., PromptedNetwork], tmp_path: Path, changes: dict[str, Any]
) -> None:
    network = build_small(settled=True, **changes)
    side = changes["image_size"]
    files = export_graphs(network, side, 16, tmp_path)
    rng = np.random.default_rng(4)
    for count in (1, 2, 3, 8):
        batch = rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
        prompt = rng.normal(0, 2, (count, 16)).astype(np.float32)
        pixels = Normalization()(torch.from_numpy(batch))
        for expected, got in (
            (network(pixels), run(files["query"], image=batch)),
            (network(pixels, torch.from_numpy(prompt)), run(files["support"], image=batch, prompt=prompt)),
            (network(pixels), run(files["support"], "plain", image=batch, prompt=prompt)),
        ):
            assert got.shape == tuple(expected.shape) == (count, network.feature_dim)
            assert np.abs(got - expected.numpy()).max() < 1e-5 * np.abs(expected.numpy()).max()


PLACED = {"interaction": "spatial", "layer": "last", "text_prototype": True, "text_share": 0.3, "prompt_strength": 0.9}


@pytest.mark.parametrize(
    ("backbone", "side"),
    [
        ("visformer_mini", 64),
        pytest.param("timm:vit_small_patch14_dinov2", 224, marks=pytest.mark.slow),
        pytest.param("timm:vit_pe_core_tiny_patch16_384", 384, marks=pytest.mark.slow),
        pytest.param("open_clip:ViT-B-32", 224, marks=pytest.mark.slow),
    ],
)
@torch.no_grad()
def test_scores_of_places_are_a_third_output_of_the_support_graph(
    build_small: Callable[..., PromptedNetwork], tmp_path: Path, backbone: str, side: int
) -> None:
    network = build_small(settled=True, backbone=backbone, image_size=side, **PLACED)
    assert_agrees(network, export_graphs(network, side, 16, tmp_path))


@torch.no_grad()
def assert_agrees(network: PromptedNetwork, files: Mapping[str, Path]) -> None:
    assert isinstance(network, PromptedPlaces)
    side, rng = network.image_size, np.random.default_rng(4)
    for count in (1, 2, 3, 8):
        batch = rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
        prompt = rng.normal(0, 2, (count, 16)).astype(np.float32)
        pixels, text = network.normalise(torch.from_numpy(batch)), torch.from_numpy(prompt)
        tokens = network.begin(pixels)
        for expected, got in (
            (network.finish(tokens), run(files["query"], image=batch)),
            (network.finish(tokens, text), run(files["support"], image=batch, prompt=prompt)),
            (network.finish(tokens), run(files["support"], "plain", image=batch, prompt=prompt)),
        ):
            assert got.shape == tuple(expected.shape) == (count, network.feature_dim)
            assert row_cosines(got, expected.numpy()).min() > 0.9999
        scores = network.scores(tokens, text).numpy()
        got = run(files["support"], "scores", image=batch, prompt=prompt)
        assert got.shape == scores.shape
        assert np.abs(got - scores).max() < 1e-3


def test_a_network_padded_as_tensorflow_does_becomes_a_plain_graph(
    build_small: Callable[..., PromptedNetwork], tmp_path: Path
) -> None:
    network = build_small(settled=True, backbone="timm:tf_efficientnet_lite0", image_size=64, **PLACED)
    files = export_graphs(network, 64, 16, tmp_path)
    assert_agrees(network, files)
    for graph in GRAPHS:
        model = onnx.load(files[graph])
        kinds = Counter(node.op_type for node in model.graph.node)
        assert not set(kinds) & {"Pad", "Shape", "Gather", "Range", "Expand", "BatchNormalization"}
        assert kinds["Conv"] == 49
    query = Counter(node.op_type for node in onnx.load(files["query"]).graph.node)
    assert set(query) == {"Cast", "Sub", "Div", "Transpose", "Conv", "Clip", "Add", "ReduceMean", "Reshape"}


@pytest.mark.parametrize(("share", "strength"), [(0.5, 0.7), (1.0, 1.0)])
@torch.no_grad()
def test_a_text_prototype_is_part_of_the_support_graph(
    build_small: Callable[..., PromptedNetwork], tmp_path: Path, share: float, strength: float
) -> None:
    """Where text alone speaks, the picture is still asked for."""
    changes = {"layer": "3-2", "text_prototype": True, "text_share": share, "prompt_strength": strength}
    network = build_small(settled=True, image_size=32, **changes)
    files = export_graphs(network, 32, 16, tmp_path)
    rng = np.random.default_rng(4)
    for count in (1, 3):
        batch = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        prompt = rng.normal(0, 2, (count, 16)).astype(np.float32)
        expected = network(Normalization()(torch.from_numpy(batch)), torch.from_numpy(prompt)).numpy()
        got = run(files["support"], image=batch, prompt=prompt)
        assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max()
        ranges = tensor_ranges(load_graph(files["support"]), {"image": batch, "prompt": prompt})
        to_fp16(files["support"], tmp_path / "half.onnx", ranges)
        half = run(tmp_path / "half.onnx", image=batch, prompt=prompt)
        assert half.dtype == np.float32
        assert np.abs(half - expected).max() < 5e-3 * np.abs(expected).max()


def test_one_row_does_not_depend_on_the_others(bundle: Bundle, checkpoint: Checkpoint, images: NDArray[np.uint8]) -> None:
    prompts = prompts_of(checkpoint, 8)
    file = bundle.graph("support", "fp32")
    together = run(file, image=images[:8], prompt=prompts)
    alone = np.concatenate([run(file, image=images[i : i + 1], prompt=prompts[i : i + 1]) for i in range(8)])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5 * np.abs(alone).max())


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(("graph", "inputs"), [("query", ["image"]), ("support", ["image", "prompt"])])
def test_the_graphs_say_what_they_take(bundle: Bundle, graph: str, inputs: list[str], precision: str) -> None:
    model = onnx.load(bundle.graph(graph, precision))
    kinds = {"image": (TensorProto.UINT8, [64, 64, 3]), "prompt": (TensorProto.FLOAT, [16])}
    kinds["feature"] = (TensorProto.FLOAT, [192])
    values = [*model.graph.input, *model.graph.output]
    kinds["plain"] = kinds["feature"]
    assert [v.name for v in values] == [*inputs, *OUTPUTS[graph]]
    for value in values:
        first, *rest = value.type.tensor_type.shape.dim
        assert first.dim_param == "N"
        assert (value.type.tensor_type.elem_type, [dim.dim_value for dim in rest]) == kinds[value.name]
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == 20
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    assert len(norms) == len(OUTPUTS[graph]), "but for those before the pooling they are folded into convolutions"
    assert not list(bundle.path.glob("*.data")), "the weights are inside"
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    assert convolutions[:3] == ["backbone.stem.0", "backbone.patch_embed1.proj", "backbone.stage1.0.mlp.conv1"]
    assert len(set(convolutions)) == len(convolutions)
    assert str(Path.cwd()).encode() not in bundle.graph(graph, precision).read_bytes(), "no paths of this machine"
    assert b"stack_trace" not in bundle.graph(graph, precision).read_bytes()


@torch.no_grad()
def test_both_opsets_and_both_ways_to_fold_give_the_same_features(
    build_small: Callable[..., PromptedNetwork], tmp_path: Path
) -> None:
    network = build_small(settled=True, image_size=32, prompt_strength=0.5)
    rng = np.random.default_rng(4)
    batch = rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    prompt = rng.normal(0, 2, (3, 16)).astype(np.float32)
    expected = network(Normalization()(torch.from_numpy(batch)), torch.from_numpy(prompt)).numpy()
    operators, identities = {}, {}
    for name, options in (("20", {}), ("19", {"opset": 19}), ("unfolded", {"norms_before": False})):
        (tmp_path / name).mkdir()
        files = export_graphs(network, 32, 16, tmp_path / name, **options)
        got = run(files["support"], image=batch, prompt=prompt)
        assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max()
        identities[name] = [graph_digest(files[graph].read_bytes()) for graph in GRAPHS]
        operators[name] = Counter(node.op_type for node in onnx.load(files["query"]).graph.node)
        names = [node.name for node in onnx.load(files["support"]).graph.node if node.op_type == "Conv"]
        assert len(set(names)) == len(names)
        assert "backbone.stage3.2.attn.qkv/2" in names, "the last layers run twice"
    assert identities["20"] == identities["19"], "banks go with either"
    assert identities["20"] != identities["unfolded"]
    assert operators["20"]["Gelu"] == operators["19"]["Erf"] == 7
    assert sum(operators["20"].values()) == sum(operators["19"].values()) - 4 * 7
    assert (operators["20"]["BatchNormalization"], operators["unfolded"]["BatchNormalization"]) == (
        1,
        1 + 5 + 6,
    )  # before attention, before the MLPs


ELSEWHERE = """
import sys
from pathlib import Path
import torch
from sp_edge.bundle.identity import graph_digest
from sp_edge.training.checkpoint import Checkpoint
from sp_edge_export.onnx import export_graphs
checkpoint = Checkpoint.load(Path(sys.argv[1]))
size, dim = checkpoint.settings.model.image_size, checkpoint.prompts.text.dim
for change in (0.0, 1e-3):
    with torch.no_grad():
        next(checkpoint.network.backbone.parameters()).flatten()[0] += change
    files = export_graphs(checkpoint.network, size, dim, Path(sys.argv[2]))
    print(*(graph_digest(file.read_bytes()) for file in files.values()))
"""


@pytest.mark.slow
def test_an_export_elsewhere_has_the_same_identity_and_another_weight_another(
    bundle: Bundle, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    checkpoint.save(tmp_path / "checkpoint.safetensors")
    command = [sys.executable, "-W", "ignore", "-c", ELSEWHERE, str(tmp_path / "checkpoint.safetensors"), str(tmp_path)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    again, changed = (line.split() for line in said[-2:])
    here = [graph_digest(bundle.read_graph(graph, "fp32")) for graph in GRAPHS]
    assert again == here
    assert not set(changed) & set(here), "the changed weight is in both graphs"


@pytest.mark.parametrize("changes", [{"interaction": "none"}, {"prompt_strength": 0.0}], ids=["no prompt", "no strength"])
def test_a_network_without_prompts_has_a_support_graph_too(
    build_small: Callable[..., PromptedNetwork], images: NDArray[np.uint8], tmp_path: Path, changes: dict[str, Any]
) -> None:
    network = build_small(**changes)
    files = export_graphs(network, 64, 16, tmp_path)
    batch, rng = images[:3].copy(), np.random.default_rng(0)
    with torch.no_grad():
        expected = network(Normalization()(torch.from_numpy(batch))).numpy()
    for scale in (0, 5):
        prompt = (rng.normal(size=(3, 16)) * scale).astype(np.float32)
        for output in OUTPUTS["support"]:
            got = run(files["support"], output, image=batch, prompt=prompt)
            assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max()
    query, support = (Counter(node.op_type for node in onnx.load(file).graph.node) for file in files.values())
    assert support["Conv"] == query["Conv"], "nothing is computed twice"


def test_what_cannot_be_traced_is_an_export_error(
    build_small: Callable[..., PromptedNetwork], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    with pytest.raises(ExportError, match=r"cannot export support\.onnx[\s\S]*RuntimeError: no such operator"):
        export_graphs(build_small(), 64, 16, tmp_path)
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: None)
    with pytest.raises(ExportError, match="returned nothing"):
        export_graphs(build_small(), 64, 16, tmp_path)


@pytest.mark.parametrize(("opset", "batch"), [(20, 2), (18, "N"), (19, "N")])
def test_a_graph_that_is_not_what_was_asked_for_is_refused(
    build_small: Callable[..., PromptedNetwork],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    opset: int,
    batch: int | str,
) -> None:
    class Program:
        def save(self, file: Path) -> None:
            values = [onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 2]) for name in ("image", "feature")]
            node = onnx.helper.make_node("Relu", ["image"], ["feature"])
            graph = onnx.helper.make_graph([node], "g", values[:1], values[1:])
            opsets = [onnx.helper.make_opsetid("", opset)]
            onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9), file)

    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: Program())
    with pytest.raises(ExportError, match=r"is not what was asked for") as caught:
        export_graphs(build_small(), 64, 16, tmp_path)
    assert f"opset {opset}" in caught.value.got
    assert ("image" in caught.value.got) == (batch == 2)


def test_warnings_outside_are_heard_again_afterwards(
    build_small: Callable[..., PromptedNetwork], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(torch.onnx, "export", refuse)
    with pytest.raises(ExportError):
        export_graphs(build_small(), 64, 16, tmp_path)
    with pytest.warns(UserWarning, match="still heard"):
        warnings.warn("still heard", stacklevel=1)
