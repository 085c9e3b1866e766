from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sp_edge.errors import DataError
from sp_edge.photographs import photographs
from sp_edge.preprocess import Preprocess
from sp_edge_export.ready.pictures import calibration_pictures, of_folder, of_photographs

PREPARE = Preprocess(32, 1.0)


def folder(place: Path, **counts: int) -> Path:
    random = np.random.default_rng(0)
    for name, count in counts.items():
        (place / name).mkdir()
        for number in range(count):
            pixels = random.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / name / f"{number}.png")
    return place


def test_each_photograph_is_a_class_of_crops() -> None:
    pictures = of_photographs(PREPARE, views=3)
    names = [photograph.name for photograph in photographs()]
    assert list(pictures.class_names) == names
    assert pictures.images.shape == (3 * len(names), 32, 32, 3)
    assert np.bincount(pictures.labels).tolist() == [3] * len(names)
    assert len(np.unique(pictures.images.reshape(len(pictures), -1), axis=0)) == len(pictures)
    np.testing.assert_array_equal(of_photographs(PREPARE, views=3).images, pictures.images)


def test_folders_are_classes(tmp_path: Path) -> None:
    pictures = of_folder(folder(tmp_path, mug=3, red_cup=4), PREPARE)
    assert pictures.class_names == ("mug", "red cup")
    assert np.bincount(pictures.labels).tolist() == [3, 4]


def test_a_folder_with_too_few_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="two classes with three pictures"):
        of_folder(folder(tmp_path, mug=3, cup=2), PREPARE)


def test_conversions_take_the_folder_or_the_photographs(tmp_path: Path) -> None:
    pictures = of_photographs(PREPARE, views=2)
    assert calibration_pictures(None, pictures, PREPARE).images is pictures.images
    found = calibration_pictures(folder(tmp_path, mug=12, cup=12), pictures, PREPARE)
    assert len(found.images) == 24


def test_a_picture_that_cannot_be_read_is_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder(tmp_path, mug=3, red_cup=4)
    (tmp_path / "mug" / "9.png").write_bytes(b"no picture")
    (tmp_path / "bowl").mkdir()
    (tmp_path / "bowl" / "0.png").write_bytes(b"no picture")
    found = of_folder(tmp_path, PREPARE)
    assert found.class_names == ("mug", "red cup"), "a class of which none is left has no mean"
    assert np.bincount(found.labels).tolist() == [3, 4]
    assert any("mug/9.png" in message for message in caplog.messages)
