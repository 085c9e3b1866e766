"""The command `sp-edge prompts`, with an encoder of a few known sentences."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from sp_edge.cli import cli
from sp_edge.cli.common import run
from sp_edge.model import build_network
from sp_edge.prompts.reading import Reading
from sp_edge.prompts.table import PromptTable, TextSpec
from sp_edge.settings.settings import Settings
from sp_edge.text import table as text_table
from sp_edge.training.checkpoint import Checkpoint

Call = Callable[..., tuple[int, str, str]]
TEXTS = {"A photo of ant": [3, 4], "A photo of bee": [0, 10], "Small.": [1, 0], "Black.": [0, 3]}
SPEC = TextSpec("minilm", "by hand", "A photo of {name}", 5.0, 2)


class Hand:
    name, revision, dim = "minilm", "by hand", 2

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        return np.array([TEXTS[sentence] for sentence in sentences], np.float32).reshape(-1, 2)

    def reading(self, _: str) -> Reading:
        return Reading()


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """`call('ant')` gives exit code, output and errors of the command in a folder with one run, whose table knows 'ant'."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(text_table, "MiniLM", Hand)
    settings = Settings.from_mapping({"model": {"backbone": "visformer_mini", "image_size": 64, "layer": "3-1"}})
    table = PromptTable(SPEC, ("ant",), np.array([[3, 4]], np.float32))
    Checkpoint(build_network(settings.model, 2), settings, table, "tuned", {"train": ("ant",)}).save(
        tmp_path / "runs/1/checkpoint.safetensors"
    )

    def sp_edge(*arguments: object) -> tuple[int, str, str]:
        code = run(cli, ["prompts", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return sp_edge


def test_it_lists_what_is_known(call: Call) -> None:
    assert call() == (0, "1 names, minilm, 'A photo of {name}', 2 numbers each\n  ant\n", "")


def test_names_from_everywhere_are_encoded_once(call: Call) -> None:
    Path("names.txt").write_text("bee\n\n ant \n")
    code, out, err = call("bee", "--names-file", "names.txt", "--out", "t.safetensors", "--json", "t.json")
    assert (code, err) == (0, "")
    assert out.endswith("  bee\n  ant\nprompts: t.safetensors\n")
    table = PromptTable.load(Path("t.safetensors"))
    assert (table.text, table.names) == (SPEC, ("bee", "ant"))
    np.testing.assert_allclose(table.vectors, [[0, 5], [3, 4]])
    rows = [{"name": "bee", "descriptions": []}, {"name": "ant", "descriptions": []}]
    assert json.loads(Path("t.json").read_text()) == {"text": SPEC.to_json(), "classes": rows}


def test_sentences_stand_for_one_name_known_or_not(call: Call) -> None:
    code, out, _ = call("ant", "--description", "Small.", "--description", " Black. ", "--out", "t.safetensors")
    assert code == 0
    assert "  ant: Small. Black.\n" in out
    table = PromptTable.load(Path("t.safetensors"))
    np.testing.assert_allclose(table.vectors[0], 5 * np.array([0.5, 1.5]) / np.hypot(0.5, 1.5), rtol=1e-6)
    assert table.descriptions == {"ant": ("Small.", "Black.")}


def test_a_file_of_descriptions_serves_its_classes_or_the_named_ones(call: Call) -> None:
    Path("d.json").write_text('{"bee": "Small.", "cat": ["Black."]}')
    assert call("--descriptions", "d.json")[1].endswith("  bee: Small.\n  cat: Black.\n")
    assert call("ant", "bee", "--descriptions", "d.json")[1].endswith("  ant\n  bee: Small.\n")
    code, _, err = call("ant", "--descriptions", "d.json")
    assert code == 2
    assert "the file describes none of the classes" in err


def test_a_first_table_needs_no_training(call: Call) -> None:
    code, out, err = call("ant", "bee", "--set", "text.norm=0", "--out", "t.safetensors", "--like", "runs/1")
    assert (code, out) == (2, "")
    assert "--set makes a first table" in err
    assert call("ant", "bee", "--set", "text.norm=0", "--out", "t.safetensors")[0] == 0
    table = PromptTable.load(Path("t.safetensors"))
    assert table.text.norm == 7.5
    np.testing.assert_allclose(table.vectors, [[4.5, 6], [0, 7.5]])
    code, out, _ = call("bee", "--set", "text.encoder=file", "--set", "text.path=t.safetensors")
    assert (code, out) == (0, "1 names, minilm, 'A photo of {name}', 2 numbers each\n  bee\n")


def test_word_vectors_are_found_where_the_option_says(call: Call) -> None:
    Path("g.txt").write_text("ant 3 4\nbee 0 2\n")
    settings = Settings.from_mapping(
        {
            "model": {"backbone": "visformer_mini", "image_size": 64, "layer": "3-1"},
            "text": {"encoder": "glove", "path": "gone"},
        }
    )
    assert call("ant", "--set", "text.encoder=glove", "--set", "text.path=g.txt", "--out", "t.safetensors")[0] == 0
    table = PromptTable.load(Path("t.safetensors"))
    file = Path("runs/2/checkpoint.safetensors")
    Checkpoint(build_network(settings.model, 2), settings, table, "tuned", {"train": ("ant",)}).save(file)
    code, _, err = call("bee")
    assert code == 2
    assert "cannot read gone" in err
    assert call("bee", "--vectors", "g.txt")[0] == 0
    code, _, err = call("bee", "--vectors", "g.txt", "--like", "runs/1")
    assert code == 2
    assert "no --vectors" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--description", "Small."], "one name"),
        (["ant", "bee", "--description", "Small."], "one name"),
        (["ant", "--description", " "], "a description cannot be used"),
        (["ant", "--descriptions", "nothing.json"], "cannot read nothing.json"),
        (["--names-file", "nothing.txt"], "cannot read nothing.txt"),
        (["--set", "text.norm=0"], "names"),
        (["ant", "--set", "tune.steps=3"], "text.NAME=VALUE"),
        (["ant", "--set", "text.norm=-1"], "text.norm"),
        (["ant", "--set", "text.encoder=file"], "text.path"),
        (["ant", "--set", "text.encoder=file", "--set", "text.path=x", "--set", "text.descriptions=y"], "encodes no text"),
        (["a\tb", "\x07"], "control characters"),
    ],
)
def test_bad_input(call: Call, arguments: list[str], words: str) -> None:
    code, out, err = call(*arguments, "--out", "t.safetensors")
    assert code == 2
    assert not out
    assert words in err
    assert not Path("t.safetensors").exists()
