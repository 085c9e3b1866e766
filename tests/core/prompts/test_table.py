from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save

from hostile import damaged
from sp_edge.errors import PromptError
from sp_edge.prompts.spelling import spelling_key
from sp_edge.prompts.table import (
    MAX_NAME,
    PromptTable,
    TextSpec,
    class_vectors,
    clean_name,
    is_stored_name,
    rescaled,
)
from sp_edge.tensors import save_tensors

TEXT = TextSpec("toy", "0" * 64, "A photo of {name}", 9.0, 4)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def is_name(name: str) -> bool:
    try:
        clean_name(name)
    except PromptError:
        return False
    return True


def table(*names: str, text: TextSpec = TEXT, start: int = 0) -> PromptTable:
    return PromptTable(text, names, np.arange(start, start + len(names) * text.dim, dtype=np.float32).reshape(-1, text.dim))


# --- names ---


@pytest.mark.parametrize(
    ("written", "clean"),
    [
        ("red fox", "red fox"),
        ("red_fox", "red fox"),
        ("__red___fox__", "red fox"),
        ("  red \t\n fox ", "red fox"),
        ("red\u00a0fox\u2003\u3000", "red fox"),
        ("cafe\u0301", "caf\u00e9"),
        ("\u1112\u1161\u11ab", "\ud55c"),
        ("Red Fox", "Red Fox"),
        ("carpenter's kit", "carpenter's kit"),
        ("北极熊", "北极熊"),
        ("👩\u200d🔬", "👩\u200d🔬"),
        ("0", "0"),
        ("mug\u202e", "mug"),
        ("\u202agum\u202c", "gum"),
        ("\u2066a\u2069 \u200eb\u200f", "a b"),
        ("m\u200bu\u00adg\ufeff", "mug"),
        ("a \u2060 b", "a b"),
        ("e\u200b\u0301", "\u00e9"),
        ("m\u200du\u200cg\u200d", "mug"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
        ("\u0915\u094d\u200d\u200d\u0937", "\u0915\u094d\u200d\u0937"),
        ("\U0001f3f4\U000e0067\U000e0062\U000e007f", "\U0001f3f4\U000e0067\U000e0062\U000e007f"),
        ("a\U000e0067", "a"),
        ("\u0600\u0661", "\u0600\u0661"),
        ("\u2764\ufe0f", "\u2764\ufe0f"),
    ],
)
def test_a_name_has_one_spelling(written: str, clean: str) -> None:
    assert clean_name(written) == clean


@given(st.text(max_size=40))
@settings(deadline=None, max_examples=200)
def test_cleaning_is_done_after_once_and_nfc_equals_nfd(name: str) -> None:
    if not is_name(name):
        return
    clean = clean_name(name)
    assert clean_name(clean) == clean
    assert clean_name("\u202e" + name + "\u2069") == clean
    assert clean_name(unicodedata.normalize("NFD", name)) == clean_name(unicodedata.normalize("NFC", name)) == clean
    assert clean == " ".join(clean.split(" "))
    assert "_" not in clean
    assert clean.encode()
    assert is_stored_name(clean)
    assert spelling_key(clean) == spelling_key(name)


@pytest.mark.parametrize("name", ["", " ", "_", "___ \t", "\n", "\u200b", "\u200d \u202e", "\ufeff"])
def test_a_name_needs_something_to_see(name: str) -> None:
    with pytest.raises(PromptError, match="needs a name"):
        clean_name(name)


def test_names_of_earlier_versions_stay_readable(tmp_path: Path) -> None:
    """They let pass what cannot be seen."""
    old = "mug\u202e"
    assert is_stored_name(old)
    stored = table(old, "cup")
    stored.save(tmp_path / "prompts.safetensors")
    read = PromptTable.load(tmp_path / "prompts.safetensors")
    assert read.names == (old, "cup")
    assert old in read
    np.testing.assert_array_equal(read.vector(old), stored.vectors[0])
    assert read.only([old]).names == (old,)
    assert read.with_table(table("bowl")).names == (old, "cup", "bowl")
    for never in ("a_b", " a", "a\x00", "", "e\u0301", 7):
        assert not is_stored_name(never)  # type: ignore[arg-type]


def test_512_characters_are_a_name_and_513_are_not() -> None:
    assert len(clean_name("n" * 512)) == MAX_NAME == 512
    with pytest.raises(PromptError, match="too long") as raised:
        clean_name("n" * 513)
    assert raised.value.got.startswith("513")
    assert len(str(raised.value)) < 300
    assert len(clean_name("e\u0301" * 512)) == 512, "counted after NFC"
    assert clean_name(" " * 600 + "a") == "a"


@pytest.mark.parametrize("name", ["a\x00b", "a\x1bb", "\x7f", "bell\x07", "a\x9fb", "\ud800", "a\udfffb"])
def test_control_characters_and_half_characters_are_refused(name: str) -> None:
    with pytest.raises(PromptError, match="control characters") as raised:
        clean_name(name)
    assert str(raised.value).isprintable() or "\n" in str(raised.value)
    assert "\x1b" not in str(raised.value)
    str(raised.value).encode()


# --- the table ---


def test_a_vector_is_found_by_any_spelling() -> None:
    prompts = table("red fox", "café")
    np.testing.assert_array_equal(prompts.vector("red_fox"), [0, 1, 2, 3])
    np.testing.assert_array_equal(prompts.vector(" cafe\u0301 "), [4, 5, 6, 7])
    np.testing.assert_array_equal(prompts.select(["café", "red fox", "café"]), [[4, 5, 6, 7], [0, 1, 2, 3], [4, 5, 6, 7]])
    assert prompts.select([]).shape == (0, 4)
    assert "red_fox" in prompts
    assert "Red fox" not in prompts


def test_an_unknown_name_gets_near_ones_and_the_way_on() -> None:
    prompts = table("red fox", "arctic fox", "polar bear", "violin")
    with pytest.raises(PromptError, match="no class 'red foks'") as raised:
        prompts.vector("red_foks")
    assert "red fox" in raised.value.expected
    assert "4 names" in raised.value.expected
    assert "violin" not in raised.value.expected
    assert raised.value.next_step.startswith("sp-edge prompts 'red foks' --out")


def test_the_way_on_can_be_typed_whatever_the_name() -> None:
    with pytest.raises(PromptError) as raised:
        table("violin").vector("carpenter's kit; ls")
    assert raised.value.next_step.startswith("""sp-edge prompts 'carpenter'"'"'s kit; ls' --out""")
    assert "such as" not in raised.value.expected


def test_an_empty_table_has_no_near_names() -> None:
    with pytest.raises(PromptError, match="no class 'a'"):
        table().vector("a")


@pytest.mark.parametrize(
    ("names", "vectors"),
    [
        (("a",), np.zeros((2, 4), np.float32)),
        (("a",), np.zeros((1, 5), np.float32)),
        (("a",), np.zeros((1, 4), np.float64)),
        (("a",), np.zeros(4, np.float32)),
        ((), np.zeros((), np.float32)),
        (("a", "a"), np.zeros((2, 4), np.float32)),
        (("a",), np.full((1, 4), np.nan, np.float32)),
        (("a",), np.array([[0, 0, 0, np.inf]], np.float32)),
        (("red_fox",), np.zeros((1, 4), np.float32)),
        (("cafe\u0301",), np.zeros((1, 4), np.float32)),
        (("",), np.zeros((1, 4), np.float32)),
        (("x" * 513,), np.zeros((1, 4), np.float32)),
    ],
)
def test_a_table_that_does_not_fit_together_is_refused(names: tuple[str, ...], vectors: np.ndarray) -> None:
    with pytest.raises(PromptError):
        PromptTable(TEXT, names, vectors)


def test_tables_are_merged_and_the_other_one_counts() -> None:
    merged = table("a", "b", "c").with_table(table("d", "b", start=100))
    assert sorted(merged.names) == ["a", "b", "c", "d"]
    np.testing.assert_array_equal(merged.vector("a"), [0, 1, 2, 3])
    np.testing.assert_array_equal(merged.vector("c"), [8, 9, 10, 11])
    np.testing.assert_array_equal(merged.vector("d"), [100, 101, 102, 103])
    np.testing.assert_array_equal(merged.vector("b"), [104, 105, 106, 107])
    assert table().with_table(table("a")).names == ("a",)
    assert table("a").with_table(table()).names == ("a",)


@pytest.mark.parametrize(
    "other",
    [
        TextSpec("clip", TEXT.revision, TEXT.template, TEXT.norm, TEXT.dim),
        TextSpec(TEXT.encoder, "1" * 64, TEXT.template, TEXT.norm, TEXT.dim),
        TextSpec(TEXT.encoder, TEXT.revision, "{name}", TEXT.norm, TEXT.dim),
        TextSpec(TEXT.encoder, TEXT.revision, TEXT.template, 1.0, TEXT.dim),
        TextSpec(TEXT.encoder, TEXT.revision, TEXT.template, TEXT.norm, 5),
    ],
)
def test_tables_made_in_different_ways_do_not_merge(other: TextSpec) -> None:
    with pytest.raises(PromptError, match="different ways") as raised:
        table("a").with_table(table("b", text=other))
    assert raised.value.expected != raised.value.got


@pytest.mark.parametrize("norm", [9.0, 0.0])
def test_a_table_whose_encoder_was_never_seen_takes_the_first_ones(norm: float) -> None:
    awaiting = table(text=TextSpec(TEXT.encoder, "", TEXT.template, norm, TEXT.dim))
    first = table("a")
    assert awaiting.with_table(first) is first


@pytest.mark.parametrize(
    "awaited",
    [
        TextSpec("clip", "", TEXT.template, TEXT.norm, TEXT.dim),
        TextSpec(TEXT.encoder, "", "{name}", TEXT.norm, TEXT.dim),
        TextSpec(TEXT.encoder, "", TEXT.template, 1.0, TEXT.dim),
        TextSpec(TEXT.encoder, "", TEXT.template, TEXT.norm, 5),
    ],
)
def test_but_only_of_the_kind_that_it_awaits(awaited: TextSpec) -> None:
    with pytest.raises(PromptError, match="different ways"):
        table(text=awaited).with_table(table("a"))


NAMES = st.lists(st.text(min_size=1, max_size=12), max_size=5)


@given(written=NAMES)
@settings(deadline=None, max_examples=40)
def test_a_table_comes_back_as_it_went(tmp_path_factory: pytest.TempPathFactory, written: list[str]) -> None:
    prompts = table(*dict.fromkeys(clean_name(name) for name in written if is_name(name)))
    path = tmp_path_factory.getbasetemp() / "round.safetensors"
    prompts.save(path)
    loaded = PromptTable.load(path)
    assert (loaded.text, loaded.names) == (prompts.text, prompts.names)
    np.testing.assert_array_equal(loaded.vectors, prompts.vectors)
    assert loaded.vectors.dtype == np.float32


def test_descriptions_follow_their_names(tmp_path: Path) -> None:
    first = PromptTable(TEXT, ("a", "b"), np.zeros((2, 4), np.float32), {"a": ("one.", "two."), "b": ("three.",)})
    merged = first.with_table(table("b", "c"))
    assert merged.descriptions == {"a": ("one.", "two.")}, "the other table's b has none"
    assert merged.only(["c", "a"]).descriptions == merged.descriptions
    assert merged.only(["c"]).descriptions == {}
    merged.save(tmp_path / "t")
    assert PromptTable.load(tmp_path / "t").descriptions == merged.descriptions
    with pytest.raises(PromptError, match="does not hold"):
        PromptTable(TEXT, ("a",), np.zeros((1, 4), np.float32), {"b": ("three.",)})


@pytest.mark.parametrize("value", [None, [], 3, {"a": "text"}, {"a": []}, {"a": [3]}, {"b": ["text"]}])
def test_descriptions_of_another_form_are_a_prompt_error(tmp_path: Path, value: object) -> None:
    described = {"kind": "prompts", "text": TEXT.to_json(), "names": ["a"], "descriptions": value}
    save_tensors(tmp_path / "t", {"vectors": np.zeros((1, 4), np.float32)}, described)
    with pytest.raises(PromptError):
        PromptTable.load(tmp_path / "t")


# --- damaged files ---


def test_a_missing_table_is_a_prompt_error(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="nothing"):
        PromptTable.load(tmp_path / "nothing.safetensors")


@given(data=st.binary(max_size=200))
@settings(deadline=None, max_examples=80)
def test_random_bytes_are_a_prompt_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "random.safetensors"
    path.write_bytes(data)
    with pytest.raises(PromptError):
        PromptTable.load(path)


@given(seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=200)
def test_a_damaged_table_is_a_table_or_a_prompt_error(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    table("red fox", "café").save(path)
    path.write_bytes(damaged(path.read_bytes(), seed))
    try:
        loaded = PromptTable.load(path)
    except PromptError as error:
        str(error).encode()
        return
    assert loaded.select(loaded.names).shape == (len(loaded.names), loaded.text.dim)


def test_every_truncation_is_a_prompt_error(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    table("red fox").save(path)
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(PromptError):
            PromptTable.load(path)


DESCRIBED = {"kind": "prompts", "text": TEXT.to_json(), "names": ["red fox", "café"]}


@pytest.mark.parametrize("key", [*DESCRIBED, *(f"text.{field}" for field in TEXT.to_json())])
@given(value=JSON)
@settings(deadline=None, max_examples=25)
def test_metadata_of_the_wrong_kind_is_a_prompt_error(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "metadata.safetensors"
    described = json.loads(json.dumps(DESCRIBED))
    outer, _, field = key.partition(".")
    if field:
        described[outer][field] = value
    else:
        described[outer] = value
    content = {"vectors": np.zeros((2, 4), np.float32)}
    path.write_bytes(save(content, {k: json.dumps(v) for k, v in described.items()}))
    kinds = {"dim": int, "norm": int | float, "": ()}.get(field, str)
    if isinstance(value, kinds) and (field != "dim" or value == 4):
        assert PromptTable.load(path).text.to_json()[field] == value
    else:
        with pytest.raises(PromptError):
            PromptTable.load(path)


@pytest.mark.parametrize("names", [["red fox", 3], ["red fox", None], ["red fox", ["café"]], [{}, {}], "ab", {"a": 1, "b": 2}])
def test_names_that_are_no_text_are_a_prompt_error(tmp_path: Path, names: object) -> None:
    save_tensors(tmp_path / "t", {"vectors": np.zeros((2, 4), np.float32)}, {**DESCRIBED, "names": names})
    with pytest.raises(PromptError, match="not a prompt table"):
        PromptTable.load(tmp_path / "t")


@pytest.mark.parametrize("key", DESCRIBED)
def test_missing_metadata_is_a_prompt_error(tmp_path: Path, key: str) -> None:
    save_tensors(tmp_path / "t", {"vectors": np.zeros((2, 4), np.float32)}, {k: v for k, v in DESCRIBED.items() if k != key})
    with pytest.raises(PromptError):
        PromptTable.load(tmp_path / "t")


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"prompts": np.zeros((2, 4), np.float32)},
        {"vectors": np.zeros((2, 4), np.float16)},
        {"vectors": np.zeros((2, 4), np.int64)},
        {"vectors": np.zeros((4, 2), np.float32)},
        {"vectors": np.zeros(8, np.float32)},
        {"vectors": np.full((2, 4), np.inf, np.float32)},
    ],
)
def test_tensors_of_the_wrong_kind_are_a_prompt_error(tmp_path: Path, tensors: dict[str, np.ndarray]) -> None:
    save_tensors(tmp_path / "t", tensors, DESCRIBED)
    with pytest.raises(PromptError):
        PromptTable.load(tmp_path / "t")


@pytest.mark.parametrize("value", [None, [], "text", 3, {}, {"encoder": "toy"}])
def test_what_describes_no_encoder_is_a_prompt_error(value: object) -> None:
    with pytest.raises(PromptError, match="not the description"):
        TextSpec.from_json(value)


def test_a_description_comes_back_as_it_went() -> None:
    assert TextSpec.from_json(json.loads(json.dumps(TEXT.to_json()))) == TEXT
    assert TextSpec.from_json({**TEXT.to_json(), "later": "addition"}) == TEXT


# --- vectors of classes ---


def test_a_class_is_its_template_or_the_mean_of_its_descriptions() -> None:
    asked: list[str] = []

    def encode(sentences: Sequence[str]) -> NDArray[np.float32]:
        asked.extend(sentences)
        return np.array([[1, 0], [2, 4], [4, 8]], np.float32)

    vectors = class_vectors(encode, ["ant", "bee"], {"bee": ("small", "striped"), "cat": ("furry",)}, "A photo of {name}")
    assert asked == ["A photo of ant", "small", "striped"]
    np.testing.assert_array_equal(vectors, np.array([[1, 0], [3, 6]], np.float32))
    assert vectors.dtype == np.float32


def test_every_vector_gets_one_length() -> None:
    vectors = rescaled(np.array([[3, 4], [0, -2]], np.float32), ["ant", "bee"], 10)
    np.testing.assert_array_equal(vectors, np.array([[6, 8], [0, -10]], np.float32))
    assert vectors.dtype == np.float32
    with pytest.raises(PromptError, match="the vector of 'bee' is zero"):
        rescaled(np.array([[3, 4], [0, 0]], np.float32), ["ant", "bee"], 10)


def test_near_names() -> None:
    table = PromptTable(TextSpec("toy", "", "{name}", 1.0, 1), ("red fox", "polar bear"), np.ones((2, 1), np.float32))
    assert table.near("red_foxes") == ["red fox"]
    assert table.near("zzz") == []
