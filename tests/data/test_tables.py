from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sp_edge.data.tables import read_table
from sp_edge.errors import DataError

TABLE = {"n01532829": "house finch", "red_fox": "train"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", '{"n01532829": "house finch", "red_fox": "train"}'),
        ("a.toml", 'n01532829 = "house finch"\nred_fox = "train"\n'),
        ("a.csv", "n01532829,house finch\nred_fox,train\n"),
        ("a.csv", 'class,split\r\nn01532829,"house finch"\r\n\r\nred_fox,train\r\n'),
        ("a.csv", "\ufeffclass,name\nn01532829,house finch\nred_fox,train"),
        ("a.txt", "n01532829 house finch\n\nred_fox\ttrain\n"),
        ("synsets", "n01532829   house finch  \nred_fox train"),
    ],
)
def test_each_form_holds_the_same(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_table(tmp_path / name) == TABLE


def test_only_a_first_line_can_be_a_heading(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("fox,train\nclass,split\n")
    assert read_table(tmp_path / "a.csv") == {"fox": "train", "class": "split"}


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.json", b'{"a": "b", "a": "c"}', "names a folder twice"),
        ("a.csv", b"a,b\na,c\n", "names a folder twice"),
        ("a.txt", b"a b\na b\n", "names a folder twice"),
        ("a.toml", b'a = "b"\na = "c"\n', "cannot read"),
        ("a.json", b'["a", "b"]', "is not a table"),
        ("a.json", b'{"train": ["a", "b"]}', "is not a table"),
        ("a.json", b'"a"', "is not a table"),
        ("a.json", b"3", "is not a table"),
        ("a.toml", b'[train]\na = "b"\n', "is not a table"),
        ("a.csv", b"a,b,c\n", "is not a table"),
        ("a.csv", b'a,"b\n', "cannot read"),
        ("a.txt", b"alone\n", "is not a table"),
        ("a.json", b"{", "cannot read"),
        ("a.json", b"[" * 100_000, "cannot read"),
        ("a.txt", b"\xff\xfe", "cannot read"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=what):
        read_table(tmp_path / name)


@pytest.mark.parametrize("place", ["nowhere.json", "."])
def test_a_file_that_is_not_there_is_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(DataError, match="cannot read"):
        read_table(tmp_path / place)


@given(st.sampled_from([".json", ".toml", ".csv", ".txt"]), st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
@hypothesis_settings(deadline=None)
def test_anything_is_a_table_or_refused(tmp_path_factory: pytest.TempPathFactory, ending: str, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / f"anything{ending}"
    file.write_bytes(content)
    try:
        table = read_table(file)
    except DataError as error:
        assert error.expected or "twice" in error.what  # noqa: PT017 - any content may be a table
    else:
        assert all(isinstance(part, str) for row in table.items() for part in row)
