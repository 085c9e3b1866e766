from __future__ import annotations

import hashlib
import pickle
import urllib.error
from pathlib import Path

import numpy as np
import pytest

from sp_edge.data.benchmarks import load, open_benchmark
from sp_edge.errors import DataError

torchvision = pytest.importorskip("torchvision")
WORDS = sorted(word for classes in load("cifar-fs").classes.values() for word in classes)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CIFAR-100 in its own form, with two training pictures and one test picture of each class."""
    from torchvision.datasets import CIFAR100

    folder = tmp_path / "data" / "cifar-100-python"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    parts: dict[str, dict[str, object]] = {"meta": {"fine_label_names": WORDS}}
    for part, each in (("train", 2), ("test", 1)):
        labels = rng.permutation(np.repeat(np.arange(100), each)).tolist()
        parts[part] = {"data": rng.integers(0, 256, (100 * each, 3072), dtype=np.uint8), "fine_labels": labels}
    for part, content in parts.items():
        (folder / part).write_bytes(pickle.dumps(content))
    digests = {part: hashlib.md5((folder / part).read_bytes()).hexdigest() for part in parts}  # noqa: S324
    monkeypatch.setattr(CIFAR100, "train_list", [["train", digests["train"]]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", digests["test"]]])
    monkeypatch.setattr(CIFAR100, "meta", {"filename": "meta", "key": "fine_label_names", "md5": digests["meta"]})
    return tmp_path / "data"


@pytest.mark.parametrize("name", ["cifar-fs", "fc100"])
def test_each_class_has_its_pictures_of_both_files(root: Path, name: str) -> None:
    source = open_benchmark(name, root, {})
    stored = {part: pickle.loads((root / "cifar-100-python" / part).read_bytes()) for part in ("train", "test")}  # noqa: S301
    for split, classes in load(name).classes.items():
        listing = source.listing(split)
        assert listing.class_names == source.class_names(split) == tuple(classes.values())
        assert listing.labels.tolist() == [label for label in range(len(classes)) for _ in range(3)]
        for number in (0, 1, 2, len(listing) - 1):
            file, _, row = listing.pictures[number].rpartition(", row ")
            part = stored[Path(file).name]
            word = list(classes)[listing.labels[number]]
            assert WORDS[part["fine_labels"][int(row)]] == word
            red, green, blue = part["data"][int(row)].reshape(3, 32, 32)
            np.testing.assert_array_equal(listing.read(number), np.stack([red, green, blue], axis=2))
            assert listing.stamps[number] == (Path(file).stat().st_size, Path(file).stat().st_mtime_ns)


def test_it_is_downloaded_where_it_is_missing(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def download(url: str, place: str, **_: object) -> None:
        asked.append(url)
        (root / "cifar-100-python").rename(Path(place) / "cifar-100-python")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", download)
    listing = open_benchmark("fc100", tmp_path / "empty", {}).listing("val")
    assert len(listing) == 60
    assert asked == ["https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"]


@pytest.mark.parametrize("cause", [urllib.error.URLError("no route to host"), RuntimeError("File not found or corrupted.")])
def test_no_download_is_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise cause

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", fail)
    with pytest.raises(DataError, match="could not be downloaded") as raised:
        open_benchmark("cifar-fs", tmp_path / "empty", {}).listing("train")
    assert raised.value.got == str(cause)
    assert not any((tmp_path / "empty").iterdir())
    assert "https://" in raised.value.next_step


def test_a_file_that_is_not_the_originals_is_not_unpickled(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "cifar-100-python" / "train").write_bytes(b"cposix\nsystem\n(S'exit 1'\ntR.")
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", lambda *_, **__: None)
    with pytest.raises(DataError, match="could not be downloaded") as raised:
        open_benchmark("cifar-fs", root, {}).listing("train")
    assert "corrupted" in raised.value.got
