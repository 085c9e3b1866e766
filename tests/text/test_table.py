from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sp_edge.errors import PromptError
from sp_edge.prompts.reading import Reading
from sp_edge.prompts.table import PromptTable, TextSpec
from sp_edge.settings.encoders import NETWORKS
from sp_edge.settings.settings import TextSettings
from sp_edge.text import MiniLM, encoded_table, extend_table, open_encoder, prompt_table
from sp_edge.text import table as module

TEXTS = {"A photo of ant": [3, 4], "A photo of bee": [0, 10], "A photo of cat": [6, 8], "small": [1, 0], "black": [0, 3]}


class Hand:
    """Encodes TEXTS as they stand there."""

    name, revision, dim = "minilm", "by hand", 2

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        return np.array([TEXTS[sentence] for sentence in sentences], np.float32).reshape(-1, 2)

    def reading(self, text: str) -> Reading:
        return Reading(("?",), unreadable=True) if text == "bee" else Reading()


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MiniLM", Hand)


@pytest.fixture
def loaded(minilm: MiniLM, monkeypatch: pytest.MonkeyPatch) -> MiniLM:
    """Spares each test the seconds that loading takes."""
    monkeypatch.setattr(module, "MiniLM", lambda: minilm)
    return minilm


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


@pytest.mark.usefixtures("by_hand")
class TestNorm0:
    def test_it_is_the_mean_length_of_the_training_classes_vectors(self) -> None:
        table = prompt_table(["ant", "bee", "cat"], TextSettings(norm=0), base=["bee", "ant"])
        assert table.text.norm == 7.5  # of 5 and 10
        np.testing.assert_allclose(table.vectors, [[4.5, 6], [0, 7.5], [4.5, 6]], rtol=1e-6)

    def test_names_that_come_later_get_the_same(self) -> None:
        table = prompt_table(["ant", "bee"], TextSettings(norm=0), base=["ant", "bee"])
        for settings in (None, TextSettings(norm=0)):
            longer = extend_table(table, ["cat"], settings)
            assert longer.text == table.text
            np.testing.assert_allclose(longer.vector("cat"), [4.5, 6], rtol=1e-6)

    @pytest.mark.parametrize("base", [[], ["dog"]])
    def test_it_needs_training_classes(self, base: list[str]) -> None:
        with pytest.raises(PromptError, match="length of the training classes' vectors"):
            prompt_table(["ant"], TextSettings(norm=0), base=base)


@pytest.mark.usefixtures("by_hand")
def test_a_vector_of_length_zero_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TEXTS, "A photo of bee", [0, 0])
    with pytest.raises(PromptError, match="'bee' is zero"):
        prompt_table(["ant", "bee"], TextSettings())


# --- descriptions ---


def describe(tmp_path: Path, text: str, name: str = "d.json") -> str:
    (tmp_path / name).write_text(text, "utf-8")
    return str(tmp_path / name)


@pytest.mark.usefixtures("by_hand")
def test_a_description_stands_for_the_name_and_several_are_averaged(tmp_path: Path) -> None:
    file = describe(tmp_path, '{"bee": ["small", "black"], "cat": " small ", "unused": "x"}')
    table = prompt_table(["ant", "bee", "cat"], TextSettings(descriptions=file, norm=0), base=["bee", "cat"])
    assert table.text.norm == pytest.approx((np.hypot(0.5, 1.5) + 1) / 2, rel=1e-5)
    directions = table.vectors / np.linalg.norm(table.vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(directions, [[0.6, 0.8], np.array([0.5, 1.5]) / np.hypot(0.5, 1.5), [1, 0]], rtol=1e-5)
    assert table.descriptions == {"bee": ("small", "black"), "cat": ("small",)}
    assert table.text.template == "A photo of {name}"


@pytest.mark.usefixtures("by_hand")
def test_descriptions_of_other_classes_alone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="describes none of the classes") as raised:
        prompt_table(["ant"], TextSettings(descriptions=describe(tmp_path, '{"aunt": "small"}')))
    assert (raised.value.expected, raised.value.got) == ("names such as ant", "aunt")


