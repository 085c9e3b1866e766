from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from sp_edge.prompts.reading import Reading, read, same_vectors

UNKNOWN = "[UNK]"


@pytest.fixture
def tokenizer() -> Tokenizer:
    words = {UNKNOWN: 0, "red": 1, "bike": 2, "##s": 3, "!": 4}
    made = Tokenizer(models.WordPiece(words, unk_token=UNKNOWN, max_input_chars_per_word=20))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return made


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        ("red bikes!", Reading()),
        ("独轮", Reading(("独轮",), unreadable=True)),
        ("独轮!", Reading(("独轮",), unreadable=True)),
        ("red 🚲 bike", Reading(("🚲",))),
        ("red 独轮", Reading(("独轮",))),
        ("bike 独轮自行", Reading(("独轮自行",), unreadable=True)),
        ("b" * 600, Reading(("b" * 600,), unreadable=True)),
        ("!", Reading()),
    ],
)
def test_what_a_tokenizer_does_not_know(tokenizer: Tokenizer, text: str, reading: Reading) -> None:
    assert read(tokenizer, text) == reading


def test_a_tokenizer_that_knows_every_text() -> None:
    assert read(Tokenizer(models.BPE({"a": 0, "b": 1}, [])), "ab") == Reading()


def test_names_with_one_vector() -> None:
    vectors = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    names = [str(number) for number in range(300)]
    assert same_vectors(names, vectors) == []
    vectors[[7, 200]] = vectors[3], 2 * vectors[3]
    vectors[250] = vectors[9] + np.float32(1e-6)
    assert same_vectors(names, vectors) == [("3", "7", "200"), ("9", "250")]
    assert same_vectors([], vectors[:0]) == []
