from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import toy
from sp_edge.bank.bank import Bank
from sp_edge.bundle.bundle import Bundle
from sp_edge_runtime.recognizer import Recognizer

Call = Callable[..., tuple[int, str, str]]

BANK, BUNDLE = Path("runs/1/classes.spbank"), Path("runs/1/model.spedge")


@pytest.fixture(scope="module")
def banks(tmp_path_factory: pytest.TempPathFactory, toy_bundle: Path) -> Path:
    """A folder with a bank of red, green and blue, and one of blue twice, in two pictures, and a dark night."""
    folder = tmp_path_factory.mktemp("banks")
    for file, taught in (("classes", ("red", "green", "blue")), ("other", ("blue", "green as blue", "dark night"))):
        with Recognizer.load(toy_bundle, bank=folder / f"{file}.spbank", device="cpu") as recognizer:
            for name in taught:
                shown, seed = ("blue", 1) if name == "dark night" else (name.split(" as ")[0], 0)
                recognizer.enroll(name.split(" as ")[-1], [toy.picture(shown, seed=seed)])
    return folder


@pytest.fixture
def taught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_bundle: Path, banks: Path) -> Path:
    """The working directory with a bank of red, green and blue, and other.spbank of blue and a dark night."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(toy_bundle, tmp_path / BUNDLE)
    shutil.copytree(banks, tmp_path / BANK.parent, dirs_exist_ok=True)
    (tmp_path / BANK.parent / "other.spbank").rename(tmp_path / "other.spbank")
    return tmp_path


def bank(path: Path | str = BANK) -> Bank:
    return Bank.load(Path(path), Bundle.load(BUNDLE))


def test_set(taught: Path, call: Call) -> None:
    assert taught.is_dir()
    assert call("bank", "set", "--name", "red", "--strength", 0.25) == (0, "'red': strength 0.25\n", "")
    assert call("bank", "set", "--name", "red", "--threshold", -0.5, "--strength", 1)[0] == 0
    assert bank().strengths.tolist() == [1, 1, 1]
    np.testing.assert_equal(bank().thresholds, np.float32([-0.5, np.nan, np.nan]))
    rows = [line.split() for line in call("bank", "list")[1].splitlines()]
    assert rows[2:4] == [["red", "1", "-0.500", "(set)", "1.000"], ["green", "1", "0.500", "1.000"]]
    assert call("bank", "set", "--name", "red", "--threshold", 0.5, "--auto-threshold")[0] == 2
    assert call("bank", "set", "--name", "red", "--auto-threshold") == (0, "'red': calibrated threshold\n", "")
    assert np.isnan(bank().thresholds).all()
    code, _, err = call("bank", "set", "--name", "red")
    assert (code, "nothing to set" in err) == (2, True)
    assert call("bank", "set", "--name", "red", "--strength", 1.5)[0] == 2
    code, _, err = call("bank", "set", "--name", "quagga", "--strength", 0.5)
    assert (code, "red, green, blue" in err) == (2, True)


def test_what_is_said_has_the_banks_spelling(taught: Path, call: Call) -> None:
    assert taught.is_dir()
    assert call("bank", "set", "--name", "RED", "--strength", 0.25) == (0, "'red': strength 0.25\n", "")
    assert call("bank", "remove", "--name", "Green") == (0, "forgot 'green'\n", "")


def test_check(taught: Path, call: Call) -> None:
    code, out, err = call("bank", "check", "--json", "report.json")
    assert (code, err) == (0, "")
    assert "advice: add a second picture of" in out
    read = json.loads((taught / "report.json").read_text("utf-8"))
    assert (read["left_out"], read["accuracy"], read["strays"]) == (0, None, [])


def test_undo(taught: Path, call: Call) -> None:
    assert taught.is_dir()
    call("bank", "set", "--name", "red", "--strength", 0.25)
    call("bank", "remove", "--name", "green")
    code, out, err = call("bank", "undo")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "taken back: 'green' removed: 1 shot removed"
    assert out.splitlines()[1] == f"{BANK}: version 6, 3 classes; 4 more changes can be taken back"
    assert call("bank", "undo")[1].splitlines()[0] == "taken back: 'red' changed: strength 1.000 -> 0.250"
    assert call("bank", "undo")[1].splitlines()[0] == "taken back: 'blue' added: 1 shot added"
    for _ in range(2):
        assert call("bank", "undo")[0] == 0
    assert bank().names == ()
    code, _, err = call("bank", "undo")
    assert (code, "take back" in err) == (2, True)


def test_merge(taught: Path, call: Call) -> None:
    assert taught.is_dir()
    code, out, err = call("bank", "merge", "other.spbank")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "'blue' changed: 1 shot added",
        "'dark night' added: 1 shot added",
        f"bank: {BANK} with 4 classes, 5 shots",
    ]
    assert bank().names == ("red", "green", "blue", "dark night")
    assert call("bank", "merge", "other.spbank") == (0, f"bank: {BANK} with 4 classes, 5 shots\n", "")
    assert bank().version == 4
    assert call("bank", "merge", BANK, "other.spbank", "--bank", "new/all.spbank")[0] == 0
    assert call("bank", "diff", BANK, "new/all.spbank") == (0, "", "")
    assert call("bank", "undo")[1].count("taken back:") == 2


def test_merging_what_differs(taught: Path, call: Call) -> None:
    assert taught.is_dir()
    call("bank", "set", "--bank", "other.spbank", "--name", "blue", "--threshold", 0.75)
    call("bank", "set", "--name", "blue", "--threshold", 0.5)
    code, out, err = call("bank", "merge", "other.spbank")
    assert (code, out) == (2, "")
    assert "other.spbank: a class differs" in err
    assert "'blue': threshold 0.500 and 0.750" in err
    assert "--prefer ours or theirs" in err
    assert bank().version == 4
    assert call("bank", "merge", "other.spbank", "--prefer", "ours")[0] == 0
    assert bank().thresholds[2] == 0.5
    assert call("bank", "merge", "other.spbank", "--prefer", "theirs")[0] == 0
    np.testing.assert_equal(bank().thresholds, np.float32([np.nan, np.nan, 0.75, np.nan]))


def test_merging_nothing(taught: Path, call: Call) -> None:
    (taught / "rubbish").write_bytes(b"rubbish")
    for arguments in ((), ("rubbish",), ("nothing",)):
        code, _, err = call("bank", "merge", *arguments)
        assert code == 2
        assert err.startswith("error: ")
    assert bank().version == 3


def test_diff(taught: Path, call: Call) -> None:
    code, out, err = call("bank", "diff", BANK, "other.spbank", "--json", "diff.json")
    assert (code, err) == (1, "")
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["class", "change", "shots", "threshold", "strength", "prompt"]
    assert rows[2:] == [
        ["blue", "changed", "+1", "-0", "calibrated", "1.000"],
        ["dark", "night", "added", "+1", "-0", "calibrated", "1.000"],
        ["red", "removed", "+0", "-1", "calibrated", "1.000"],
        ["green", "removed", "+0", "-1", "calibrated", "1.000"],
    ]
    read = json.loads((taught / "diff.json").read_text("utf-8"))
    assert (read["old"], read["new"]) == (str(BANK), "other.spbank")
    assert [(c["name"], c["change"]) for c in read["classes"]] == [
        *(("blue", "changed"), ("dark night", "added"), ("red", "removed"), ("green", "removed")),
    ]
    assert call("bank", "diff", BANK, BANK) == (0, "", "")
    assert call("bank", "diff", BANK, "nothing")[0] == 2
    assert call("bank", "diff", BANK)[0] == 2


def test_export(taught: Path, call: Call) -> None:
    assert call("bank", "export", "looks") == (0, "bank: looks/index.html\n", "")
    assert sorted(str(p.relative_to(taught / "looks")) for p in (taught / "looks").rglob("*.jpg")) == [
        *("0000 red/0.jpg", "0001 green/0.jpg", "0002 blue/0.jpg"),
    ]
    code, _, err = call("bank", "export", "runs")
    assert (code, "in the way" in err) == (2, True)
    assert bank().version == 3
    assert call("bank", "export")[0] == 2


@pytest.mark.parametrize("command", ["list", "remove", "set", "undo", "export"])
def test_a_bank_that_is_not_there(taught: Path, call: Call, command: str) -> None:
    more = {"remove": ["--name", "red"], "set": ["--name", "red", "--strength", 0.5], "export": ["out"]}.get(command, [])
    code, _, err = call("bank", command, *more, "--bank", "typo.spbank")
    assert code == 2
    assert "typo.spbank" in err
    assert not (taught / "typo.spbank").exists()
    if command not in ("export",):
        assert "only the bundle" in call("bank", command, BUNDLE, "more", *more)[2]


def test_renew(taught: Path, call: Call) -> None:
    before = bank()
    toy.make_bundle(Path("new.spedge"), strength=0.5)
    assert call("bank", "set", "--name", "red", "--threshold", 0.25)[0] == 0
    code, _, err = call("bank", "list", "new.spedge", "--bank", BANK)
    assert (code, f"sp-edge bank renew new.spedge --bank {BANK}" in err) == (2, True), "the way out is named"
    code, out, err = call("bank", "renew", "new.spedge", "--bank", BANK, "--device", "cpu", "--json", "renewed.json")
    assert (code, err) == (0, "")
    assert "'red': strength 1.000 -> 0.500, as enroll chooses it" in out
    assert "'red': threshold 0.250 -> calibrated" in out
    assert out.endswith(f"bank: {BANK} with 3 classes, 3 shots taught again with new.spedge\n")
    renewed = Bank.load(BANK, Bundle.load(Path("new.spedge")))
    assert (renewed.names, renewed.crops.tolist()) == (before.names, before.crops.tolist())
    assert json.loads(Path("renewed.json").read_text())["bundle"]["new"] == renewed.fingerprint
    code, out, _ = call("bank", "renew", "new.spedge", "--bank", BANK)
    assert (code, out) == (0, "the bank is of this bundle already: nothing to renew\n")
    code, out, _ = call("bank", "undo", "new.spedge", "--bank", BANK)
    assert (code, "the bank belongs to another bundle again" in out) == (0, True)
    assert bank().thresholds[0] == np.float32(0.25)
    code, _, err = call("bank", "renew", "new.spedge", "other.spbank")
    assert (code, "only the bundle is an argument" in err) == (2, True)
    code, _, err = call("bank", "renew", "new.spedge", "--bank", "none.spbank")
    assert (code, "no bank at none.spbank" in err) == (2, True)
