"""The head's graph decides as `Head.matches` does."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto

import toy
from sp_edge.bank import Bank
from sp_edge.bundle import Bundle
from sp_edge.errors import BankError, SettingsError
from sp_edge.head import Head
from sp_edge_export.head import head_graph


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.load(toy.make_bundle(tmp_path_factory.mktemp("head") / "model.spedge"))


def head_of(bundle: Bundle, bank: Bank, classifier: str = "prototype") -> Head:
    return Head.of(bank, bundle.background(), bundle.manifest.calibration, classifier=classifier)


def bank_of(bundle: Bundle, shots: NDArray[np.float32], thresholds: list[float]) -> Bank:
    bank = Bank.empty(bundle)
    for index, (shot, threshold) in enumerate(zip(shots, thresholds, strict=True)):
        prompt = np.full(toy.TEXT.dim, index, np.float32)
        picture = np.zeros((1, 64, 64, 3), np.uint8)
        bank = bank.add(f"class {index}", prompt, shot[None], shot[None], picture, threshold=threshold)
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


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(1, 6), queries=st.integers(1, 5))
def test_decides_as_matching_does(bundle: Bundle, seed: int, classes: int, queries: int) -> None:
    random = np.random.default_rng(seed)
    shots = random.normal(size=(classes, toy.DIM)).astype(np.float32)
    features = np.concatenate([random.normal(size=(queries, toy.DIM)), shots[:1], np.zeros((1, toy.DIM))]).astype(np.float32)
    bank = bank_of(bundle, shots, random.uniform(-0.3, 0.5, classes).tolist())
    spread = random.normal(size=(toy.DIM, toy.DIM)).astype(np.float32)
    head = Head.of(bank, spread @ spread.T, toy.calibration())
    labels, confidence, similarity = run(head_graph(head), features)
    np.testing.assert_allclose(similarity, head.similarities(features), atol=1e-5)
    expected = head.matches(features)
    np.testing.assert_allclose(confidence.max(axis=1), [found.confidence for found in expected], atol=1e-4)
    assert labels[:, 0].tolist() == [found.label for found in expected]


def test_names_pass_in_any_script(bundle: Bundle) -> None:
    bank = bank_of(bundle, np.eye(1, toy.DIM, dtype=np.float32), [0.5])
    prompt, shot = np.ones(toy.TEXT.dim, np.float32), np.eye(1, toy.DIM, k=1, dtype=np.float32)
    bank = bank.add("赤い 自転車", prompt, shot, shot, np.zeros((1, 64, 64, 3), np.uint8), threshold=0.5)
    labels, _, _ = run(head_graph(head_of(bundle, bank)), shot)
    assert labels.tolist() == [["赤い 自転車"]]


def test_nothing_taught(bundle: Bundle) -> None:
    with pytest.raises(BankError, match="the bank is empty"):
        head_graph(head_of(bundle, Bank.empty(bundle)))


def test_another_classifier(bundle: Bundle) -> None:
    bank = bank_of(bundle, np.eye(2, toy.DIM, dtype=np.float32), [0.5, 0.5])
    with pytest.raises(SettingsError, match="nearest prototypes"):
        head_graph(head_of(bundle, bank, "lr"))
