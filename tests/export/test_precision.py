from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from sp_edge.accuracy import Accuracy, Difference
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import ExportError
from sp_edge.matching.decide import unit
from sp_edge.model import build_network
from sp_edge.precisions import PRECISIONS
from sp_edge.settings.settings import ModelSettings
from sp_edge.training.checkpoint import Checkpoint
from sp_edge_calibration.graph import load_graph
from sp_edge_calibration.quantize import quantizable
from sp_edge_calibration.quantize_cpu import quantizable_on_cpu
from sp_edge_calibration.ranges import tensor_ranges
from sp_edge_export.onnx import export_graphs
from sp_edge_export.precisions import fp16
from sp_edge_export.precisions import int8 as module
from sp_edge_export.precisions.conversion import Conversion, Graphs
from sp_edge_export.precisions.fp16 import to_fp16
from sp_edge_export.precisions.int8 import to_int8
from sp_edge_export.verify import Parity


def run(file: Path, inputs: dict[str, NDArray[np.generic]]) -> NDArray[np.float32]:
    return np.asarray(onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"]).run(["feature"], inputs)[0])


def cosines(got: NDArray[np.float32], expected: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((unit(got) * unit(expected)).sum(axis=1))


def half(source: Path, target: Path, inputs: dict[str, NDArray[np.generic]]) -> list[str]:
    return to_fp16(source, target, tensor_ranges(load_graph(source), inputs))


def int8(source: Path, target: Path, inputs: dict[str, NDArray[np.generic]]) -> list[str]:
    model = load_graph(source)
    return to_int8(model, target, tensor_ranges(model, inputs))


@pytest.fixture(scope="module")
def inputs(images: NDArray[np.uint8], checkpoint: Checkpoint) -> dict[str, dict[str, NDArray[np.generic]]]:
    return {"query": {"image": images}, "support": {"image": images, "prompt": checkpoint.prompts.vectors[: len(images)]}}


@pytest.mark.parametrize("graph", ["query", "support"])
def test_fp16_agrees(bundle: Bundle, inputs: dict[str, dict[str, NDArray[np.generic]]], tmp_path: Path, graph: str) -> None:
    source = bundle.graph(graph, "fp32")
    before = source.read_bytes()
    assert half(source, tmp_path / "half.onnx", inputs[graph]) == []
    assert source.read_bytes() == before
    assert (tmp_path / "half.onnx").stat().st_size < 0.6 * len(before)
    got, expected = run(tmp_path / "half.onnx", inputs[graph]), run(source, inputs[graph])
    assert not np.array_equal(got, expected)
    assert cosines(got, expected).min() > 0.9999


@pytest.mark.parametrize("graph", ["query", "support"])
def test_int8_agrees_and_is_half_beside_its_convolutions(
    bundle: Bundle, inputs: dict[str, dict[str, NDArray[np.generic]]], tmp_path: Path, graph: str
) -> None:
    source = bundle.graph(graph, "fp32")
    before = source.read_bytes()
    assert int8(source, tmp_path / "int8.onnx", inputs[graph]) == []
    assert source.read_bytes() == before
    model = onnx.load(tmp_path / "int8.onnx")
    onnx.checker.check_model(model, full_check=True)
    operators = Counter(node.op_type for node in model.graph.node)
    # A convolution but the stem has a pair for its data and one for its weights.
    assert operators["QuantizeLinear"] == operators["DequantizeLinear"] == 2 * (operators["Conv"] - 1)
    scales = {node.input[1] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    constants = {c.name: c for c in model.graph.initializer}
    assert {constants[name].data_type for name in scales} == {TensorProto.FLOAT16}
    assert all((numpy_helper.to_array(constants[name]) > 0).all() for name in scales)
    got, expected = run(tmp_path / "int8.onnx", inputs[graph]), run(source, inputs[graph])
    assert got.dtype == np.float32
    assert 0.98 < cosines(got, expected).min() < 1 - 1e-6


def test_the_support_graphs_plain_feature_is_quantised_as_the_query_graphs(
    bundle: Bundle, inputs: dict[str, dict[str, NDArray[np.generic]]], tmp_path: Path
) -> None:
    scales, features = {}, {}
    for graph, output in (("query", "feature"), ("support", "plain")):
        file = tmp_path / f"{graph}.onnx"
        int8(bundle.graph(graph, "fp32"), file, inputs[graph])
        constants = {c.name: numpy_helper.to_array(c) for c in onnx.load(file).graph.initializer}
        scales[graph] = {name: value for name, value in constants.items() if "/scale" in name}
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        features[graph] = np.asarray(session.run([output], inputs[graph])[0])
    assert len(scales["query"]) == 2 * 26
    for name, value in scales["query"].items():
        np.testing.assert_allclose(scales["support"][name], value, rtol=1e-3, err_msg=name)
    assert cosines(features["support"], features["query"]).min() > PRECISIONS["int8"].plain_cosine_min


def loud(bundle: Bundle, graph: str, file: Path) -> Path:
    """The stem's weights times 1e5, and what follows its ReLU by as much less: the same features, but float16 ends between."""
    model = onnx.load(bundle.graph(graph, "fp32"))
    for constant in model.graph.initializer:
        if "stem.0" in constant.name or constant.name.endswith("patch_embed1.proj.weight"):
            factor = 1e5 if "stem.0" in constant.name else 1e-5
            values = numpy_helper.to_array(constant) * np.float32(factor)
            constant.CopyFrom(numpy_helper.from_array(values.astype(np.float32), constant.name))
    onnx.save(model, file)
    return file


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("graph", ["query", "support"])
def test_a_network_that_overflows_stays_float32_where_it_does(
    bundle: Bundle, inputs: dict[str, dict[str, NDArray[np.generic]]], tmp_path: Path, graph: str, quantised: bool
) -> None:
    source = loud(bundle, graph, tmp_path / "loud.onnx")
    expected = run(bundle.graph(graph, "fp32"), inputs[graph])
    assert cosines(run(source, inputs[graph]), expected).min() > 0.99999, "the network is the same"
    whole = (int8 if quantised else half)(source, tmp_path / "made.onnx", inputs[graph])
    assert {"backbone.stem.0", "backbone.patch_embed1.proj"} <= set(whole)
    assert len(whole) <= (6 if quantised else 3), "and nothing else"
    got = run(tmp_path / "made.onnx", inputs[graph])
    assert cosines(got, expected).min() > (0.98 if quantised else 0.9999)


@dataclass
class Judge:
    """Stands for the gate: int8 passes once so many layers are left out; every attempt is noted."""

    needed: int
    seen: list[int] = field(default_factory=list)

    def __call__(self, files: Mapping[str, Path]) -> Parity:
        query, support = (
            {node.name for node in onnx.load(file).graph.node if node.name.endswith("/data/quantise")}
            for file in files.values()
        )
        assert query == {name.replace("/2/", "/") for name in support}, "both graphs in the same layers"
        assert query <= support, "the plain feature, too"
        self.seen.append(len(query))
        passes = len(query) <= 26 - self.needed
        some = Accuracy(0.8, 0.01, 600)
        return Parity("int8", "fp32", 0.99, 0.99, 1.0, 0.1, 4, some, some, Difference(0.0 if passes else -0.5, 0.001, 600))


def job(
    files: Graphs, inputs: dict[str, dict[str, NDArray[np.generic]]], judge: Judge, folder: Path, **variants: Graphs
) -> Conversion:
    targets = {graph: folder / f"{graph}.int8.onnx" for graph in files}
    return Conversion(files, targets, inputs, lambda _folder: variants, judge, 0.01)


def test_ranges_are_measured_once_for_all_conversions(
    bundle: Bundle, inputs: dict[str, dict[str, NDArray[np.generic]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def counted(model: onnx.ModelProto, rows: dict[str, NDArray[np.generic]]) -> dict[str, tuple[float, float]]:
        seen.append(len(model.graph.input))
        return tensor_ranges(model, rows)

    monkeypatch.setattr("sp_edge_export.precisions.conversion.tensor_ranges", counted)
    monkeypatch.setattr(module, "tensor_ranges", counted)
    files = {graph: bundle.graph(graph, "fp32") for graph in ("query", "support")}
    work = job(files, inputs, Judge(0), tmp_path)
    for convert in (fp16.convert, module.convert, module.convert_for_cpu):
        convert(replace(work, targets=work.targets))
    assert seen == [1, 2], "of the query graph, and of the support graph"


def test_a_network_of_which_nothing_can_be_quantised_is_refused(
    bundle: Bundle, inputs: dict[str, dict[str, NDArray[np.generic]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "quantizable", lambda _: [])
    files = {graph: bundle.graph(graph, "fp32") for graph in ("query", "support")}
    judge = Judge(0)
    with pytest.raises(ExportError, match=r"int8 would quantize nothing of this network[\s\S]*next: --precision fp16"):
        module.convert(job(files, inputs, judge, tmp_path))
    assert judge.seen == []


def test_the_linear_layers_of_a_vision_transformer_are_quantised_in_both_graphs(tmp_path: Path) -> None:
    settings = ModelSettings(backbone="timm:test_vit", image_size=64, interaction="spatial", layer="last")
    files = export_graphs(build_network(settings, 8).eval(), 64, 8, tmp_path)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (16, 64, 64, 3), dtype=np.uint8)
    prompt = rng.normal(size=(16, 8)).astype(np.float32)
    inputs = {"query": {"image": image}, "support": {"image": image, "prompt": prompt}}
    parts = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    expected = [f"backbone.blocks.{block}.{part}" for block in range(6) for part in parts]
    some = Accuracy(0.8, 0.01, 600)
    passes = Parity("int8", "fp32", 0.99, 0.99, 1.0, 0.1, 4, some, some, Difference(0.0, 0.001, 600))
    targets = {graph: tmp_path / f"{graph}.int8.onnx" for graph in files}
    module.convert(Conversion(files, targets, inputs, lambda _: {}, lambda _: passes, 0.01))
    for graph, file in files.items():
        assert [layer.name for layer in quantizable(onnx.load(file))] == expected
        pairs = Counter(node.op_type for node in onnx.load(targets[graph]).graph.node)
        assert pairs["QuantizeLinear"] == 2 * len(expected), "data and weights of each"
    least = cosines(run(targets["query"], inputs["query"]), run(files["query"], inputs["query"])).min()
    assert 0.99 < least < 0.999999
    module.convert_for_cpu(Conversion(files, targets, inputs, lambda _: {}, lambda _: passes, 0.01))
    for target in targets.values():
        nodes = onnx.load(target).graph.node
        makers = {output: node.op_type for node in nodes for output in node.output}
        products = [node for node in nodes if node.name in expected]
        assert len(products) == len(expected)
        assert {makers[data] for node in products for data in node.input} == {"DequantizeLinear"}
        taken = {data for node in nodes if node.op_type == "QuantizeLinear" for data in node.input}
        assert not taken & {node.output[0] for node in products}, "residual sums stay in float"
    least = cosines(run(targets["query"], inputs["query"]), run(files["query"], inputs["query"])).min()
    assert 0.98 < least < 0.999999


@pytest.mark.parametrize(
    ("needed", "attempts"),
    [
        (0, [26, 26, 26]),
        (1, [26, 26, 26, 25]),
        (3, [26, 26, 26, 25, 24, 22, 23]),
        (4, [26, 26, 26, 25, 24, 22, 23, 22]),
        (17, [26, 26, 26, 25, 24, 22, 18, 10, 1, 6, 8, 9]),
    ],
)
def test_costly_layers_are_left_out_until_it_passes(
    bundle: Bundle,
    inputs: dict[str, dict[str, NDArray[np.generic]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    needed: int,
    attempts: list[int],
    log: pytest.LogCaptureFixture,
) -> None:
    files = {graph: bundle.graph(graph, "fp32") for graph in ("query", "support")}
    names = [layer.name for layer in quantizable(onnx.load(files["query"]))]
    costs = {name: 1.0 / (1 + rank) for rank, name in enumerate(reversed(names))}
    monkeypatch.setattr(module, "sensitivities", lambda *_, **__: costs)
    judge = Judge(needed)
    made = module.convert(job(files, inputs, judge, tmp_path, unfolded=files))
    assert judge.seen == attempts
    assert made.searched
    left = [name.partition("/")[0] for name in made.record["float16"]]
    assert list(dict.fromkeys(left)) == names[::-1][:needed][::-1], "not one more than needed"
    assert made.record["variant"] == "folded", "a tie is for the first"
    assert ("sensitivity" in made.record) == bool(needed)
    if needed:
        assert made.record["sensitivity"]["cosine_lost"] == costs
        assert any("does not pass with every layer quantized" in word for word in log.messages)


def test_costly_layers_of_the_form_for_cpus_are_left_in_float32(
    bundle: Bundle, inputs: dict[str, dict[str, NDArray[np.generic]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {graph: bundle.graph(graph, "fp32") for graph in ("query", "support")}
    names = [layer.name for layer in quantizable_on_cpu(onnx.load(files["query"]))]
    monkeypatch.setattr(module, "sensitivities", lambda *_, **__: dict.fromkeys(names[::-1], 0.5))
    some = Accuracy(0.8, 0.01, 600)

    def judge(targets: Graphs) -> Parity:
        model = onnx.load(targets["query"])
        constants = {c.name: c for c in model.graph.initializer}
        whole = sum(node.op_type == "Conv" and node.input[1] in constants for node in model.graph.node)
        return Parity("int8-cpu", "fp32", 0.99, 0.99, 1.0, 0.1, 4, some, some, Difference(-float(whole < 3), 0.001, 600))

    targets = {graph: tmp_path / f"{graph}.onnx" for graph in files}
    made = module.convert_for_cpu(Conversion(files, targets, inputs, lambda _: {}, judge, 0.01))
    left = made.record["float32"]
    assert left["query"] == left["support"], "the same layers in both"
    assert {name.partition("/")[0] for name in left["query"]} == set(names[-3:])
    assert set(names[-3:]) <= {node.name for node in onnx.load(targets["query"]).graph.node if node.op_type == "Conv"}
    assert (set(made.record) & {"float16", "limit"}, set(made.record["tried"])) == (set(), {"folded"})


def test_what_never_passes_is_left_to_the_gate(
    bundle: Bundle, inputs: dict[str, dict[str, NDArray[np.generic]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {graph: bundle.graph(graph, "fp32") for graph in ("query", "support")}
    names = [layer.name for layer in quantizable(onnx.load(files["query"]))]
    monkeypatch.setattr(module, "sensitivities", lambda *_, **__: dict.fromkeys(names, 0.5))
    made = module.convert(job(files, inputs, Judge(1000), tmp_path))
    assert 0 < len({name.partition("/")[0] for name in made.record["float16"]}) < len(names), (
        "a graph with no int8 in it is no int8 graph"
    )


def test_the_better_variant_wins_only_beyond_chance() -> None:
    some = Accuracy(0.8, 0.01, 600)
    folded = Parity("int8", "fp32", 0.99, 0.99, 1.0, 0.1, 4, some, some, Difference(-0.004, 0.002, 600))
    ahead = replace(folded, drop=Difference(-0.0005, 0.002, 600))
    assert module._better({"folded": folded, "unfolded": ahead}, 0.01) == "unfolded"
    near = replace(folded, drop=Difference(-0.003, 0.002, 600))
    assert module._better({"folded": folded, "unfolded": near}, 0.01) == "folded"
    assert module._better({"folded": folded, "unfolded": near}, 0.0035) == "unfolded", "it passes, the other does not"
    assert module._better({"folded": near, "unfolded": folded}, 0.0035) == "folded"