@pytest.mark.usefixtures("by_hand")
def test_a_name_that_is_known_is_made_anew_from_its_description() -> None:
    table = prompt_table(["ant", "bee"], TextSettings(norm=5))
    longer = extend_table(table, ["ant", "bee"], descriptions={"bee": ["small"]})
    np.testing.assert_allclose(longer.select(["ant", "bee"]), [[3, 4], [5, 0]])
    assert longer.descriptions == {"bee": ("small",)}
    assert extend_table(longer, ["bee"]) is longer


# --- vectors made elsewhere ---


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_bare_vectors_get_one_length(tmp_path: Path, ending: str) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / f"v.{ending}"
    arrays = {"ant": np.array([3, 4.0]), "polar_bear": np.array([0, 10.0])}
    if ending == "npz":
        np.savez(path, **arrays)
    else:
        save_file(arrays, path, {"format": "pt"})
    settings = TextSettings("file", str(path), norm=0)
    table = prompt_table(["polar bear", "ant"], settings, base=["ant"])
    assert table.text == TextSpec("file", "", "A photo of {name}", 5.0, 2)
    np.testing.assert_allclose(table.vectors, [[0, 5], [3, 4]])
    assert extend_table(prompt_table(["ant"], settings, base=["ant"]), ["polar bear"], settings).names == ("ant", "polar bear")
    with pytest.raises(PromptError, match="no vectors for 2 of 3 classes") as raised:
        prompt_table(["ant", "bee", "cat"], settings)
    assert raised.value.got == "none for bee, cat"


@pytest.mark.usefixtures("by_hand")
def test_a_table_made_elsewhere_stays_as_it_is_and_says_who_made_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = prompt_table(["ant", "bee"], TextSettings(norm=5), descriptions={"bee": ["small"]})
    made.save(tmp_path / "t.safetensors")
    settings = TextSettings("file", str(tmp_path / "t.safetensors"))
    monkeypatch.setattr(module, "MiniLM", lambda: pytest.fail("loaded"))
    table = prompt_table(["bee"], settings)
    assert (table.text, table.names, table.descriptions) == (made.text, ("bee",), {"bee": ("small",)})
    np.testing.assert_array_equal(table.vectors, [made.vector("bee")])
    assert extend_table(table, ["ant"], settings).names == ("bee", "ant")
    unseen = PromptTable(TextSpec("file", "", "A photo of {name}", 9.0, 2), (), np.empty((0, 2), np.float32))
    assert extend_table(unseen, ["ant"], settings).text == made.text, "as an imported checkpoint begins"
    with pytest.raises(PromptError, match="no vectors for 1 of 1"):
        extend_table(table, ["cat"], settings)
    monkeypatch.setattr(module, "MiniLM", Hand)
    np.testing.assert_allclose(extend_table(table, ["cat"]).vector("cat"), [3, 4]), "by the encoder itself"
    with pytest.raises(PromptError, match="need a text encoder"):
        prompt_table(["bee"], settings, descriptions={"bee": ["small"]})


@pytest.mark.parametrize(
    "arrays",
    [{}, {"a": np.zeros((1, 2))}, {"a": np.array([1, 2])}, {"a": np.array([1.0, np.nan])}, {"a": np.ones(2), "b": np.ones(3)},
     {"red fox": np.ones(2), "red_fox": np.ones(2)}, {" ": np.ones(2)}],
    ids=["none", "matrix", "integers", "nan", "lengths", "twice", "blank"],
)  # fmt: skip
def test_vectors_that_are_none_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "v.npz", **arrays)
    with pytest.raises(PromptError):
        prompt_table(["a"], TextSettings("file", str(tmp_path / "v.npz"), norm=1))


