from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sp_edge.data import scenes as data_scenes
from sp_edge.data import sets
from sp_edge.data.scenes import SPLIT_SIZES, draw_split
from sp_edge.errors import DataError, ImageError
from sp_edge.pictures import load_image
from sp_edge.preprocess import Preprocess
from sp_edge.settings.settings import Settings


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for place in ("train/red_fox", "train/owl", "val/bear"):
        (tmp_path / place).mkdir(parents=True)
        pixels = np.random.default_rng(len(place)).integers(0, 256, (90, 100, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / place / "a.png")
    return tmp_path


def folder(root: Path, **data: object) -> Settings:
    return Settings.from_mapping({"data": {"source": str(root), **data}, "model": {"image_size": 64}})


def scenes(**data: object) -> Settings:
    return Settings.from_mapping({"data": {"per_class": 1, "test_per_class": 2, **data}, "model": {"image_size": 32}})


def test_a_folder_is_read_with_the_settings_preprocessing(root: Path) -> None:
    settings = folder(root, resize_ratio=1.5)
    assert sets.preprocess_of(settings) == Preprocess(64, 1.5)
    assert sets.preprocess_of(folder(root, resize_ratio=1.5, interpolation="bicubic")) == Preprocess(64, 1.5, "bicubic")
    pictures = sets.load_split(settings, "train")
    assert pictures.images.shape == (2, 64, 64, 3)
    assert pictures.class_names == ("owl", "red fox")
    other = sets.load_split(folder(root, resize_ratio=1.0), "train")
    assert (pictures.images != other.images).any()


def test_a_folder_has_the_splits_that_are_there(root: Path) -> None:
    settings = folder(root)
    assert [sets.has_split(settings, split) for split in ("train", "val", "test")] == [True, True, False]
    assert sets.class_names(settings) == {"train": ("owl", "red fox"), "val": ("bear",)}
    with pytest.raises(DataError, match="has no test/"):
        sets.load_split(settings, "test")


def test_pictures_are_what_the_preprocessing_makes_of_them(root: Path) -> None:
    given = Preprocess(32, 1.2)
    for preprocess, settings in ((Preprocess(64, 1.1), folder(root)), (given, folder(root))):
        pictures = sets.load_split(settings, "train", preprocess=None if preprocess != given else given)
        assert pictures.labels.tolist() == [0, 1]
        assert {group: rows.tolist() for group, rows in pictures.groups.items()} == {"all": [0, 1]}
        for image, place in zip(pictures.images, ("owl", "red_fox"), strict=True):
            np.testing.assert_array_equal(image, preprocess(load_image(root / "train" / place / "a.png")))


def test_the_cache_is_where_the_settings_say(root: Path, tmp_path: Path, picture_cache: Path) -> None:
    before = set(picture_cache.rglob("*"))
    sets.load_split(folder(root, cache=str(tmp_path / "mine")), "val")
    assert len(list((tmp_path / "mine").glob("*.npy"))) == 1
    assert set(picture_cache.rglob("*")) == before


def test_a_class_without_pictures_is_refused_by_name(root: Path) -> None:
    (root / "train" / "yak").mkdir()
    (root / "train" / "yak" / "notes.txt").write_text("")
    with pytest.raises(DataError, match="a class has no pictures: 'yak'") as raised:
        sets.load_split(folder(root), "train")
    assert str(root) in raised.value.what


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"not a picture"])
def test_a_picture_that_cannot_be_read_is_named(root: Path, content: bytes) -> None:
    (root / "train" / "owl" / "bad.png").write_bytes(content)
    with pytest.raises(ImageError) as raised:
        sets.load_split(folder(root), "train")
    assert str(root / "train" / "owl" / "bad.png") in str(raised.value)


