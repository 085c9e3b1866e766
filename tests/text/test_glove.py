from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from sp_edge.errors import PromptError
from sp_edge.settings.settings import TextSettings
from sp_edge.text import GloVe, extend_table, prompt_table

WORDS = {
    "a": [1, 0, 0], "photo": [0, 1, 0], "of": [0, 0, 1], "red": [2, 0, 4], "fox": [0, 6, 2], "t": [1, 1, 1], "shirt": [3, 3, 5],
    "café": [9, 0, 0], "the": [7, 7, 7],
}  # fmt: skip


def lines(words: dict[str, list[int]] = WORDS) -> bytes:
    return "".join(f"{word} {' '.join(map(str, v))}\n" for word, v in words.items()).encode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "glove.txt").write_bytes(lines())
    return tmp_path / "glove.txt"


def test_a_sentence_is_the_mean_of_its_words(path: Path) -> None:
    encoder = GloVe(path)
    assert (encoder.name, encoder.dim) == ("glove", 3)
    assert encoder.revision == hashlib.sha256(lines()).hexdigest()[:12]
    vectors = encoder.encode(["red fox", "fox", "a photo of red fox", "red red fox"])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [[1, 3, 3], [0, 6, 2], [0.6, 1.4, 1.4], [4 / 3, 2, 10 / 3]], rtol=1e-6)
    assert encoder.encode([]).shape == (0, 3)


def test_a_gzipped_file_says_the_same(path: Path, tmp_path: Path) -> None:
    (tmp_path / "glove.txt.gz").write_bytes(gzip.compress(lines()))
    np.testing.assert_array_equal(GloVe(tmp_path / "glove.txt.gz").encode(["red fox"]), GloVe(path).encode(["red fox"]))


@pytest.mark.parametrize(
    ("written", "expected"),
    [("Red FOX", [1, 3, 3]), ("T-shirt,", [2, 2, 3]), ("t-xyz", [1, 1, 1]), ("Café!", [9, 0, 0]), ("(fox)", [0, 6, 2])],
)
def test_words_are_found_in_lower_case_and_by_their_parts(path: Path, written: str, expected: list[float]) -> None:
    np.testing.assert_allclose(GloVe(path).encode([written])[0], expected)


def test_a_word_as_it_is_written_comes_first(tmp_path: Path) -> None:
    (tmp_path / "cased.txt").write_bytes(lines({"polish": [1, 1], "Polish": [2, 2], "t-shirt": [5, 5], "t": [1, 1]}))
    np.testing.assert_array_equal(GloVe(tmp_path / "cased.txt").encode(["Polish", "polish", "T-shirt"])[:, 0], [2, 1, 5])


def test_words_with_blanks_in_them_are_passed_over(tmp_path: Path) -> None:
    """GloVe 840B has a few."""
    (tmp_path / "g.txt").write_bytes(b"at 1 2\nred at.de 3 4\nred 5 6\n")
    np.testing.assert_array_equal(GloVe(tmp_path / "g.txt").encode(["red"]), [[5, 6]])


def test_unknown_words_are_left_out_and_named(path: Path, log: pytest.LogCaptureFixture) -> None:
    vectors = GloVe(path, "A photo of {name}").encode(["A photo of komondor fox", "A photo of red fox"])
    np.testing.assert_allclose(vectors[0], np.mean([WORDS[w] for w in ("a", "photo", "of", "fox")], axis=0))
    assert log.messages == ["the prompts leave out words that glove.txt does not know: komondor"]
    GloVe(path).encode(["red fox"])
    assert len(log.messages) == 1


def test_a_name_without_a_known_word_is_refused_whatever_the_template(path: Path, log: pytest.LogCaptureFixture) -> None:
    with pytest.raises(PromptError, match="knows no word of 2 of 3 names") as raised:
        GloVe(path, "A photo of {name}").encode([f"A photo of {n}" for n in ("fox", "komondor", "xyzzy-b")])
    assert raised.value.got == "A photo of komondor; A photo of xyzzy-b"
    assert not log.messages
    with pytest.raises(PromptError, match="1 of 1"):
        GloVe(path).encode([""])


def test_a_table_of_it_is_made_and_extended_from_the_file(path: Path) -> None:
    settings = TextSettings("glove", str(path), norm=5.0)
    table = prompt_table(["fox"], settings)
    expected = np.mean([WORDS[w] for w in ("a", "photo", "of", "fox")], axis=0)
    np.testing.assert_allclose(table.vectors[0], 5 * expected / np.linalg.norm(expected), rtol=1e-6)
    longer = extend_table(table, ["red_fox"], settings)
    assert longer.names == ("fox", "red fox")
    np.testing.assert_allclose(longer.vectors[1], prompt_table(["red fox"], settings).vectors[0])
    with pytest.raises(PromptError, match="unknown here") as raised:
        extend_table(table, ["red fox"])
    assert "a file for glove" in raised.value.expected
    path.write_bytes(lines() + b"more 1 2 3\n")
    with pytest.raises(PromptError, match="different ways"):
        extend_table(table, ["red fox"], settings)


# --- bad files ---


def test_a_file_that_cannot_be_read_is_a_prompt_error(tmp_path: Path) -> None:
    (tmp_path / "broken.gz").write_bytes(gzip.compress(lines() * 300)[:-9])
    (tmp_path / "text.gz").write_bytes(lines())
    for name in ("nothing.txt", ".", "text.gz", "broken.gz"):
        with pytest.raises(PromptError, match="cannot read"):
            GloVe(tmp_path / name).encode(["zzz"])


@pytest.mark.parametrize("content", [b"", b"\n", b"word\n", b"400000 300\n", b"\xff\xfe\x00"])
def test_a_file_that_does_not_begin_with_a_vector_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "g.txt").write_bytes(content)
    with pytest.raises(PromptError, match="does not begin with a word vector"):
        GloVe(tmp_path / "g.txt")


@pytest.mark.parametrize(
    "line",
    [
        b"fox 1 2",
        b"fox 1 2 x",
        b"fox 1 nan 2",
        b"fox inf 1 2",
        b"fox",
        b"fox ",
        b"fox 1_0 1 2",
        b"fox 1 2 1e39",
        b"fox 1 2 0." + b"1" * 65,
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "g.txt").write_bytes(b"a 1 2 3\n" + line + b"\n")
    with pytest.raises(PromptError, match="line 2 is no word vector"):
        GloVe(tmp_path / "g.txt").encode(["a fox"])


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "bomb.gz", "wb") as file:
        file.write(b"a 1 2 3\n" + b"0" * 2_000_000)
    with pytest.raises(PromptError, match="no file of word vectors"):
        GloVe(tmp_path / "bomb.gz").encode(["zzz"])
    (tmp_path / "one.txt").write_bytes(b"7" * 2_000_000)
    with pytest.raises(PromptError, match="no file of word vectors"):
        GloVe(tmp_path / "one.txt")
