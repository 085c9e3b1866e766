"""open_clip's tokenizer is the independent restatement: its vocabulary comes with the package."""

from __future__ import annotations

import html

import ftfy
import open_clip
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from sp_edge.errors import ExportError, PromptError
from sp_edge.prompts.descriptions import clean_sentence
from sp_edge_export.text.clip_tokenizer import clip_tokenizer

# Characters that no Unicode version has yet are letters to one library and none to another.
ASSIGNED = st.characters(exclude_categories=["Cs", "Cc", "Cn", "Co"])
WORDS = st.sampled_from(
    [
        "it's", "Don\u2019t", "\u201cquoted\u201d", "\ufb01ne", "\uff26\uff55\uff4c\uff4c", "\u039f\u0394\u039f\u03a3",
        "İstanbul", "ß", "café", "cafe\u0301", "🚲", "👩\u200d🚀", "赤い", "自転車", "12345", "a-b", "!!", "'S", "Straße",
        "한국어", "<end_of_text>", "ÅNGSTRÖM", "\uff76\uff9e", "naïve", "x_y", "3.5mm", "№7", "½", "C++", "...", "fish&chips",
    ]
)  # fmt: skip


@pytest.fixture(scope="module")
def original() -> open_clip.SimpleTokenizer:
    return open_clip.get_tokenizer("ViT-B-32")


@pytest.fixture(scope="module")
def converted(original: open_clip.SimpleTokenizer) -> Tokenizer:
    """As a device reads it."""
    return Tokenizer.from_str(clip_tokenizer(original).to_str())


@settings(max_examples=400, deadline=None)
@given(text=st.text(ASSIGNED, max_size=40) | st.lists(WORDS, max_size=8).map(" ".join))
def test_any_text_has_the_same_ids(original: open_clip.SimpleTokenizer, converted: Tokenizer, text: str) -> None:
    try:
        text = clean_sentence(text)
    except PromptError:
        assume(False)
    assume(ftfy.fix_encoding(text) == text and html.unescape(text) == text)
    assert converted.encode(text).ids == [49406, *original.encode(text), 49407]


def test_truncated_it_is_open_clips_row(original: open_clip.SimpleTokenizer, converted: Tokenizer) -> None:
    copy = Tokenizer.from_str(converted.to_str())
    copy.enable_truncation(77)
    for text in ("red fox", "fox " * 75, "fox " * 76, "赤い自転車 " * 40, "🚲" * 100):
        row = original([text])[0].tolist()
        assert copy.encode(text).ids == row[: row.index(49407) + 1]


def test_each_character_that_ftfy_mends(original: open_clip.SimpleTokenizer, converted: Tokenizer) -> None:
    for text in ("\u2018a\u2019 \u201cb\u201d", "\ufb03x", "\uff21\uff10\u3000x", "ŉ", "\ufeffx", "Ǆ", "\uff76\uff9e"):
        assert converted.encode(text).ids == [49406, *original.encode(text), 49407], repr(text)


def test_what_it_does_not_mend(original: open_clip.SimpleTokenizer, converted: Tokenizer) -> None:
    """As the docs say; were it otherwise, the docs would have to change."""
    for text in ("cafÃ©", "caf&eacute;"):
        assert converted.encode(text).ids != [49406, *original.encode(text), 49407]


def test_another_tokenizer_is_refused() -> None:
    with pytest.raises(ExportError, match="cannot convert CLIP's tokenizer"):
        clip_tokenizer(object())