def test_a_file_of_vectors_is_not_trusted(tmp_path: Path) -> None:
    np.savez(tmp_path / "pickled.npz", a=np.array([{"a": 1}], dtype=object))
    (tmp_path / "text.npz").write_text("words")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "pickled.npz").read_bytes()[:60])
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "text.safetensors").write_text("words")
    np.savez_compressed(tmp_path / "bits.npz", a=np.random.default_rng(0).normal(size=4000))
    content = bytearray((tmp_path / "bits.npz").read_bytes())
    content[2000:2100] = bytes(100)  # zlib.error
    (tmp_path / "bits.npz").write_bytes(content)
    header = (
        b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999,), }".ljust(117) + b"\n"
    )
    with zipfile.ZipFile(tmp_path / "giant.npz", "w") as archive:
        archive.writestr("a.npy", header)  # MemoryError
    np.save(tmp_path / "one.npz.npy", np.ones(3))
    (tmp_path / "one.npz.npy").rename(tmp_path / "one.npz")
    for name in (
        "pickled.npz",
        "text.npz",
        "cut.npz",
        "bits.npz",
        "giant.npz",
        "empty.npz",
        "one.npz",
        "text.safetensors",
        "nothing.npz",
        "nothing",
        ".",
    ):
        with pytest.raises(PromptError, match="cannot read"):
            prompt_table(["a"], TextSettings("file", str(tmp_path / name)))


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
    monkeypatch.setattr(module, "MiniLM", lambda: pytest.fail("loaded"))
    assert extend_table(table, ["red_fox"]) is table
    assert extend_table(table, []) is table


@pytest.mark.parametrize("change", [{"revision": "000000000000"}, {"template": "no place"}, {"norm": -1.0}], ids=str)
def test_a_table_of_another_making_is_not_extended(loaded: MiniLM, change: dict[str, Any]) -> None:
    del loaded
    table = prompt_table(["red fox"], TextSettings())
    foreign = dataclasses.replace(table, text=dataclasses.replace(table.text, **change))
    with pytest.raises(PromptError, match="made in"):
        extend_table(foreign, ["polar bear"])


def test_a_table_of_another_encoder_is_not_extended_with_this_ones_settings(loaded: MiniLM) -> None:
    del loaded
    table = prompt_table(["red fox"], TextSettings())
    foreign = dataclasses.replace(table, text=dataclasses.replace(table.text, encoder="clip"))
    with pytest.raises(PromptError, match="another encoder"):
        extend_table(foreign, ["polar bear"], TextSettings())


def test_every_network_among_the_encoders_opens_by_its_name_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CLIP", "SBERT", "MiniLM"):
        monkeypatch.setattr(module, name, lambda name=name: name)
    assert {name: open_encoder(name) for name in NETWORKS} == {"clip": "CLIP", "sbert": "SBERT", "minilm": "MiniLM"}


def test_names_that_cannot_be_read_or_told_apart_are_logged(by_hand: None, log: pytest.LogCaptureFixture) -> None:
    del by_hand
    prompt_table(["ant", "bee", "cat"], TextSettings())
    assert "the text encoder minilm cannot read 1 of 3 names, which therefore tell nothing: bee" in log.messages[0]
    assert log.messages[1] == "names with one and the same prompt, which only pictures tell apart: ant = cat"


def test_of_names_that_come_with_a_network_only_what_others_share_is_logged(
    by_hand: None, log: pytest.LogCaptureFixture
) -> None:
    del by_hand
    encoded_table(open_encoder("minilm"), ["ant", "bee", "cat"], TextSettings(), given=["ant", "bee", "cat"])
    assert log.messages == []
    encoded_table(open_encoder("minilm"), ["ant", "bee", "cat"], TextSettings(), given=["ant", "bee"])
    assert log.messages == ["names with one and the same prompt, which only pictures tell apart: ant = cat"]


def test_what_encoders_do_not_know(minilm: MiniLM) -> None:
    assert minilm.reading("独轮车").unreadable
    assert minilm.reading("red 🚲").unread == ("🚲",)
    assert minilm.reading("a" * 600).unreadable
    assert minilm.reading("自行车") == Reading(("自", "车"), unreadable=True), "one character of three is known"
    assert not minilm.reading("Zürcher Kaffeetasse").unread
