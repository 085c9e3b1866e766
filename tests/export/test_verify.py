from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

import toy
from sp_edge.accuracy import Accuracy, Difference
from sp_edge.bundle.bundle import Bundle
from sp_edge.data.episodes import Features
from sp_edge.errors import ExportError
from sp_edge.precisions import EXPORTED, PRECISIONS
from sp_edge_export.verify import GraphFeatures, Parity, Probe, check_golden, compare, graph_features

NO_DROP = Difference(0.0, 0.002, 600)
GOOD = Parity("fp16", "fp32", 1.0, 1.0, 1.0, 0.0, 4, Accuracy(0.8, 0.01, 600), Accuracy(0.8, 0.01, 600), NO_DROP)


def check(parity: Parity, max_drop: float) -> None:
    if (failure := parity.failure(max_drop)) is not None:
        raise failure


def floats(*rows: list[float]) -> NDArray[np.float32]:
    return np.array(rows, np.float32)


def probe(count: int = 8, **changes: int) -> Probe:
    """Two classes by turns."""
    return Probe(
        np.zeros((count, 1, 1, 3), np.uint8),
        np.arange(count, dtype=np.int64) % 2,
        np.zeros((count, 1), np.float32),
        n_way=2,
        n_query=2,
        **changes,
    )


def two_sides(count: int = 8) -> NDArray[np.float32]:
    """Features that tell the two classes apart."""
    return floats(*([1.0, 0.1] if i % 2 else [0.1, 1.0] for i in range(count)))


def test_compare_measures_by_hand() -> None:
    before = Features(two_sides(), two_sides())
    turned = two_sides()
    turned[0] = [1.0, -0.1]  # at a right angle to (0.1, 1)
    plain = turned.copy()
    plain[5] = [1.0, 1.0]  # where the query is (1, 0.1)
    parity = compare("fp16", GraphFeatures(turned, two_sides() * 3, plain), "fp32", before, probe())
    assert parity.plain_cosine_min == pytest.approx(1.1 / math.sqrt(2 * 1.01))
    assert parity.cosine_min == pytest.approx(0, abs=1e-6)
    assert parity.cosine_mean == pytest.approx(15 / 16), "a feature three times as long points the same way"
    assert parity.largest_difference == pytest.approx(2)
    assert parity.pictures == 8
    assert parity.accuracy_before == Accuracy(1.0, 0.0, 600)
    assert parity.accuracy.mean < 1
    assert (parity.stage, parity.against) == ("fp16", "fp32")
    assert parity.drop.mean == pytest.approx(parity.accuracy.mean - 1)
    assert 0 < parity.drop.interval < 0.05
    assert parity.to_json()["accuracy_before"] == {"mean": 1.0, "interval": 0.0, "episodes": 600}


def test_both_stages_are_measured_on_the_same_episodes() -> None:
    noise = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    features = GraphFeatures(noise, noise[::-1].copy(), noise)
    parity = compare("fp32", features, "pytorch", features, probe())
    assert parity.accuracy == parity.accuracy_before
    assert 0 < parity.accuracy.mean < 1


@pytest.mark.parametrize("stage", EXPORTED)
def test_a_stage_passes_up_to_each_limit_and_not_beyond(stage: str) -> None:
    mean, least = PRECISIONS[stage].cosine_mean, PRECISIONS[stage].cosine_min
    edge = dataclasses.replace(GOOD, stage=stage, cosine_mean=mean, cosine_min=least)
    check(edge, 0.01)
    for change in ({"cosine_mean": mean - 1e-6}, {"cosine_min": least - 1e-6}, {"cosine_mean": np.nan}, {"cosine_min": np.nan}):
        with pytest.raises(ExportError, match=f"the {stage} graphs compute other features than fp32"):
            check(dataclasses.replace(edge, **change), 0.01)


@pytest.mark.parametrize("stage", EXPORTED)
def test_the_support_graphs_plain_features_are_the_query_graphs(stage: str) -> None:
    """A bank's thresholds come from the one, and what they are held against from the other."""
    check(dataclasses.replace(GOOD, stage=stage, plain_cosine_min=PRECISIONS[stage].plain_cosine_min), 0.01)
    for cosine in (PRECISIONS[stage].plain_cosine_min - 1e-6, np.nan):
        with pytest.raises(ExportError, match=f"the {stage} support graph gives other plain features than the query graph"):
            check(dataclasses.replace(GOOD, stage=stage, plain_cosine_min=cosine), 0.01)


