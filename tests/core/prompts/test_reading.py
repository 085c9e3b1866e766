from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

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


def test_the_marks_around_a_text_are_no_part_of_it(tokenizer: Tokenizer) -> None:
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{UNKNOWN} $A {UNKNOWN}", special_tokens=[(UNKNOWN, 0)])
    assert read(tokenizer, "red") == Reading()


def test_vectors_are_one_up_to_the_rounding_of_sums() -> None:
    """Cosines of 1 - 5e-7 and of 1 - 2e-6."""
    assert same_vectors(["a", "b"], np.array([[1, 0], [1, 1e-3]], np.float32)) == [("a", "b")]
    assert same_vectors(["a", "b"], np.array([[1, 0], [1, 2e-3]], np.float32)) == []
    assert same_vectors(["a", "b"], np.array([[1, 0], [-1, 0]], np.float32)) == []
    assert same_vectors(["a", "b"], np.zeros((2, 2), np.float32)) == [], "nothing is known of them"


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(1e-3, 1e3)), max_size=12))
def test_groups_of_names_in_their_order(drawn: list[tuple[int, float]]) -> None:
    bases = np.random.default_rng(1).normal(size=(5, 8))
    names = [f"name {number}" for number in range(len(drawn))]
    vectors = np.array([length * bases[base] for base, length in drawn], np.float32).reshape(-1, 8)
    groups: dict[int, tuple[str, ...]] = {}
    for name, (base, _) in zip(names, drawn, strict=True):
        groups[base] = (*groups.get(base, ()), name)
    expected = sorted((group for group in groups.values() if len(group) > 1), key=lambda group: names.index(group[0]))
    assert same_vectors(names, vectors) == expected


def test_names_with_one_vector() -> None:
    vectors = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    names = [str(number) for number in range(300)]
    assert same_vectors(names, vectors) == []
    vectors[[7, 200]] = vectors[3], 2 * vectors[3]
    vectors[250] = vectors[9] + np.float32(1e-6)
    assert same_vectors(names, vectors) == [("3", "7", "200"), ("9", "250")]
    assert same_vectors([], vectors[:0]) == []