def test_a_split_file_and_a_table_of_names(root: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    for place in ("train/red_fox", "train/owl", "val/bear"):
        (root / place).rename(flat.mkdir(exist_ok=True) or flat / Path(place).name)
    (tmp_path / "split.csv").write_text("class,split\nred_fox,train\nowl,test\nbear,test\n")
    (tmp_path / "names.txt").write_text("red_fox vulpes vulpes\n")
    settings = folder(flat, split=str(tmp_path / "split.csv"), names=str(tmp_path / "names.txt"))
    assert sets.class_names(settings) == {"train": ("vulpes vulpes",), "test": ("bear", "owl")}
    assert [sets.has_split(settings, split) for split in ("train", "val", "test")] == [True, False, True]
    assert len(sets.load_split(settings, "test")) == 2


@pytest.mark.parametrize(
    ("data", "what", "said"),
    [
        ({"source": "mini-imagenet"}, "needs its pictures", "data.root"),
        ({"source": "fc100", "root": ".", "split": "a.json"}, "has a split of its own", "no data.split"),
        ({"source": ".", "root": "/pictures"}, "is no benchmark", "mini-imagenet, tiered-imagenet, cifar-fs, fc100, cub"),
        ({"source": "miniimagenet"}, "no data set miniimagenet", "mini-imagenet, tiered-imagenet"),
        ({"source": "."}, "has no train/", "train/, val/ and test/"),
        ({"source": ".", "split": "nowhere.json"}, "cannot read nowhere.json", "JSON"),
    ],
)
def test_settings_that_name_no_data_set_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: dict[str, str], what: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=what) as raised:
        sets.load_split(Settings.from_mapping({"data": data}), "train")
    assert said in raised.value.expected


def test_another_data_set_is_prepared_as_the_first_and_shares_nothing_else() -> None:
    data = Settings.from_mapping(
        {"data": {"source": "cub", "root": "/a", "names": "n.txt", "cache": "/c", "resize_ratio": 1.5}}
    ).data
    assert dataclasses.asdict(data.elsewhere("birds")) == {
        **dataclasses.asdict(data), "source": "birds", "root": "", "names": "", "split": "",
    }  # fmt: skip
    assert data.elsewhere("cub", "/b") == dataclasses.replace(data, root="/b"), "the same set elsewhere keeps its names"
    assert data.elsewhere("cub") == data


def test_scenes_have_all_splits_and_names_without_a_picture_drawn() -> None:
    settings = scenes()
    names = sets.class_names(settings)
    assert {split: len(classes) for split, classes in names.items()} == SPLIT_SIZES
    assert all(sets.has_split(settings, split) for split in names)


def test_scenes_are_drawn_at_the_networks_size_with_the_runs_seed() -> None:
    pictures = sets.load_split(scenes(), "val")
    np.testing.assert_array_equal(pictures.images, draw_split("val", size=32, per_class=2).images)
    assert pictures.class_names == sets.class_names(scenes())["val"]
    seeded = Settings.from_mapping({**scenes().to_json(), "seed": 5})
    assert (sets.load_split(seeded, "val").images != pictures.images).any()


def test_scenes_count_by_split(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []
    monkeypatch.setattr(data_scenes, "draw_split", lambda split, *, per_class, **_: asked.append((split, per_class)))
    for split in ("train", "val", "test"):
        sets.load_split(scenes(per_class=7, test_per_class=3), split)
    assert asked == [("train", 7), ("val", 3), ("test", 3)]


def test_scenes_need_no_margin() -> None:
    settings = scenes(resize_ratio=2.0)
    assert sets.preprocess_of(settings) == Preprocess(32, 1.0)
    picture = sets.load_split(settings, "val").images[0]
    assert sets.preprocess_of(settings)(picture) is picture


def test_how_the_files_were_chosen_is_told(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "val").rename(root / "valid")
    (root / "valid" / "bear" / "clip.mov").write_bytes(b"\0\0\0\x14ftypqt  \0\0\0\0qt  ")
    with caplog.at_level("INFO"):
        sets.load_split(folder(root), "val")
    assert "valid is taken for val/" in caplog.text
    assert "left out 1 as video" in caplog.text