def test_a_stage_may_lose_so_much_accuracy_and_no_more() -> None:
    worse = dataclasses.replace(GOOD, accuracy=Accuracy(0.75, 0.01, 600), drop=Difference(-0.05, 0.002, 600))
    check(worse, 0.0501)
    with pytest.raises(
        ExportError, match=r"the fp16 graphs are less accurate than fp32[\s\S]*0\.0500 ± 0\.0020 .*80\.0 .* to 75\.0"
    ):
        check(worse, 0.0499)
    check(dataclasses.replace(GOOD, accuracy=Accuracy(0.9, 0.01, 600), drop=Difference(0.1, 0.002, 600)), 0)


def test_features_that_are_not_numbers_do_not_pass() -> None:
    before = Features(two_sides(), two_sides())
    for bad in (np.nan, np.inf):
        query = two_sides()
        query[3, 0] = bad
        with np.errstate(invalid="ignore"), pytest.raises(ExportError, match="compute other features"):
            check(compare("fp16", GraphFeatures(query, two_sides(), query), "fp32", before, probe()), 1.0)


def test_graph_features_in_batches(tmp_path: Path) -> None:
    bundle = Bundle.load(toy.make_bundle(tmp_path / "toy"))
    images = np.random.default_rng(0).integers(0, 256, (70, toy.SIDE, toy.SIDE, 3), dtype=np.uint8)
    prompts = np.random.default_rng(1).normal(size=(70, toy.TEXT.dim)).astype(np.float32)
    got = graph_features({g: bundle.graph(g) for g in ("query", "support")}, images, prompts)
    np.testing.assert_allclose(got.query, toy.features(images), atol=1e-5)
    np.testing.assert_allclose(got.support, toy.features(images, prompts), atol=1e-5)
    np.testing.assert_allclose(got.plain, toy.features(images), atol=1e-5)


def test_golden_pictures_agree_for_every_precision(bundle: Bundle) -> None:
    found = check_golden(bundle)
    assert list(found) == ["fp32", "fp16"]
    assert 0.99999 < found["fp32"] <= 1.000001
    assert 0.999 < found["fp16"] <= 1.000001


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("graph", ["query", "support"])
def test_golden_pictures_find_a_graph_with_other_weights(own_bundle: Path, graph: str, precision: str) -> None:
    file = Bundle.load(own_bundle).graph(graph, precision)
    model = onnx.load(file)
    weights = [c for c in model.graph.initializer if numpy_helper.to_array(c).ndim == 4]
    values = numpy_helper.to_array(weights[-1]).copy()
    weights[-1].CopyFrom(numpy_helper.from_array(values[:, ::-1].copy(), weights[-1].name))
    onnx.save(model, file)
    toy.reseal(own_bundle)
    with pytest.raises(ExportError, match=f"the {precision} graphs give other features here"):
        check_golden(Bundle.load(own_bundle))


@pytest.mark.parametrize("content", ["query", "nonsense"])
def test_golden_pictures_find_what_is_no_such_graph(own_bundle: Path, content: str) -> None:
    if content == "query":
        shutil.copy(own_bundle / "query.onnx", own_bundle / "support.onnx")
    else:
        (own_bundle / "support.onnx").write_bytes(b"nonsense")
    toy.reseal(own_bundle)
    with pytest.raises(ExportError, match=r"support\.onnx"):
        check_golden(Bundle.load(own_bundle))


def test_golden_pictures_find_features_that_are_not_numbers(own_bundle: Path) -> None:
    model = onnx.load(own_bundle / "query.onnx")
    weights = next(c for c in model.graph.initializer if numpy_helper.to_array(c).ndim == 4)
    weights.CopyFrom(numpy_helper.from_array(np.full_like(numpy_helper.to_array(weights), np.nan), weights.name))
    onnx.save(model, own_bundle / "query.onnx")
    toy.reseal(own_bundle)
    with pytest.raises(ExportError, match="the fp32 graphs give other features here"):
        check_golden(Bundle.load(own_bundle))


def test_places_that_are_scored_otherwise_do_not_pass() -> None:
    scores = np.zeros((8, 2, 3), np.float32)
    before = GraphFeatures(two_sides(), two_sides(), two_sides(), scores)
    for off, passes in ((0.04, True), (0.06, False), (float("nan"), False)):
        after = GraphFeatures(two_sides(), two_sides(), two_sides(), scores + np.float32(off))
        failure = compare("fp16", after, "fp32", before, probe()).failure(0.01)
        assert (failure is None) == passes
    assert failure is not None
    assert "scores places otherwise" in failure.what
    assert (
        compare("fp16", GraphFeatures(two_sides(), two_sides(), two_sides()), "fp32", before, probe()).score_difference is None
    )
