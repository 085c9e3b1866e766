from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import toy
from sp_edge.bundle.bundle import Bundle
from sp_edge.data.episodes import EpisodeSampler
from sp_edge.errors import BackendError, DataError, ImageError, SettingsError, SourceError
from sp_edge_runtime.backends.onnx_runtime import OnnxRuntimeBackend
from sp_edge_runtime.bench import candidates, measure, phases
from sp_edge_runtime.bench.accuracy import LEAST, Trial
from sp_edge_runtime.bench.figures import Figures, columns
from sp_edge_runtime.bench.fresh import Fresh
from sp_edge_runtime.bench.measure import bench
from sp_edge_runtime.bench.phases import Phases
from sp_edge_runtime.recognizer import Recognizer

CHOSEN = (("cpu", "fp32"), ("cpu", "int8"), ("cuda", "fp32"), ("cuda", "bf16"))


class Pictures:
    """Red, green and blue ones with noise, four of each."""

    class_names = tuple(toy.COLOURS)
    labels = np.repeat(np.arange(3), 4)

    def read(self, row: int) -> np.ndarray:
        return toy.picture(self.class_names[self.labels[row]], side=48, seed=row)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few engines, and no process is started."""
    monkeypatch.setattr(candidates, "CANDIDATES", CHOSEN)
    monkeypatch.setattr(phases, "start", lambda job: Fresh(0.5, 100.0, 50.0))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, few: None) -> Counter[str]:
    """How often each phase had a turn; none does anything."""
    turns: Counter[str] = Counter()
    for name in measure.ENDS:
        monkeypatch.setattr(Phases, name, lambda self, place, name=name: turns.update([name]))
    monkeypatch.setattr(measure, "opened_source", lambda source: _Nothing())
    return turns


class _Nothing:
    def close(self) -> None:
        pass


def test_everything_is_measured_once_however_short_the_time(toy_bundle: Path, few: None) -> None:
    bundle = Bundle.load(toy_bundle)
    told: list[str] = []
    report = bench(bundle, seconds=1, trial=Trial(Pictures(), EpisodeSampler), tell=told.append).to_json()
    json.dumps(report, allow_nan=False)
    assert report["schema"] == 1
    assert report["bundle"] == {"name": "bundle", "fingerprint": bundle.fingerprint, "image_size": toy.SIDE}
    assert (report["source"], report["stopped"], report["energy"]) == ("test://", False, None)
    (found,) = report["backends"]
    assert (found["device"], found["precision"], found["failed"]) == ("cpu", "fp32", [])
    assert found["cosine"] > 0.9999
    assert found["one_ms"]["runs"] >= phases.RUNS
    assert set(found["one_ms"]) == {"median", "low", "high", "p95", "runs"}
    assert set(found["pictures_a_second"]) == {"8", "32"}
    assert found["camera"]["frames"] == found["camera"]["age_ms"]["runs"] > 0
    assert found["camera"]["cpu_share"] > 0
    assert found["camera"]["millijoules_a_frame"] is None
    assert found["start_to_label_s"]["median"] == 0.5
    assert found["accuracy"]["mean"] == 1.0
    assert found["accuracy"]["episodes"] >= LEAST
    said = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in report["missing"].items())
    assert "cpu int8: the bundle has no int8 graphs;" in said
    assert "cuda bf16: bf16 runs in OpenVINO alone" in said
    assert dict.fromkeys(told) == dict.fromkeys(["opening", *measure.TOLD.values()])


def test_the_table_leaves_out_what_nothing_fills(toy_bundle: Path, few: None) -> None:
    report = bench(Bundle.load(toy_bundle), seconds=1).to_json()
    header, rows = columns(report)
    assert header == [
        "backend", "cosine", "ms", "p95", "8: /s", "32: /s", "enroll ms", "camera ms", "p95 ms", "CPU %", "start s", "MB",
    ]  # fmt: skip
    assert rows[0][0] == "cpu fp32"
    report["backends"].append({**report["backends"][0], "device": "other", "start_to_label_s": None})
    header, rows = columns(report)
    assert rows[1][header.index("start s")] == "-"
    assert columns({"backends": []}) == ([], [])


def test_each_phase_ends_at_its_share_of_the_time(toy_bundle: Path, counted: Counter[str]) -> None:
    bench(Bundle.load(toy_bundle), seconds=80, clock=itertools.count().__next__)
    # One engine: a turn, and another for each second until the phase's end: 45, 60 and 80 of 80 shares.
    assert counted == {"speed": 45, "camera": 15, "fresh": 20}


def test_a_phase_that_begins_late_makes_one_round(toy_bundle: Path, counted: Counter[str]) -> None:
    bench(Bundle.load(toy_bundle), seconds=1, clock=itertools.count(step=100).__next__)
    assert counted == {"speed": 1, "camera": 1, "fresh": 1}


def test_engines_take_turns_and_another_begins_each_round() -> None:
    turns: list[int] = []
    more = iter([True] * 5 + [False])
    measure._rounds(turns.append, _three(), lambda: next(more), lambda: None)
    assert turns == [0, 1, 2, 1, 2, 0, 2, 0]


def _three() -> list[Figures]:
    return [Figures("cpu", "fp32", str(number), 1.0) for number in range(3)]


def test_an_engine_that_fails_has_no_more_turns_in_that_phase() -> None:
    turns: list[int] = []
    figures = _three()

    def turn(place: int) -> None:
        turns.append(place)
        if place == 1 or len(turns) > 6:
            raise BackendError("the engine takes 8 pictures at most", got="32")

    measure._rounds(turn, figures, lambda: True, lambda: None)
    assert turns == [0, 1, 2, 2, 0, 2, 0, 2], "none is left"
    assert figures[1].failed == figures[0].failed == ["the engine takes 8 pictures at most: 32"]


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch, few: None, tmp_path: Path) -> Bundle:
    """A bundle whose graphs run in two precisions."""
    monkeypatch.setattr(candidates, "CANDIDATES", (("cpu", "fp32"), ("cpu", "fp16")))
    return Bundle.load(toy.make_bundle(tmp_path / "two", precisions=("fp32", "fp16")))


@pytest.mark.parametrize(("graph", "count", "missing"), [("query", 32, "enroll_ms"), ("query", 4, "accuracy")])
def test_one_engine_that_fails_costs_nothing_but_its_own_figures(
    two: Bundle, graph: str, count: int, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = OnnxRuntimeBackend.run

    def run(self: OnnxRuntimeBackend, graph_: str, inputs: Any) -> Any:
        if self._precision == "fp16" and (graph_, len(inputs["image"])) == (graph, count):
            raise BackendError("the engine failed", got=f"{count} pictures")
        return real(self, graph_, inputs)

    golden = two.golden()
    assert len(golden.images) != count, "it opens"
    monkeypatch.setattr(OnnxRuntimeBackend, "run", run)
    report = bench(two, seconds=1, trial=Trial(Pictures(), EpisodeSampler)).to_json()
    right, wrong = report["backends"]
    assert right["failed"] == []
    assert right["accuracy"]
    assert right["enroll_ms"]
    assert wrong["failed"] == [f"the engine failed: {count} pictures"]
    assert wrong[missing] is None
    assert wrong["one_ms"]
    assert wrong["camera"]
    assert not report["stopped"]


@pytest.mark.parametrize(("devices", "counted"), [((), True), (("cuda", "tensorrt"), False)])
def test_a_cards_energy_is_not_told_of_engines_that_do_not_use_it(
    toy_bundle: Path, few: None, monkeypatch: pytest.MonkeyPatch, devices: tuple[str, ...], counted: bool
) -> None:
    class Meter:
        what = "a card"
        joules = itertools.count(step=5.0).__next__

        def close(self) -> None:
            pass

    meter: Any = Meter()
    meter.devices = devices
    monkeypatch.setattr(measure, "open_meter", lambda: meter)
    report = bench(Bundle.load(toy_bundle), seconds=1).to_json()
    assert (report["backends"][0]["camera"]["millijoules_a_frame"] is not None) == counted
    assert report["energy"] == ("a card" if counted else None)


def test_an_engine_that_cannot_be_taught_leaves_it_to_the_next(two: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Recognizer.enroll

    def enroll(self: Recognizer, *rest: Any, **options: Any) -> Any:
        if self.backend.title.endswith("fp32"):
            raise BackendError("out of memory")
        return real(self, *rest, **options)

    monkeypatch.setattr(Recognizer, "enroll", enroll)
    wrong, right = bench(two, seconds=1).to_json()["backends"]
    assert wrong["title"].endswith("fp32")
    assert wrong["failed"] == ["out of memory"]
    assert wrong["one_ms"]
    assert right["failed"] == []
    assert right["enroll_ms"]


def test_a_source_that_fails_ends_the_bench_with_what_was_found(
    toy_bundle: Path, few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Phases, place: int) -> None:
        raise SourceError("rtsp://***@door/1 failed", got="no frames")

    monkeypatch.setattr(Phases, "camera", fail)
    report = bench(Bundle.load(toy_bundle), seconds=1).to_json()
    assert (report["stopped"], report["stopped_by"]) == (True, "rtsp://***@door/1 failed: no frames")
    assert report["backends"][0]["one_ms"]


def test_an_engine_that_computes_wrong_features_is_named(two: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    real = OnnxRuntimeBackend.run

    def run(self: OnnxRuntimeBackend, graph: str, inputs: Any) -> Any:
        found = real(self, graph, inputs)
        return {name: -value for name, value in found.items()} if self._precision == "fp16" else found

    monkeypatch.setattr(OnnxRuntimeBackend, "run", run)
    right, wrong = bench(two, seconds=1).to_json()["backends"]
    assert right["failed"] == []
    assert wrong["failed"][0].startswith("wrong features: a cosine of -")
    assert Figures("cpu", "int8", "", float("nan")).failed
    assert not Figures("cpu", "int8", "", 0.95).failed


def test_what_was_found_before_ctrl_c_is_reported(
    toy_bundle: Path, few: None, counted: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: Phases, place: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Phases, "camera", stop)
    report = bench(Bundle.load(toy_bundle), seconds=10, clock=itertools.count().__next__).to_json()
    assert (report["stopped"], report["stopped_by"]) == (True, "Ctrl+C")
    assert counted["speed"] > 0
    assert counted["fresh"] == 0
    assert report["backends"][0]["camera"] is None


def test_a_batch_that_would_take_too_long_is_left_out(
    toy_bundle: Path, few: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[int] = []

    def slow(action: Any, runs: int, *, warm: int = 0, longest_s: float = 0) -> list[float]:
        asked.append(runs)
        return [700.0] * runs

    monkeypatch.setattr(phases, "taken_ms", slow)
    (found,) = bench(Bundle.load(toy_bundle), seconds=1).to_json()["backends"]
    assert found["pictures_a_second"] == {"8": None, "32": None}
    assert asked[:2] == [phases.RUNS, 1]


def test_a_fresh_process_that_fails_is_told_once(toy_bundle: Path, few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(job: object) -> Fresh:
        raise BackendError("a fresh process failed", got="no memory")

    monkeypatch.setattr(phases, "start", fail)
    (found,) = bench(Bundle.load(toy_bundle), seconds=2).to_json()["backends"]
    assert found["failed"] == ["a fresh process failed: no memory"]
    assert found["start_to_label_s"] is None


def test_a_video_is_read_again_and_a_source_that_is_not_there_is_told_at_once(
    toy_bundle: Path, toy_video: Path, few: None, counted: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(candidates, "CANDIDATES", CHOSEN[:1])
    monkeypatch.setattr(phases, "start", lambda job: Fresh(0.5, 100.0, 50.0))
    (found,) = bench(Bundle.load(toy_bundle), seconds=1, source=str(toy_video)).to_json()["backends"]
    assert found["camera"]["frames"] % (9 - phases.SETTLING) == 0
    with pytest.raises(SourceError):
        bench(Bundle.load(toy_bundle), seconds=1, source="nowhere.mp4")


def test_a_time_that_cannot_be_and_a_machine_without_an_engine_are_refused(
    toy_bundle: Path, few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match="1 second or more"):
        bench(Bundle.load(toy_bundle), seconds=0)
    monkeypatch.setattr(candidates, "CANDIDATES", (("cuda", "bf16"),))
    with pytest.raises(SettingsError, match="no engine"):
        bench(Bundle.load(toy_bundle), seconds=1)


def test_episodes_need_two_classes_with_two_pictures() -> None:
    class One(Pictures):
        labels = np.array([0, 0, 0, 1, 2])

    with pytest.raises(DataError, match="got: 1 such folder"):
        Trial(One(), EpisodeSampler)


class Many(Pictures):
    """Six classes, all but the last with six pictures."""

    class_names = tuple(toy.NAMES[:6])
    labels = np.repeat(np.arange(6), [6, 6, 6, 6, 6, 3])

    def read(self, row: int) -> np.ndarray:
        return toy.picture("red", side=48, seed=row)


def test_small_classes_are_left_out_where_there_are_enough_others() -> None:
    assert sorted(Trial(Many(), EpisodeSampler).order) == [0, 1, 2, 3, 4]
    assert sorted(Trial(Pictures(), EpisodeSampler).order) == [0, 1, 2]


@pytest.mark.parametrize(("broken", "found"), [((0, 5), True), (tuple(range(1, 9)), False)])
def test_pictures_that_cannot_be_read_are_named_and_left_out(
    broken: tuple[int, ...], found: bool, toy_bundle: Path, counted: Counter[str], log: pytest.LogCaptureFixture
) -> None:
    class Broken(Pictures):
        def read(self, row: int) -> np.ndarray:
            if row in broken:
                raise ImageError(f"cannot read {row}.png", got="not a picture")
            return super().read(row)

    report = bench(Bundle.load(toy_bundle), seconds=1, trial=Trial(Broken(), EpisodeSampler)).to_json()
    assert (report["backends"][0]["accuracy"] is not None) == found
    assert report["backends"][0]["failed"] == ([] if found else ["no accuracy: the pictures cannot be read"])
    assert {f"left out: cannot read {row}.png: not a picture" for row in broken} <= set(log.messages)


def test_a_bundle_whose_golden_pictures_are_alike_is_measured(
    toy_bundle: Path, counted: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle.load(toy_bundle)
    golden = bundle.golden()
    alike = dataclasses.replace(golden, images=np.repeat(golden.images[:1], len(golden.images), axis=0))
    monkeypatch.setattr(Bundle, "golden", lambda self: alike)
    assert bench(bundle, seconds=1).to_json()["backends"]


def test_some_devices_alone_can_be_opened(toy_bundle: Path, few: None) -> None:
    with ExitStack() as stack:
        found, missing = candidates.opened(Bundle.load(toy_bundle), stack, None, ("cuda",))
        assert not found
        assert {name.split()[0] for names in missing.values() for name in names} == {"cuda"}
