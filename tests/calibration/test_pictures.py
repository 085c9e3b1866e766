from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sp_edge.errors import DataError
from sp_edge.matching.decide import unit
from sp_edge.preprocess import Preprocess
from sp_edge_calibration import pictures as module
from sp_edge_calibration.pictures import CHOSEN, MINIMUM, Pictures, calibrate_with, farness, k_centre

PREPROCESS = Preprocess(32, 1.0)


def encode(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A picture's mean colour, from grey."""
    return np.asarray(images.mean(axis=(1, 2)) - 127, np.float32)


def clouds(count: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return np.asarray(rng.normal(size=(count, 3)) + 3 * np.eye(3)[rng.integers(0, 3, count)], np.float32)


def test_reads_a_folder_and_what_is_below(photos: Path) -> None:
    read = Pictures.read(photos, PREPROCESS)
    assert (len(read.images), read.found, len(read.files)) == (25, 26, 25)
    assert read.images.shape == (25, 32, 32, 3)
    assert [Path(file).name for file in read.unreadable] == ["broken.jpg"]
    assert read.files[0].name == "loose.png"


def test_a_large_folder_is_read_evenly(photos: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "CANDIDATES", 20)
    read = Pictures.read(photos, PREPROCESS)
    assert len(read.files) + len(read.unreadable) == 20
    assert {file.parent.name for file in read.files} >= {"red", "green", "blue"}
    calibrate_with(read, encode(read.images), encode(read.images))
    assert "26 pictures are more than needed" in log.text


@pytest.mark.parametrize(("count", "enough"), [(0, False), (MINIMUM - 1, False), (MINIMUM, True)])
def test_too_few_are_refused(tmp_path: Path, count: int, enough: bool) -> None:
    for number in range(count):
        Image.new("RGB", (32, 32), (number, 0, 0)).save(tmp_path / f"{number}.png")
    if enough:
        assert len(Pictures.read(tmp_path, PREPROCESS).images) == MINIMUM
        return
    with pytest.raises(DataError, match=f"too few calibration pictures[\\s\\S]*at least 16[\\s\\S]*got: {count} in"):
        Pictures.read(tmp_path, PREPROCESS)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder"):
        Pictures.read(tmp_path / "none", PREPROCESS)


def test_k_centre_takes_one_of_each_kind_first() -> None:
    features = unit(np.repeat(np.eye(4), 50, axis=0) + np.random.default_rng(0).normal(0, 0.02, (200, 4)))
    chosen = k_centre(features, 4)
    assert sorted(chosen // 50) == [0, 1, 2, 3]
    assert k_centre(features, 300).tolist() == list(range(200))
    assert len(set(k_centre(features, 100))) == 100


def test_k_centre_leaves_no_row_farther_than_twice_the_best() -> None:
    """The bound of Gonzalez (1985), against every choice of three among nine."""
    from itertools import combinations

    features = unit(np.random.default_rng(3).normal(size=(9, 3)))
    distance = np.sqrt(np.maximum(0, 2 - 2 * features @ features.T))
    best = min(distance[:, list(c)].min(axis=1).max() for c in combinations(range(9), 3))
    assert distance[:, k_centre(features, 3)].min(axis=1).max() <= 2 * best + 1e-6


def test_the_choice_is_recorded(photos: Path, log: pytest.LogCaptureFixture) -> None:
    read = Pictures.read(photos, PREPROCESS)
    made = calibrate_with(read, encode(read.images), encode(read.images))
    assert made.record["chosen"] == 25 <= CHOSEN
    assert (made.record["found"], made.record["unreadable"]) == (26, 1)
    assert made.record["sha256"] == hashlib.sha256(read.images.tobytes()).hexdigest()
    assert made.record["spread"] == 1
    assert any("1 of 26 files cannot be read" in word and "broken.jpg" in word for word in log.messages)
    assert any("25 calibration pictures are few" in word for word in log.messages)
    assert not any("another kind" in word for word in log.messages)


def test_pictures_of_another_kind_are_warned_of(photos: Path, log: pytest.LogCaptureFixture) -> None:
    read = Pictures.read(photos, PREPROCESS)
    known = -encode(read.images)
    calibrate_with(read, encode(read.images), known)
    assert "another kind" in log.records[-1].getMessage()
    assert log.records[-1].levelname == "WARNING"


@pytest.mark.parametrize("kind", ["black", "noise"])
def test_pictures_that_show_nothing_are_refused(tmp_path: Path, photos: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    for number in range(MINIMUM):
        image = np.zeros((32, 32, 3), np.uint8) if kind == "black" else rng.integers(0, 90, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    known = encode(Pictures.read(photos, PREPROCESS).images)
    read = Pictures.read(tmp_path, PREPROCESS)
    with pytest.raises(DataError, match="all look alike"):
        calibrate_with(read, encode(read.images), known)


def test_a_network_that_gives_no_numbers_is_not_calibrated(photos: Path) -> None:
    read = Pictures.read(photos, PREPROCESS)
    nothing = np.full((len(read.images), 4), np.nan, np.float32)
    with pytest.raises(DataError, match=r"all look alike[\s\S]*nan"):
        calibrate_with(read, nothing, nothing)


def test_one_known_picture_is_enough_to_compare_with(photos: Path) -> None:
    read = Pictures.read(photos, PREPROCESS)
    assert calibrate_with(read, encode(read.images), encode(read.images[:1])).record["spread"] > 1


def test_farness_of_the_same_kind_is_about_one() -> None:
    known, more = unit(clouds(200, 0)), unit(clouds(200, 1))
    assert 0.5 < farness(more, known) < 2
    assert farness(-known, known) > 10


def test_what_cannot_be_read_at_all_counts_as_missing(photos: Path, tmp_path: Path) -> None:
    for number in range(30):
        shutil.copy(photos / "red" / "broken.jpg", tmp_path / f"{number}.jpg")
    with pytest.raises(DataError, match=r"0 in .*, and 30 unreadable files"):
        Pictures.read(tmp_path, PREPROCESS)


def test_what_was_not_taken_is_told(photos: Path, log: pytest.LogCaptureFixture) -> None:
    (photos / "red" / "clip.mov").write_bytes(b"\0\0\0\x14ftypqt  \0\0\0\0qt  ")
    Pictures.read(photos, PREPROCESS)
    assert "left out 1 as video" in log.text


def test_why_a_picture_cannot_be_read_is_kept(photos: Path) -> None:
    assert list(Pictures.read(photos, PREPROCESS).unreadable.values()) != [""]
