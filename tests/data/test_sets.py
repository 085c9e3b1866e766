from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sp_edge.data import sets
from sp_edge.data.scenes import SPLIT_SIZES, draw_split
from sp_edge.errors import DataError
from sp_edge.preprocess import Preprocess
from sp_edge.settings import Settings


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
    pictures = sets.load_split(settings, "train")
    assert pictures.images.shape == (2, 64, 64, 3)
    assert pictures.class_names == ("owl", "red fox")
    other = sets.load_split(folder(root, resize_ratio=1.0), "train")
    assert (pictures.images != other.images).any()


def test_a_folder_has_the_splits_that_are_there(root: Path) -> None:
    settings = folder(root)
    assert [sets.has_split(settings, split) for split in ("train", "val", "test")] == [True, True, False]
    assert sets.class_names(settings) == {"train": ("owl", "red fox"), "val": ("bear",)}
    with pytest.raises(DataError, match="no folder"):
        sets.load_split(settings, "test")


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
    monkeypatch.setattr("sp_edge.data.scenes.draw_split", lambda split, *, per_class, **_: asked.append((split, per_class)))
    for split in ("train", "val", "test"):
        sets.load_split(scenes(per_class=7, test_per_class=3), split)
    assert asked == [("train", 7), ("val", 3), ("test", 3)]


def test_scenes_need_no_margin() -> None:
    settings = scenes(resize_ratio=2.0)
    assert sets.preprocess_of(settings) == Preprocess(32, 1.0)
    picture = sets.load_split(settings, "val").images[0]
    assert sets.preprocess_of(settings)(picture) is picture
