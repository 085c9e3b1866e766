from __future__ import annotations

import html.parser
import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from banks import prompt, shots, taught
from sp_edge.bank.bank import Bank
from sp_edge.bank.crops import decode_crop
from sp_edge.bank.heat import heat_picture
from sp_edge.bank.page import describe, export_bank
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import BankError
from sp_edge.matching.evidence import LEAST


class Pictures(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "b")
        self.sources += [unquote(value or "") for key, value in attrs if (tag, key) == ("img", "src")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_a_bank_as_json(bundle: Bundle) -> None:
    bank = taught(bundle).add("café", prompt(2), *shots(1, 9), strength=0.25, description=["Black, in a <cup>."])
    described = json.loads(json.dumps(describe(bank)))
    assert (described["kind"], described["fingerprint"], described["version"]) == ("bank", bundle.fingerprint, 4)
    class_ = {"by_name": False, "not": None}
    assert described["classes"] == [
        {"name": "red fox", "shots": 2, "threshold": 0, "strength": 0.8, "descriptions": [], **class_},
        {"name": "polar bear", "shots": 1, "threshold": pytest.approx(0.1), "strength": 0.8, "descriptions": [], **class_},
        {
            "name": "café",
            "shots": 4,
            "threshold": pytest.approx(0.2),
            "strength": 0.25,
            "descriptions": ["Black, in a <cup>."],
            **class_,
        },
    ]


def test_an_export_shows_every_shot(bundle: Bundle, tmp_path: Path) -> None:
    bank = taught(bundle).add("café", prompt(2), *shots(1, 9), threshold=0, description=["Black, in a <cup>."])
    export_bank(bank, tmp_path / "out")
    read = json.loads((tmp_path / "out" / "bank.json").read_text("utf-8"))
    assert [c["pictures"] for c in read["classes"]] == [
        ["0000 red fox/0.jpg", "0000 red fox/1.jpg"],
        ["0001 polar bear/0.jpg"],
        [f"0002 café/{n}.jpg" for n in range(4)],
    ]
    page = Pictures()
    page.feed((tmp_path / "out" / "index.html").read_text("utf-8"))
    assert page.sources == [picture for c in read["classes"] for picture in c["pictures"]]
    assert {"red fox", "polar bear", "café", "Black, in a <cup>."} <= set(page.text)
    for c, number in zip(read["classes"], range(3), strict=True):
        for picture, crop in zip(c["pictures"], bank.crops[bank.owners == number], strict=True):
            np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / picture)), decode_crop(crop))


def test_names_that_are_no_names_of_folders(bundle: Bundle, tmp_path: Path) -> None:
    names = ["../../etc", "a/b", "CON:", "x" * 512, "é" * 300, "..", "<b>&\"'", "A", "other", "赤い"]
    bank = Bank.empty(bundle)
    for seed, name in enumerate(names):
        bank = bank.add(name, prompt(0), *shots(1, seed), threshold=0.5)
    names[8] = "a"  # which earlier versions taught beside 'A'
    bank = replace(bank, names=tuple(names))
    export_bank(bank, tmp_path / "in" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    read = json.loads((tmp_path / "in" / "out" / "bank.json").read_text("utf-8"))
    assert [c["name"] for c in read["classes"]] == names
    places = [(tmp_path / "in" / "out" / c["pictures"][0]) for c in read["classes"]]
    assert len({str(place).lower() for place in places}) == len(names)
    assert all(place.is_file() and place.parent.parent == tmp_path / "in" / "out" for place in places)
    page = Pictures()
    page.feed((tmp_path / "in" / "out" / "index.html").read_text("utf-8"))
    assert "<b>&\"'" in page.text
    assert page.sources == [c["pictures"][0] for c in read["classes"]]


def test_an_earlier_export_is_replaced_and_nothing_else(bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    export_bank(taught(bundle), out)
    export_bank(Bank.empty(bundle), out)
    assert sorted(path.name for path in out.iterdir()) == ["bank.json", "index.html"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    (tmp_path / "file").write_text("")
    for place in ("mine", "file"):
        with pytest.raises(BankError, match="in the way"):
            export_bank(taught(bundle), tmp_path / place)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"
    (out / "letter.txt").write_text("dear")
    with pytest.raises(BankError, match=r"in the way[\s\S]*letter\.txt"):
        export_bank(taught(bundle), out)
    assert (out / "letter.txt").read_text() == "dear"


def test_a_second_picture_shows_where_the_name_is(bundle: Bundle, tmp_path: Path) -> None:
    bank = taught(bundle).add_by_name("hammer", prompt(7), np.ones(6, np.float32))
    heats: list[np.ndarray | None] = [np.full((2, 2), shot, np.float32) for shot in range(len(bank.owners))]
    heats[-1] = None
    export_bank(bank, tmp_path / "out", heats)
    classes = json.loads((tmp_path / "out" / "bank.json").read_text("utf-8"))["classes"]
    assert [[look["evidence"] for look in entry["looks"]] for entry in classes] == [[0, 1], [2], [3, 4, 5], []]
    page = Pictures()
    page.feed((tmp_path / "out" / "index.html").read_text("utf-8"))
    pairs = [(picture, look["picture"]) for c in classes for picture, look in zip(c["pictures"], c["looks"], strict=True)]
    assert page.sources == [name for pair in pairs for name in pair]
    assert {"name: 0.0", "name: 5.0"} <= set(page.text)
    assert f"Below {LEAST:g}, nothing in the picture looks like the name." in " ".join(page.text)
    for (_, name), shot in ((pairs[0], 0), (pairs[-1], 5)):
        shown = np.asarray(Image.open(tmp_path / "out" / name))
        np.testing.assert_allclose(shown, heat_picture(decode_crop(bank.crops[shot]), heats[shot]), atol=40)  # JPEG
    export_bank(bank, tmp_path / "out")
    assert "<figure>" not in (tmp_path / "out" / "index.html").read_text("utf-8")
