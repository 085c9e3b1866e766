from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sp_edge.data.episodes import EpisodeSampler
from sp_edge.data.folder import class_folders, has_split, load_split
from sp_edge.errors import DataError, ImageError, PromptError
from sp_edge.preprocess import Preprocess, load_image

SMALL = Preprocess(16, 1.0)


def fill(root: Path, **classes: int) -> Path:
    """Pictures of noise: `fill(root, train__fox=3)` makes three in train/fox; the number tells them apart."""
    for place, count in classes.items():
        folder = root.joinpath(*place.split("__"))
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = np.random.default_rng([number, len(place)]).integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def test_pictures_come_by_class_and_by_file_name(tmp_path: Path) -> None:
    fill(tmp_path, train__fox=3, train__bear=2)
    pictures = load_split(tmp_path, "train", SMALL)
    assert pictures.class_names == ("bear", "fox")
    assert pictures.labels.tolist() == [0, 0, 1, 1, 1]
    assert pictures.labels.dtype == np.int64
    assert pictures.groups["all"].tolist() == [0, 1, 2, 3, 4]
    assert list(pictures.groups) == ["all"]
    files = ["bear/0.png", "bear/1.png", "fox/0.png", "fox/1.png", "fox/2.png"]
    for image, file in zip(pictures.images, files, strict=True):
        np.testing.assert_array_equal(image, SMALL(load_image(tmp_path / "train" / file)))


def test_the_preprocessing_is_the_one_that_is_given(tmp_path: Path) -> None:
    fill(tmp_path, train__fox=1)
    file = tmp_path / "train" / "fox" / "0.png"
    for preprocess in (Preprocess(32, 1.1), Preprocess(8, 2.0)):
        images = load_split(tmp_path, "train", preprocess).images
        np.testing.assert_array_equal(images[0], preprocess(load_image(file)))


def test_folder_names_are_class_names(tmp_path: Path) -> None:
    long = "x" * 200
    fill(tmp_path, train__polar_bear=1, **{f"train__{long}": 1, "train__赤い_自転車": 1, "train__Zürcher Kaffeetasse": 1})
    folders = class_folders(tmp_path, "train")
    assert set(folders) == {"polar bear", long, "赤い 自転車", "Zürcher Kaffeetasse"}
    assert folders["polar bear"].name == "polar_bear"
    assert set(load_split(tmp_path, "train", SMALL).class_names) == set(folders)


def test_what_is_no_class_is_passed_over(tmp_path: Path) -> None:
    fill(tmp_path, train__fox=1)
    (tmp_path / "train" / ".cache").mkdir()
    (tmp_path / "train" / "readme.txt").write_text("")
    (tmp_path / "train" / "fox" / "notes.txt").write_text("")
    (tmp_path / "train" / "fox" / ".hidden.png").write_bytes(b"")
    (tmp_path / "train" / "fox" / "sub.png").mkdir()
    assert len(load_split(tmp_path, "train", SMALL)) == 1


@pytest.mark.parametrize(("one", "other"), [("polar_bear", "polar bear"), ("cafe\u0301", "caf\u00e9"), ("a  b", "a_b")])
def test_two_folders_with_one_name_are_refused(tmp_path: Path, one: str, other: str) -> None:
    fill(tmp_path, **{f"train__{one}": 1, f"train__{other}": 1})
    if len(list((tmp_path / "train").iterdir())) == 1:
        pytest.skip("this file system knows one spelling only")
    with pytest.raises(DataError, match="two classes") as raised:
        class_folders(tmp_path, "train")
    assert unicodedata.normalize("NFC", one.replace("_", " ").replace("  ", " ")) in raised.value.what
    assert one in raised.value.got
    assert other in raised.value.got


def test_a_folder_whose_name_says_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train" / "_").mkdir(parents=True)
    with pytest.raises(PromptError, match="needs a name"):
        class_folders(tmp_path, "train")


def test_a_class_in_two_splits_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, train__polar_bear=1, train__fox=1, val__owl=1, **{"test__polar bear": 1})
    for split, other in (("train", "test"), ("test", "train")):
        with pytest.raises(DataError, match=f"both {split}/ and {other}/") as raised:
            load_split(tmp_path, split, SMALL)
        assert raised.value.got == "polar bear"
    assert load_split(tmp_path, "val", SMALL).class_names == ("owl",)


def test_a_class_without_pictures_is_refused_by_name(tmp_path: Path) -> None:
    fill(tmp_path, train__fox=1, train__owl=0)
    (tmp_path / "train" / "owl" / "owl.txt").write_text("")
    with pytest.raises(DataError, match="has no pictures") as raised:
        load_split(tmp_path, "train", SMALL)
    assert str(tmp_path / "train" / "owl") in raised.value.what


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"not a picture", None])
def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    fill(tmp_path, train__fox=30)
    bad = tmp_path / "train" / "fox" / "bad.png"
    if content is None:
        content = (tmp_path / "train" / "fox" / "0.png").read_bytes()[:-300]
    bad.write_bytes(content)
    with pytest.raises(ImageError) as raised:
        load_split(tmp_path, "train", SMALL)
    assert str(bad) in str(raised.value)


@pytest.mark.parametrize("made", [[], ["train"], ["train/.hidden"]])
def test_a_split_without_classes_is_refused(tmp_path: Path, made: list[str]) -> None:
    for name in made:
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(DataError, match="no classes in" if made else "no folder"):
        load_split(tmp_path, "train", SMALL)


def test_a_data_set_that_is_not_there_is_refused_with_what_it_should_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder") as raised:
        load_split(tmp_path / "nowhere", "train", SMALL)
    assert "train/, val/ and test/" in raised.value.expected
    assert raised.value.got == "nothing"


def test_splits_are_folders(tmp_path: Path) -> None:
    fill(tmp_path, train__fox=1)
    (tmp_path / "val").write_text("a file")
    assert has_split(tmp_path, "train")
    assert not has_split(tmp_path, "val")
    assert not has_split(tmp_path, "test")
    assert load_split(tmp_path, "train", SMALL).class_names == ("fox",)


def test_too_few_pictures_or_classes_for_an_episode_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, train__fox=3, train__owl=4)
    labels = load_split(tmp_path, "train", SMALL).labels
    EpisodeSampler(labels, n_way=2, n_shot=1, n_query=2, seed=0)
    with pytest.raises(DataError, match="too few pictures") as raised:
        EpisodeSampler(labels, n_way=2, n_shot=2, n_query=2, seed=0)
    assert (raised.value.expected, raised.value.got) == ("n_shot + n_query = 4", "3 pictures")
    with pytest.raises(DataError, match="fewer classes than ways") as raised:
        EpisodeSampler(labels, n_way=3, n_shot=1, n_query=1, seed=0)
    assert (raised.value.expected, raised.value.got) == ("at least 3 classes", "2")
