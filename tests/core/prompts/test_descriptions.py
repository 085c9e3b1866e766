from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sp_edge.errors import PromptError
from sp_edge.prompts.descriptions import check_length, clean_sentence, read_descriptions


def test_json_and_toml_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text('\ufeff{"red_fox": "  A fox\\n in red ", "bee": ["Small.", "Cafe\u0301"]}', "utf-8")
    (tmp_path / "d.toml").write_text('red_fox = """  A fox\n in red """\nbee = ["Small.", "Caf\u00e9"]', "utf-8")
    expected = {"red fox": ("A fox in red",), "bee": ("Small.", "Caf\u00e9")}
    assert read_descriptions(tmp_path / "d.json") == read_descriptions(tmp_path / "d.toml") == expected


@pytest.mark.parametrize(
    "content",
    [
        "", "[]x", "3", '"text"', "null", '["a"]', '{"a": 3}', '{"a": []}', '{"a": ["b", 3]}', '{"a": {"b": "c"}}', '{"a": ""}',
        '{"a": ["b", " "]}', '{"": "b"}', '{"a": "b\\u0000"}', '{"a": "\\ud800"}', '{"red fox": "b", "red_fox": "c"}',
        '{"a": "b", "a": "c"}', '{"a": [["b", "c"]]}', "[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_description_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "d.json").write_text(content, "utf-8")
    with pytest.raises(PromptError):
        read_descriptions(tmp_path / "d.json")


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_bytes(b"\xff\xfe")
    (tmp_path / "d.toml").write_text("a = ")
    for name in ("d.json", "d.toml", "nothing.json", "."):
        with pytest.raises(PromptError, match="cannot read"):
            read_descriptions(tmp_path / name)


@pytest.mark.parametrize(
    "content", ['[["mug", "a cup"]]', '["mug", "a cup"]', "[]", '"mug"', "null", "3", '{"mug": {"a": "cup"}}']
)
def test_only_an_object_of_json_is_descriptions(tmp_path: Path, content: str) -> None:
    (tmp_path / "d.json").write_text(content)
    with pytest.raises(PromptError, match="does not hold descriptions"):
        read_descriptions(tmp_path / "d.json")


TEXT = st.text(max_size=8)


@given(st.recursive(TEXT | st.integers() | st.none(), lambda x: st.lists(x, max_size=3) | st.dictionaries(TEXT, x, max_size=3)))
@settings(deadline=None, max_examples=100)
def test_any_json_is_descriptions_or_a_prompt_error(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(value))
    try:
        found = read_descriptions(path)
    except PromptError as error:
        str(error).encode()
        return
    assert isinstance(value, dict)
    for sentences in found.values():
        assert sentences
        assert all(clean_sentence(sentence) == sentence for sentence in sentences)


def test_a_sentence_has_an_end() -> None:
    assert clean_sentence("a " * 1000) == ("a " * 1000).strip()
    with pytest.raises(PromptError, match="too long") as raised:
        clean_sentence("ab" * 1001)
    assert (raised.value.expected, raised.value.got[:5]) == ("at most 2000 characters", "2002:")


def test_what_an_encoder_would_not_read_to_its_end_is_refused() -> None:
    check_length("fox", 77, 77)
    check_length("fox", 10_000, None)
    with pytest.raises(PromptError, match=r"would not read the end of 'fox\.\.\.'") as raised:
        check_length("fox", 78, 77)
    assert (raised.value.expected, raised.value.got) == ("at most 77 tokens", "78")
