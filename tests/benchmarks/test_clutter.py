from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import clutter
import debian
import stamps
from sp_edge.errors import DataError

RED, GREEN, BLUE = (np.tile(np.array([*colour, 255], np.uint8), (120, 90, 1)) for colour in np.eye(3, dtype=int) * 255)
GREY = np.full((300, 400, 3), 100, np.uint8)


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clutter, "cut_outs", lambda cache: {"red one": [RED], "green one": [GREEN], "blue one": [BLUE]})
    monkeypatch.setattr(clutter, "backgrounds", lambda cache: [GREY])


def written(out: Path, seed: int = 0) -> dict[str, dict[str, object]]:
    clutter.write(out, size=128, per_class=6, seed=seed)
    scenes: dict[str, dict[str, object]] = json.loads((out / "pictures.json").read_text("utf-8"))
    return scenes


@pytest.mark.usefixtures("toys")
def test_a_picture_shows_its_objects_where_the_file_says(tmp_path: Path) -> None:
    scenes = written(tmp_path / "set")
    assert len(scenes) == 2 * 3 * 6
    channels = {"red one": 0, "green one": 1, "blue one": 2}
    for file, scene in scenes.items():
        kind, name = file.split("/")[0], file.split("/")[1].replace("_", " ")
        with Image.open(tmp_path / "set" / file) as image:
            pixels = np.asarray(image).astype(int)
        assert pixels.shape == (128, 128, 3)
        objects = {name: scene["box"]} | ({scene["other"]: scene["other_box"]} if kind == "clutter" else {})
        assert len(objects) == {"alone": 1, "clutter": 2}[kind]
        for shown, (left, top, right, bottom) in objects.items():
            assert 0 <= left < right <= 128
            assert 0 <= top < bottom <= 128
            assert 0.34 <= max(right - left, bottom - top) / 128 <= 0.61
            middle = pixels[(top + bottom) // 2, (left + right) // 2]
            assert middle.argmax() == channels[shown]
            assert middle.max() > middle.sum() - middle.max() + 60


@pytest.mark.usefixtures("toys")
def test_two_objects_hardly_overlap(tmp_path: Path) -> None:
    pairs = [scene for file, scene in written(tmp_path / "set").items() if file.startswith("clutter")]
    assert max(clutter._overlap(scene["box"], scene["other_box"]) for scene in pairs) <= clutter.OVERLAP
    assert clutter._overlap((0, 0, 10, 10), (5, 0, 25, 10)) == 0.5


@pytest.mark.usefixtures("toys")
def test_a_set_follows_from_its_seed(tmp_path: Path) -> None:
    assert written(tmp_path / "one") == written(tmp_path / "two") != written(tmp_path / "three", seed=1)
    file = "clutter/red_one/003.jpg"
    assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    with pytest.raises(DataError, match="exists"):
        written(tmp_path / "one")


def test_a_file_shows_one_name_only() -> None:
    files = [file for files in stamps.OBJECTS.values() for file in files]
    assert len(files) == len(set(files))
    assert len(stamps.OBJECTS) == 143


def test_a_package_that_lacks_a_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / stamps.STAMPS[0]).mkdir()
    with pytest.raises(DataError, match=r"frog\.png"):
        stamps.cut_outs(tmp_path)


def test_a_package_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def run(package: str, *command: str, cwd: Path) -> None:
        calls.append(command[0])
        if command[0] == "apt-get":
            (cwd / "toys_1_all.deb").touch()
        else:
            (cwd / "usr").mkdir()

    monkeypatch.setattr(debian, "_run", run)
    assert debian.unpacked("toys", tmp_path) == debian.unpacked("toys", tmp_path) == tmp_path / "toys"
    assert calls == ["apt-get", "dpkg-deb"]
    assert [path.name for path in (tmp_path / "toys").iterdir()] == ["usr"]


def test_a_package_that_cannot_be_fetched_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="cannot fetch toys"):
        debian.unpacked("toys", tmp_path / "cache")
    assert not (tmp_path / "cache" / "toys").exists()
