from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import toy
from sp_edge.errors import SourceError
from sp_edge_runtime.prediction import Prediction
from sp_edge_runtime.sinks import harvest
from sp_edge_runtime.sinks.harvest import Harvest
from sp_edge_runtime.sources.frames import VideoFrame
from sp_edge_runtime.streams.result import FrameResult
from sp_edge_runtime.streams.smoothing import Event, Smoothed

CROP = toy.picture("red")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harvest, "PAUSE", 0.0)
    monkeypatch.setattr(harvest, "LOOK", 0.0)


def result(
    label: str, feature: np.ndarray, *, confidence: float = 0.9, crop: np.ndarray = CROP, appeared: bool = False
) -> FrameResult:
    seen = Prediction(label, label, confidence, 0.8, 0.1, (), 0, {}, 1, crop, feature.astype(np.float32))
    events = (Event("appeared", label, 0.0, 0, 0.0, 0.9),) if appeared else ()
    return FrameResult(VideoFrame(crop, 0, 0.0), seen, 1.0, 0.0, Smoothed(label, confidence, events), "camera")


def direction(number: int) -> np.ndarray:
    return np.eye(400)[number]


def test_what_is_worth_a_look_is_kept_and_the_reason_with_it() -> None:
    kept = Harvest()
    kept.write(result("mug", direction(0)))
    kept.write(result("mug", direction(0)))
    kept.write(result("mug", direction(0), appeared=True))
    kept.write(result("mug", direction(1)))
    kept.write(result("mug", direction(2), confidence=0.5))
    kept.write(result("mug", 0.1 * direction(3) + direction(2)))
    assert [(one.label, one.why) for one in kept.kept] == [
        ("mug", "first"), ("mug", "change"), ("mug", "different"), ("mug", "unsure"),
    ]  # fmt: skip
    assert kept.version == 4


@pytest.mark.parametrize("crop", [np.zeros_like(CROP), np.full_like(CROP, 255)])
def test_what_nobody_could_see_anything_on_is_passed_over(crop: np.ndarray) -> None:
    kept = Harvest()
    kept.write(result("mug", direction(0), crop=crop))
    assert kept.kept == []
    kept.write(result("mug", direction(0)))
    assert [one.why for one in kept.kept] == ["first"]


def test_of_too_many_the_most_alike_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harvest, "MOST", 3)
    kept = Harvest()
    for number in range(3):
        kept.write(result("mug", direction(number)))
    first, second, third = (one.number for one in kept.kept)
    kept.write(result("cup", direction(1)))
    assert [one.number for one in kept.kept] == [first, third, third + 1]
    assert second not in [one.number for one in kept.kept]
    monkeypatch.setattr(harvest, "MOST_BYTES", 1)
    kept.write(result("pot", direction(9)))
    assert kept.kept == [], "one alone is too large"


def test_what_was_filed_is_let_go() -> None:
    kept = Harvest()
    for number in range(3):
        kept.write(result("mug", direction(number)))
    kept.drop({kept.kept[1].number, 999})
    assert len(kept.kept) == 2
    kept.write(result("mug", direction(1)))
    assert len(kept.kept) == 3, "it may come again"


def test_a_folder_takes_each_and_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "new" / "kept"
    kept = Harvest(folder)
    kept.write(result('a/b: "c"', direction(0)))
    (file,) = folder.iterdir()
    assert file.name.endswith(" a b c.jpg")
    assert file.read_bytes() == kept.kept[0].crop
    monkeypatch.setattr(harvest, "MOST_FILES", 2)
    (folder / "mine.jpg").write_text("the user's")
    again = Harvest(folder)
    for number in range(2):
        again.write(result("mug", direction(number)))
    assert not file.exists()
    assert len(list(folder.iterdir())) == 3
    again.drop({one.number for one in again.kept})
    assert len(list(folder.iterdir())) == 3, "files stay"


def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match="cannot keep frames"):
        Harvest(tmp_path / "file")
    kept = Harvest(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for number in range(2):
        kept.write(result("mug", direction(number)))
    assert len(kept.kept) == 2
    assert len(log.messages) == 1


def test_a_result_without_its_crop_is_passed_over() -> None:
    kept = Harvest()
    bare = result("mug", direction(0))
    kept.write(replace(bare, prediction=replace(bare.prediction, crop_rgb=None, feature=None)))
    assert kept.kept == []
