"""`sp-edge bank test`: what was taught is tried on labelled pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import toy

Call = Callable[..., tuple[int, str, str]]


def draw(place: Path, colour: str, count: int = 1) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(toy.picture(colour, side=40, seed=50 + number)).save(place / f"{colour}{number}.png")


def noise(place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(place / "noise.png")


@pytest.fixture
def pictures(taught: Path) -> Path:
    """Labelled pictures beside a bank of red, green and blue: 4 red, one shown as green; 2 green; a dog shown as red; noise."""
    folder = taught / "pictures"
    draw(folder / "red", "red", 3)
    draw(folder / "red", "green")
    draw(folder / "green", "green", 2)
    draw(folder / "dog", "red")
    noise(folder / "unknown")
    return folder


def test_what_was_taught_is_tried(pictures: Path, call: Call) -> None:
    code, out, err = call("bank", "test", pictures, "--json", "test.json", "--device", "cpu")
    assert code == 0
    assert err.startswith("runs/2/model.spedge through ONNX Runtime")
    lines = out.splitlines()
    assert lines[0].split()[:5] == ["class", "pictures", "right", "other", "class"]
    assert [line.split()[:6] for line in lines[2:4]] == [
        ["green", "2", "2", "0", "0", "100.0"],
        ["red", "4", "3", "1", "0", "75.0"],
    ]
    assert ["dog", "1", "1"] in [line.split()[:3] for line in lines]
    assert ["unknown", "1", "0"] in [line.split()[:3] for line in lines]
    assert ["dog", "red", "1"] in [line.split() for line in lines]
    assert ["red", "green", "1"] in [line.split() for line in lines]
    assert "accuracy: 83.3 % (43.6 to 97.0), 5 of 6 pictures of taught classes" in out
    assert "called unknown: 0.0 % (0.0 to 39.0), 0 of 6\n" in out
    assert "wrongly accepted: 50.0 % (9.5 to 90.5), 1 of 2 pictures of other classes" in out
    assert "taught, and without a picture here: blue" in out
    read = json.loads(Path("test.json").read_text("utf-8"))
    assert read["accuracy"]["share"] == pytest.approx(5 / 6)
    assert [row["name"] for row in read["taught"]] == ["green", "red"]
    assert [row["name"] for row in read["foreign"]] == ["dog", "unknown"]
    assert (read["bank"], read["bank_version"], read["untried"], read["unreadable"]) == (
        *("runs/2/classes.spbank", 3, ["blue"], {}),
    )


def test_a_threshold_makes_pictures_unknown(pictures: Path, call: Call) -> None:
    code, out, _ = call("bank", "test", pictures, "--threshold", 1)
    assert code == 0
    assert ", 0 of 6 pictures of taught" in out
    assert "called unknown: 100.0 % (61.0 to 100.0), 6 of 6, 5 of them nearest to their own class" in out
    assert ", 0 of 2 pictures of other" in out


def test_logistic_regression_is_tried_too(pictures: Path, call: Call) -> None:
    code, out, _ = call("bank", "test", pictures, "--classifier", "lr")
    assert code == 0
    assert ", 5 of 6 pictures of taught" in out


def test_what_cannot_be_read_is_told_after_what_can(pictures: Path, call: Call) -> None:
    (pictures / "red" / "broken.png").write_bytes(b"no picture")
    code, out, err = call("bank", "test", pictures, "--json", "test.json")
    assert code == 2
    assert ", 5 of 6 pictures of taught" in out
    assert "1 of 9 pictures cannot be read" in err
    assert "broken.png" in err
    (file,) = json.loads(Path("test.json").read_text("utf-8"))["unreadable"]
    assert file == str(pictures / "red" / "broken.png")


def test_a_class_in_another_spelling_is_told(pictures: Path, call: Call) -> None:
    (pictures / "green").rename(pictures / "Green")
    draw(pictures, "blue")
    code, out, _ = call("bank", "test", pictures)
    assert code == 0
    assert "'Green' counts as the bank's class 'green'" in out
    assert "have no class: 1 left out" in out


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: None, "got: nothing"),
        (lambda folder: folder.touch(), "got: a file"),
        (lambda folder: folder.mkdir(), "no class folders"),
        (lambda folder: draw(folder, "red"), "1 pictures without a class"),
        (lambda folder: (folder / "red").mkdir(parents=True), "no pictures in"),
        (lambda folder: draw(folder / "test" / "red", "red"), "test itself, if it holds the class folders"),
        (lambda folder: draw(folder / "cat", "red"), "folders called as the classes are: red, green, blue"),
        (lambda folder: (draw(folder / "dark_red", "red"), draw(folder / "dark red", "red")), "two classes"),
    ],
)
def test_folders_that_show_nothing(taught: Path, call: Call, make: Callable[[Path], object], words: str) -> None:
    make(taught / "photos")
    code, out, err = call("bank", "test", "photos", "--json", "test.json")
    assert (code, out) == (2, "")
    assert words in err
    assert not (taught / "test.json").exists()


def test_a_class_whose_pictures_are_all_broken(taught: Path, call: Call) -> None:
    (taught / "photos" / "red").mkdir(parents=True)
    (taught / "photos" / "red" / "a.png").write_bytes(b"no picture")
    code, _, err = call("bank", "test", "photos")
    assert code == 2
    assert "a.png" in err


def test_one_folder_and_a_bank(pictures: Path, call: Call) -> None:
    for arguments in ([], [pictures, pictures]):
        code, _, err = call("bank", "test", *arguments)
        assert (code, "one folder" in err) == (2, True)
    code, _, err = call("bank", "test", pictures, "--bank", "typo.spbank")
    assert (code, "no bank at typo.spbank" in err) == (2, True)
