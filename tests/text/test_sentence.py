"""SBERT's weights cannot be had in a test: a small random MPNet of the same form goes through the real loading."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as parts
from transformers import MPNetConfig, MPNetModel, MPNetTokenizer

from sp_edge.errors import MissingExtraError, PromptError
from sp_edge.text import SBERT, sentence

WORDS = ["<s>", "<pad>", "</s>", "<unk>", "[UNK]", "<mask>", "a", "photo", "of", "red", "fox", "polar", "bear"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("mpnet")
    tokenizer = MPNetTokenizer({word: number for number, word in enumerate(WORDS)})
    tokenizer.save_pretrained(place / "hf")
    torch.manual_seed(0)
    sizes = {"hidden_size": 768, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    MPNetModel(MPNetConfig(vocab_size=len(WORDS), max_position_embeddings=40, **sizes)).save_pretrained(place / "hf")
    transformer = parts.Transformer(str(place / "hf"), max_seq_length=32)
    SentenceTransformer(modules=[transformer, parts.Pooling(768), parts.Normalize()], device="cpu").save(str(place / "st"))
    return place / "st"


@pytest.fixture
def small(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sentence, "SBERT_REPOSITORY", str(folder))
    return folder


def test_sentences_become_unit_vectors(small: Path) -> None:
    encoder = SBERT()
    sentences = ["a photo of red fox", "polar bear", "", "a photo of polar bear"]
    vectors = encoder.encode(sentences)
    assert (encoder.name, encoder.dim, vectors.shape, vectors.dtype) == ("sbert", 768, (4, 768), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    expected = SentenceTransformer(str(small), device="cpu").encode(sentences)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    np.testing.assert_allclose(SBERT().encode(sentences[1:2]), vectors[1:2], atol=1e-5)
    assert np.abs(vectors[1] - vectors[3]).max() > 1e-3
    assert encoder.encode([]).shape == (0, 768)


def test_the_revision_follows_the_weights(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert small.exists()
    first = SBERT().revision
    assert len(first) == 12
    assert SBERT().revision == first

    class Changed(SentenceTransformer):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            with torch.no_grad():
                next(self.parameters())[0, 0] += 1e-3

    monkeypatch.setattr("sentence_transformers.SentenceTransformer", Changed)
    assert SBERT().revision != first


def test_a_sentence_whose_end_would_not_be_read_is_refused(small: Path) -> None:
    assert small.exists()
    assert SBERT().encode(["fox " * 30]).shape == (1, 768)
    with pytest.raises(PromptError, match="would not read the end"):
        SBERT().encode(["fox", "fox " * 31])


def test_what_is_here_is_not_asked_for_elsewhere_and_what_is_nowhere_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def missing(place: str, *, device: str, local_files_only: bool) -> None:
        assert (place, device) == ("sentence-transformers/all-mpnet-base-v2", "cpu")
        asked.append(local_files_only)
        raise OSError("We couldn't connect to the hub")

    monkeypatch.setattr("sentence_transformers.SentenceTransformer", missing)
    with pytest.raises(PromptError, match="cannot load the text encoder sbert") as raised:
        SBERT()
    assert asked == [True, False]
    assert raised.value.got == "We couldn't connect to the hub"
    assert "--set text.encoder=sbert" in raised.value.next_step


def test_without_sentence_transformers_it_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError) as raised:
        SBERT()
    assert (raised.value.package, raised.value.extra) == ("sentence-transformers", "train")
