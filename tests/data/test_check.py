from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sp_edge.data.check import NEAR, Need, Twin, check, difference_hash, nearest_before
from sp_edge.data.folder import FolderSource
from sp_edge.errors import DataError

NEEDS = dict.fromkeys(("train", "val", "test"), Need(2, 3))


def scene(seed: int, width: int = 60, height: int = 48) -> np.ndarray:
    """A smooth picture that no other seed resembles."""
    coarse = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two splits of two classes with three pictures each; all is well."""
    numbers = itertools.count()
    for place in ("train/fox", "train/owl", "test/bear", "test/yak"):
        (tmp_path / place).mkdir(parents=True)
        for name in "abc":
            Image.fromarray(scene(next(numbers))).save(tmp_path / place / f"{name}.png")
    return tmp_path


def test_a_sound_set_is_counted(root: Path) -> None:
    report = check(FolderSource(root), NEEDS)
    assert report.usable
    assert [(s.split, s.classes, s.pictures, s.fewest, s.most, s.broken, s.tiny) for s in report.splits] == [
        ("train", 2, 6, 3, 3, 0, 0),
        ("test", 2, 6, 3, 3, 0, 0),
    ]
    assert not any([report.broken, report.tiny, report.too_few, report.duplicates, report.near])


def test_a_broken_picture_is_named_and_not_counted(root: Path) -> None:
    bad = root / "train" / "fox" / "b.png"
    bad.write_bytes(bad.read_bytes()[:-300])
    report = check(FolderSource(root), NEEDS)
    assert not report.usable
    assert list(report.broken) == [str(bad)]
    assert "truncated" in report.broken[str(bad)]
    assert (report.splits[0].pictures, report.splits[0].fewest, report.splits[0].broken) == (6, 2, 1)
    assert report.too_few == ("train: 'fox' has 2 pictures, and an episode takes 3",)


def test_what_the_protocol_cannot_use_is_said(root: Path) -> None:
    (root / "train" / "gnu").mkdir()
    needs = {"train": Need(2, 3), "test": Need(5, 4)}
    report = check(FolderSource(root), needs)
    assert report.too_few == (
        "train: 'gnu' has 0 pictures, and an episode takes 3",
        "test: 'bear' has 3 pictures, and an episode takes 4",
        "test: 'yak' has 3 pictures, and an episode takes 4",
        "test: 2 classes, and an episode takes 5",
    )


def test_spellings_of_one_name_in_two_splits_are_told_but_stop_nothing(root: Path) -> None:
    (root / "test" / "yak").rename(root / "test" / "FOX")
    report = check(FolderSource(root), NEEDS)
    assert report.names == ("'fox' (train) and 'FOX' (test)",)
    assert report.usable


def test_tiny_pictures_are_told_but_stop_nothing(root: Path) -> None:
    small = root / "test" / "yak" / "d.png"
    Image.fromarray(scene(50, width=200, height=31)).save(small)
    Image.fromarray(scene(51, width=32, height=32)).save(small.with_name("e.png"))
    report = check(FolderSource(root), NEEDS)
    assert report.tiny == {str(small): (200, 31)}
    assert report.usable


def test_the_same_pixels_in_two_splits(root: Path) -> None:
    first, second = root / "train" / "owl" / "c.png", root / "test" / "yak" / "twin.bmp"
    Image.open(first).save(second)
    again = root / "train" / "fox" / "again.png"
    Image.open(first).save(again)  # within a split it is nobody's loss
    report = check(FolderSource(root), NEEDS)
    assert report.duplicates == (Twin(str(second), str(again), 0),)
    assert not report.near
    assert report.usable


def jpeg(image: Image.Image) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=60)
    return Image.open(content)


VERSIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "compressed": jpeg,
    "smaller": lambda image: image.resize((41, 33), Image.Resampling.BICUBIC),
    "larger": lambda image: image.resize((120, 96), Image.Resampling.BILINEAR),
    "brighter": lambda image: image.point(lambda value: min(255, value + 5)),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_versions_of_one_picture_in_two_splits(root: Path, version: str) -> None:
    first, second = root / "train" / "owl" / "c.png", root / "test" / "yak" / "twin.png"
    VERSIONS[version](Image.open(first)).save(second)
    report = check(FolderSource(root), NEEDS)
    assert [(twin.picture, twin.twin) for twin in report.near] == [(str(second), str(first))]
    assert report.near[0].bits <= NEAR
    assert not report.duplicates


def test_a_report_is_json(root: Path) -> None:
    Image.open(root / "train" / "owl" / "c.png").save(root / "test" / "yak" / "twin.bmp")
    (root / "train" / "owl" / "d.png").write_bytes(b"")
    report = check(FolderSource(root), NEEDS)
    value = json.loads(json.dumps(report.to_json()))
    assert value["usable"] is False
    assert value["splits"][0]["pictures"] == 7
    assert list(value["broken"]) == [str(root / "train" / "owl" / "d.png")]
    assert value["duplicates"][0]["twin"] == str(root / "train" / "owl" / "c.png")


def test_a_folder_without_splits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no split"):
        check(FolderSource(tmp_path), NEEDS)


def test_the_hash_compares_cells_with_their_neighbours() -> None:
    ramp = np.repeat(np.repeat(np.arange(9, dtype=np.uint8)[None, :, None] * 20, 9, axis=0), 3, axis=2)
    bits = np.unpackbits(difference_hash(ramp))
    assert bits[:64].all(), "brighter to the right everywhere"
    assert not bits[64:].any(), "and alike downwards"
    turned = np.unpackbits(difference_hash(np.ascontiguousarray(ramp.transpose(1, 0, 2))))
    assert (turned == np.roll(bits, 64)).all()
    assert not difference_hash(np.full((30, 20, 3), 7, np.uint8)).any()


def test_the_nearest_of_an_earlier_part_is_found_by_comparing_all() -> None:
    rng = np.random.default_rng(3)
    base = rng.integers(0, 256, (40, 16), dtype=np.uint8)
    bits = np.unpackbits(np.concatenate([base, base, base[:20]]), axis=1)
    for row in range(40, 100):
        bits[row, rng.choice(128, rng.integers(0, 4), replace=False)] ^= 1
    hashes = np.packbits(bits, axis=1)
    parts = np.repeat([0, 1, 2], [40, 40, 20])
    found = nearest_before(hashes, parts)
    distances = (bits[:, None] != bits[None]).sum(axis=2)
    assert set(found) == set(range(40, 100))
    for row, (twin, distance) in found.items():
        assert parts[twin] < parts[row]
        assert distance == distances[row, twin] == distances[row, parts < parts[row]].min()


def test_alike_pictures_within_a_split_and_unlike_ones_are_no_twins() -> None:
    hashes = np.random.default_rng(0).integers(0, 256, (6, 16), dtype=np.uint8)
    hashes[1] = hashes[0]
    assert nearest_before(hashes, np.array([0, 0, 0, 1, 1, 2])) == {}
    assert nearest_before(np.empty((0, 16), np.uint8), np.empty(0, np.int64)) == {}
    far = hashes.copy()
    far[5] = far[0]
    far[5, 0] ^= 0b01111111  # seven bits
    assert nearest_before(far, np.array([0, 0, 0, 1, 1, 2])) == {}
    far[5, 0] ^= 0b00000001
    assert nearest_before(far, np.array([0, 0, 0, 1, 1, 2])) == {5: (0, 6)}
