"""The head's graph decides as `Head.matches` does."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto

import toy
from sp_edge.bank.bank import Bank
from sp_edge.bank.crops import encode_crop
from sp_edge.bank.head import Head
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import BankError
from sp_edge.matching.decide import unit
from sp_edge.matching.metric import Background
from sp_edge.matching.unknown import ByName
from sp_edge_export.servers.head import head_graph

CROP = encode_crop(np.zeros((toy.SIDE, toy.SIDE, 3), np.uint8))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.load(toy.make_bundle(tmp_path_factory.mktemp("head") / "model.spedge"))


def head_of(bundle: Bundle, bank: Bank) -> Head:
    return Head.of(bank, bundle.background(), bundle.manifest.calibration)


def bank_of(bundle: Bundle, shots: NDArray[np.float32], thresholds: list[float]) -> Bank:
    bank = Bank.empty(bundle)
    for index, (shot, threshold) in enumerate(zip(shots, thresholds, strict=True)):
        prompt = np.full(toy.TEXT.dim, index, np.float32)
        bank = bank.add(f"class {index}", prompt, shot[None], shot[None], [CROP], threshold=threshold)
    return bank


def run(model: ModelProto, features: NDArray[np.float32]) -> list[NDArray[np.generic]]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["label", "confidence", "similarity"], {"feature": features})


def test_by_hand(bundle: Bundle) -> None:
    # Two classes along the first two axes. 3 : 4 : 0 lies at cosines 0.6 and 0.8, 0 : 1 : 9 at 0 and 0.11.
    shots = np.eye(2, toy.DIM, dtype=np.float32) * 5
    features = np.zeros((2, toy.DIM), np.float32)
    features[0, :2], features[1, 1:3] = (3, 4), (1, 9)
    labels, confidence, similarity = run(head_graph(head_of(bundle, bank_of(bundle, shots, [0.5, 0.5]))), features)
    assert labels.tolist() == [["class 1"], ["unknown"]]
    np.testing.assert_allclose(similarity[0], [0.6, 0.8], atol=1e-6)
    # softmax of (0.6, 0.8) / 0.2, times 1 / (1 + (0.2 / 0.5)^4)
    assert confidence[0, 1] == pytest.approx(1 / (1 + np.exp(-1)) / (1 + 0.4**4), abs=1e-6)


def several(bundle: Bundle, random: np.random.Generator, classes: int) -> Bank:
    """Classes with 1 to 3 shots each, some with a threshold of their own."""
    bank = Bank.empty(bundle)
    for index in range(classes):
        shots = (random.normal(size=toy.DIM) + 0.5 * random.normal(size=(random.integers(1, 4), toy.DIM))).astype(np.float32)
        prompt, pictures = np.full(toy.TEXT.dim, index, np.float32), [CROP] * len(shots)
        threshold = float(random.uniform(-0.3, 0.5)) if random.random() < 0.7 else None
        bank = bank.add(f"class {index}", prompt, shots, shots, pictures, threshold=threshold)
    if random.random() < 0.5:
        bank = bank.add_by_name("a name", np.zeros(toy.TEXT.dim, np.float32), random.normal(size=toy.DIM).astype(np.float32))
        bank = bank.add_reject("class 0", random.normal(size=(1, toy.DIM)).astype(np.float32), [CROP])
    return bank


@pytest.mark.parametrize("classifier", ["prototype", "lr"])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(1, 6), queries=st.integers(1, 5))
def test_decides_as_the_runtime_does(bundle: Bundle, classifier: str, seed: int, classes: int, queries: int) -> None:
    random = np.random.default_rng(seed)
    bank = several(bundle, random, classes)
    near = bank.query[[0, -1]] + 0.3 * random.normal(size=(2, toy.DIM))
    features = np.concatenate([random.normal(size=(queries, toy.DIM)), near, np.zeros((1, toy.DIM))]).astype(np.float32)
    spread = random.normal(size=(toy.DIM, toy.DIM)).astype(np.float32)
    mean = unit(random.normal(size=toy.DIM)) * np.float32(random.uniform(0, 0.9))
    calibration = dataclasses.replace(toy.calibration(), by_name=ByName(0.3, 1.5, 0.4))
    head = Head.of(bank, Background(mean, spread @ spread.T), calibration, classifier=classifier)
    labels, confidence, similarity = run(head_graph(head), features)
    np.testing.assert_allclose(similarity, head.similarities(features), atol=1e-5)
    for label, row, found in zip(labels[:, 0], confidence, head.matches(features, topk=len(bank.names)), strict=True):
        assert label == found.label
        shares = dict(found.top)
        np.testing.assert_allclose(row, [shares[name] for name in bank.names], atol=1e-4)


def test_logistic_regression_by_hand(bundle: Bundle) -> None:
    # The cosines say class 1, the weights class 0, whose own cosine, 0.6, decides on 'unknown'.
    head = head_of(bundle, bank_of(bundle, np.eye(2, toy.DIM, dtype=np.float32), [0.5, 0.9]))
    weights = np.zeros((2, toy.DIM), np.float32)
    weights[:, 0] = (5, 0)
    head = dataclasses.replace(head, weights=weights, intercepts=np.array([0, 1], np.float32))
    feature = np.zeros((1, toy.DIM), np.float32)
    feature[0, :2] = (3, 4)
    labels, confidence, similarity = run(head_graph(head), feature)
    assert labels.tolist() == [["class 0"]]
    np.testing.assert_allclose(similarity, [[0.6, 0.8]], atol=1e-6)
    # softmax of (5 * 0.6, 1), times 1 / (1 + (0.4 / 0.5)^4)
    taught = 1 / (1 + 0.8**4)
    np.testing.assert_allclose(confidence, [[taught / (1 + np.exp(-2)), taught / (1 + np.exp(2))]], atol=1e-6)
    strict = dataclasses.replace(head, thresholds=np.array([0.7, 0], np.float32))
    assert run(head_graph(strict), feature)[0].tolist() == [["unknown"]]


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_the_number_of_classes_is_open_to_onnx_runtime(bundle: Bundle, classes: int) -> None:
    bank = bank_of(bundle, np.eye(classes, toy.DIM, dtype=np.float32), [0.5] * classes)
    model = head_graph(head_of(bundle, bank)).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    label, *scores = session.get_outputs()
    assert (label.name, label.shape) == ("label", ["N", 1])
    assert [score.name for score in scores] == ["confidence", "similarity"]
    for score in scores:
        batch, columns = score.shape
        assert batch == "N"
        assert not isinstance(columns, int), "Triton refuses dims: -1 for a number that the session says"


def test_names_pass_in_any_script(bundle: Bundle) -> None:
    bank = bank_of(bundle, np.eye(1, toy.DIM, dtype=np.float32), [0.5])
    prompt, shot = np.ones(toy.TEXT.dim, np.float32), np.eye(1, toy.DIM, k=1, dtype=np.float32)
    bank = bank.add("赤い 自転車", prompt, shot, shot, [CROP], threshold=0.5)
    labels, _, _ = run(head_graph(head_of(bundle, bank)), shot)
    assert labels.tolist() == [["赤い 自転車"]]


def test_nothing_taught(bundle: Bundle) -> None:
    with pytest.raises(BankError, match="the bank is empty"):
        head_graph(head_of(bundle, Bank.empty(bundle)))
