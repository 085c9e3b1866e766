import contextlib
import dataclasses
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import toy
from sp_edge.errors import ImageError, SettingsError, SourceError
from sp_edge.view import Region
from sp_edge_runtime.prediction import Prediction
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.sources.address import redact
from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.sources.frames import Source, State, StateChange, VideoFrame
from sp_edge_runtime.sources.live import LiveSource
from sp_edge_runtime.sources.options import SourceOptions
from sp_edge_runtime.streams import stream as stream_module
from sp_edge_runtime.streams.options import StreamOptions
from sp_edge_runtime.streams.parts import NamedRegion, Part
from sp_edge_runtime.streams.result import FrameResult
from sp_edge_runtime.streams.smoothing import Event, Smoothing
from sp_edge_runtime.streams.stream import results, run_stream
from sp_edge_runtime.streams.summary import RECENT, STAGES, Times


@pytest.fixture(scope="module")
def recognizer(toy_bundle: Path) -> Iterator[Recognizer]:
    with Recognizer.load(toy_bundle, device="cpu") as loaded:
        for name in toy.COLOURS:
            loaded.enroll(name, [toy.picture(name)])
        yield loaded


class Given(Source):
    """Frames that a test gives; an exception among them is raised in its place, a function is called."""

    def __init__(self, *items: VideoFrame | BaseException | Callable[[], None], live: bool = False) -> None:
        super().__init__("given", live=live)
        self.items = items

    def __iter__(self) -> Iterator[VideoFrame]:
        for item in self.items:
            if isinstance(item, BaseException):
                raise item
            if isinstance(item, VideoFrame):
                yield item
            else:
                item()


class Collecting:
    """A sink that keeps what it gets, and can be made to fail."""

    def __init__(self, fail_at: int | None = None, fail_to_close: bool = False) -> None:
        self.results: list[FrameResult] = []
        self.events: list[Event] = []
        self.closed = 0
        self.fail_at, self.fail_to_close = fail_at, fail_to_close

    def write(self, result: FrameResult) -> None:
        if len(self.results) == self.fail_at:
            raise OSError("no room")
        self.results.append(result)

    def event(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        self.closed += 1
        if self.fail_to_close:
            raise OSError("no room to close")


def frame(name: str, number: int = 0, timestamp: float = 0.0) -> VideoFrame:
    return VideoFrame(toy.picture(name, side=40), number, timestamp)


def test_every_frame_of_a_video_reaches_every_sink(recognizer: Recognizer, toy_video: Path) -> None:
    first, second = Collecting(), Collecting()
    with open_source(str(toy_video)) as source:
        summary = run_stream(recognizer, source, [first, second])
    labels = [result.prediction.label for result in first.results]
    assert labels == ["red"] * 3 + ["green"] * 3 + ["blue"] * 3
    assert first.results == second.results
    assert (first.closed, second.closed) == (1, 1)
    assert (summary.frames, summary.dropped) == (9, 0)
    assert summary.fps == pytest.approx(9 / summary.seconds)
    assert tuple(summary.stages) == STAGES
    assert all(stage.mean_ms >= 0 and stage.median_ms >= 0 for stage in summary.stages.values())
    assert json.loads(json.dumps(summary.to_json(), allow_nan=False))["stages"]["capture"]["mean_ms"] > 0


def test_the_json_of_a_frame(recognizer: Recognizer) -> None:
    (result,) = results(recognizer, Given(frame("red", number=7, timestamp=1.25)))
    read = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert read["name"] == "red"
    assert (read["frame_id"], read["frame_timestamp"]) == (7, 1.25)
    assert read["frame_age_ms"] == result.age_ms >= 0
    assert set(read) == set(result.prediction.to_json()) | {"smoothed", "source", "frame_id", "frame_timestamp", "frame_age_ms"}


def test_events_follow_the_frames_and_what_is_left_ends_with_the_stream(recognizer: Recognizer, toy_video: Path) -> None:
    sink = Collecting()
    with open_source(str(toy_video)) as source:
        run_stream(recognizer, source, [sink], StreamOptions(smoothing=Smoothing(seconds=0.1, hysteresis=0.1)))
    assert [(e.kind, e.name, e.frame_id, e.cause) for e in sink.events] == [
        ("appeared", "red", 0, "frames"),
        ("left", "red", 3, "frames"),  # one frame of 0.1 s weighs 1 - 1/e = 63 %
        ("appeared", "green", 3, "frames"),
        ("left", "green", 6, "frames"),
        ("appeared", "blue", 6, "frames"),
        ("left", "blue", 8, "end"),
    ]
    assert [event for result in sink.results for event in result.events] == sink.events[:-1]
    assert [event.time for event in sink.events] == pytest.approx([0, 0.3, 0.3, 0.6, 0.6, 0.8])
    read = json.loads(json.dumps(sink.results[4].to_json(), allow_nan=False))
    assert read["smoothed"] == {"label": "green", "confidence": sink.results[4].smoothed.confidence}


def test_a_stream_shows_the_smoothed_label_beside_each_frames_own(recognizer: Recognizer) -> None:
    frames = [frame(name, number, number / 10) for number, name in enumerate(["red"] * 5 + ["blue"] + ["red"] * 5)]
    found = list(recognizer.stream(Given(*frames), StreamOptions(smoothing=Smoothing(seconds=0.5))))
    assert {result.label for result in found} == {"red"}
    assert [result.prediction.label for result in found].count("blue") == 1
    assert [event.kind for result in found for event in result.events] == ["appeared"]
    read = found[5].to_json()
    assert (read["label"], read["name"], read["class"]) == ("red", "blue", 2), "JSON says the same as Python"
    plain = list(recognizer.stream(Given(*frames), StreamOptions(smoothing=Smoothing(0))))
    assert [result.label for result in plain] == [result.prediction.label for result in found]


def test_pictures_have_no_time_over_which_to_smooth(recognizer: Recognizer, toy_pictures: Path) -> None:
    found = list(recognizer.stream(toy_pictures))
    assert [result.label for result in found] == list(toy.COLOURS)
    assert all(result.smoothed is None and result.events == () for result in found)


def test_a_live_source_is_smoothed_by_the_clock_that_nobody_sets(recognizer: Recognizer) -> None:
    """A board without a battery starts in 1970 and is set by the network while a thing stands before its camera."""
    image = toy.picture("red", side=40)
    frames = [VideoFrame(image, n, n / 10 + 1.7e9 * (n >= 5), captured=50 + n / 10) for n in range(10)]
    sink = Collecting()
    run_stream(recognizer, Given(*frames, live=True), [sink])
    assert [(event.kind, event.cause) for event in sink.events] == [("appeared", "frames"), ("left", "end")]
    assert sink.events[1].duration == pytest.approx(0.9)
    assert [result.clock for result in sink.results] == [frame.captured for frame in frames]


@pytest.mark.parametrize("error", [SourceError("stopped"), KeyboardInterrupt()])
def test_what_is_there_when_a_stream_breaks_off_leaves(recognizer: Recognizer, error: BaseException) -> None:
    sink = Collecting()
    with pytest.raises(SourceError) if isinstance(error, SourceError) else contextlib.nullcontext():
        run_stream(recognizer, Given(frame("red"), error), [sink])
    assert [(event.kind, event.cause) for event in sink.events] == [("appeared", "frames"), ("left", "end")]


def test_two_channels_of_one_recorder_have_names_of_their_own(recognizer: Recognizer) -> None:
    """What tells them apart stands behind '?', where a password may be, and is hidden."""

    class Feed:
        fps, damaged = None, 0

        def __init__(self, name: str) -> None:
            self.frames = [frame(name)]

        def read(self) -> VideoFrame | None:
            return self.frames.pop() if self.frames else None

        def close(self) -> None:
            pass

        open = release = close

    name, sink = redact("http://host/live?channel=1"), Collecting()
    with LiveSource(lambda: Feed("red"), name) as one, LiveSource(lambda: Feed("blue"), name) as other:
        run_stream(recognizer, [one, other], [sink], StreamOptions(smoothing=Smoothing(seconds=0)))
    assert {result.source: result.label for result in sink.results} == {name: "red", f"{name} (2)": "blue"}
    for source, label in ((name, "red"), (f"{name} (2)", "blue")):
        of_it = [event for event in sink.events if event.source == source]
        assert {event.state.value for event in of_it if isinstance(event, StateChange)} == {"initializing", "running", "ended"}
        assert [(event.kind, event.name) for event in of_it if isinstance(event, Event)] == [
            *(("appeared", label), ("left", label)),
        ]


def aged(name: str, seconds: float) -> VideoFrame:
    """A frame that was captured so long ago."""
    return VideoFrame(toy.picture(name, side=40), 0, 0.0, captured=time.monotonic() - seconds)


def test_the_age_counts_from_the_capture_and_never_below_nothing(recognizer: Recognizer) -> None:
    first, second = results(recognizer, Given(aged("red", 100.0), aged("red", -100.0), live=True))
    assert 100_000 <= first.age_ms < 160_000
    assert second.age_ms == 0.0


def test_what_is_too_old_is_counted_and_not_handed_on(recognizer: Recognizer) -> None:
    frames = (aged("red", 100.0), aged("green", 0.0), aged("blue", 61.0))
    source, sink = Given(*frames, live=True), Collecting()
    summary = run_stream(recognizer, source, [sink], StreamOptions(max_staleness=60.0))
    assert [result.prediction.label for result in sink.results] == ["green"]
    assert (summary.frames, summary.stale, source.stale) == (1, 2, 2)
    # A file waits for whoever reads it.
    assert run_stream(recognizer, Given(*frames), [], StreamOptions(max_staleness=1e-9)).frames == 3


def test_max_frames(recognizer: Recognizer, toy_video: Path) -> None:
    sink = Collecting()
    with open_source(toy_video, SourceOptions(loop=True)) as source:
        assert run_stream(recognizer, source, [sink], StreamOptions(max_frames=11)).frames == 11
    assert [result.frame.frame_id for result in sink.results] == list(range(11))


def test_the_frame_after_the_last_is_not_asked_for(recognizer: Recognizer) -> None:
    source = Given(frame("red"), frame("red"), AssertionError("asked for a third frame"))
    assert run_stream(recognizer, source, [], StreamOptions(max_frames=2)).frames == 2


def test_max_fps_waits_for_the_rest_of_each_period(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [0.0], []

    class Clock:
        time = staticmethod(lambda: now[0])
        perf_counter = staticmethod(lambda: now[0])

        @staticmethod
        def sleep(seconds: float) -> None:
            slept.append(round(seconds, 6))
            now[0] += seconds

    def passes(seconds: float) -> Callable[[], None]:
        return lambda: now.__setitem__(0, now[0] + seconds)

    monkeypatch.setattr(stream_module, "time", Clock)
    source = Given(frame("red"), passes(0.05), frame("red"), passes(0.3), frame("red"), frame("red"))
    list(results(recognizer, source, StreamOptions(max_fps=5)))
    # The third frame took 0.3 s to come, longer than the period: the fourth is asked for at once.
    assert slept == [0.2, 0.15, 0.2]


def test_without_a_source_the_sinks_are_closed(recognizer: Recognizer) -> None:
    sink = Collecting()
    with pytest.raises(SettingsError, match="no source"):
        run_stream(recognizer, [], [sink])
    assert sink.closed == 1
    with pytest.raises(SettingsError, match="no source"):
        results(recognizer, [])


def test_pictures_that_cannot_be_read_are_in_the_summary(recognizer: Recognizer, toy_pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(toy_pictures, tmp_path / "some")
    bad = tmp_path / "some" / "0 bad.png"
    bad.write_bytes(b"no picture")
    with open_source(tmp_path / "some") as source:
        summary = run_stream(recognizer, source, [])
    assert (summary.frames, list(summary.unreadable)) == (3, [str(bad)])
    assert json.loads(json.dumps(summary.to_json()))["unreadable"] == dict(summary.unreadable)


def test_no_frames(recognizer: Recognizer) -> None:
    summary = run_stream(recognizer, Given(), [])
    assert (summary.frames, summary.fps, summary.stages) == (0, 0.0, {})


def test_ctrl_c_ends_the_stream_with_its_summary(recognizer: Recognizer) -> None:
    sink = Collecting()
    summary = run_stream(recognizer, Given(frame("red"), KeyboardInterrupt(), frame("blue")), [sink])
    assert summary.frames == 1
    assert sink.closed == 1


@pytest.mark.parametrize("error", [SourceError("stopped"), ImageError("unreadable")])
def test_sinks_are_closed_when_the_source_fails(recognizer: Recognizer, error: Exception) -> None:
    sinks = [Collecting(), Collecting()]
    with pytest.raises(type(error)):
        run_stream(recognizer, Given(frame("red"), error), sinks)
    assert [(len(sink.results), sink.closed) for sink in sinks] == [(1, 1), (1, 1)]


def test_one_sink_that_fails_leaves_none_open(recognizer: Recognizer) -> None:
    sinks = [Collecting(fail_to_close=True), Collecting(fail_at=0), Collecting(fail_to_close=True)]
    with pytest.raises(OSError, match="no room"):
        run_stream(recognizer, Given(frame("red")), sinks)
    assert [sink.closed for sink in sinks] == [1, 1, 1]


@pytest.mark.parametrize("name", ["dropped", "stale", "restarts", "damaged"])
def test_what_a_source_counts_is_of_this_stream_alone(recognizer: Recognizer, name: str) -> None:
    source = Given(live=True)
    source.items = (frame("red"), lambda: setattr(source, name, 9), frame("red"))
    setattr(source, name, 5)
    assert getattr(run_stream(recognizer, source, []), name) == 4


def test_a_class_is_recognized_from_the_frame_after_it_was_taught(toy_bundle: Path) -> None:
    with Recognizer.load(toy_bundle, device="cpu") as fresh:

        def teach() -> None:
            teacher = threading.Thread(target=fresh.enroll, args=["red", [toy.picture("red")]])
            teacher.start()
            teacher.join()

        found = list(results(fresh, Given(frame("red"), teach, frame("red"))))
    assert [(result.prediction.label, result.prediction.bank_version) for result in found] == [("unknown", 0), ("red", 1)]


def test_a_source_is_closed_when_the_iteration_stops_early(recognizer: Recognizer) -> None:
    source = Given(frame("red"), frame("green"))
    for _ in recognizer.stream(source):
        break
    assert source._closed.is_set()


def test_means_are_of_all_frames_and_medians_of_the_recent_ones() -> None:
    times = Times()
    for _ in range(RECENT):
        times.add(0.0)
    for _ in range(RECENT):
        times.add(10.0)
    summary = times.summary()
    assert (summary.mean_ms, summary.median_ms) == (5.0, 10.0)


def test_results_cannot_be_changed(recognizer: Recognizer) -> None:
    (result,) = results(recognizer, Given(frame("red")))
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.age_ms = 0.0
    np.testing.assert_array_equal(result.frame.image_rgb, toy.picture("red", side=40))


# --- what is looked at ---


def test_each_source_has_its_region(recognizer: Recognizer) -> None:
    wide = np.concatenate([toy.picture("red", side=40), toy.picture("blue", side=40)], axis=1)
    left, right = Region(0, 0, 0.5, 1), Region(40, 0, 40, 40)

    def labels(*regions: Region) -> list[str]:
        sources = [Given(VideoFrame(wide, 0, 0.0)), Given(VideoFrame(wide, 0, 0.0))]
        return sorted(found.label for found in results(recognizer, sources, StreamOptions(regions=regions)))

    assert labels(left, right) == ["blue", "red"]
    assert labels(right) == ["blue", "blue"]
    with pytest.raises(SettingsError, match="do not go together"):
        labels(left, right, left)
    with pytest.raises(SettingsError, match="leaves the picture"):
        list(results(recognizer, Given(frame("red")), StreamOptions(regions=(right,))))


def test_named_regions_of_a_frame_are_recognized_in_one_batch(recognizer: Recognizer) -> None:
    wide = np.concatenate([toy.picture("red", side=40), toy.picture("blue", side=40)], axis=1)
    batches = []

    class Counting:
        def classify(self, images: list[np.ndarray], /, *, region: Sequence[Region | None]) -> list[Prediction]:
            batches.append(len(images))
            return recognizer.classify(images, region=region)

    named = NamedRegion("left", Region(0, 0, 0.5, 1)), NamedRegion("right", Region(0.5, 0, 0.5, 1))
    frames = [VideoFrame(wide, number, number / 10) for number in range(3)]
    sink = Collecting()
    summary = run_stream(Counting(), Given(*frames, live=True), [sink], StreamOptions(named_regions=named))
    assert batches == [3, 3, 3]
    assert [one.source for one in sink.results] == ["given", "left", "right"] * 3
    assert {(one.source, one.label) for one in sink.results if one.source != "given"} == {("left", "red"), ("right", "blue")}
    assert all(one.frame is frames[place // 3] for place, one in enumerate(sink.results)), "read once"
    events = [(one.kind, one.name) for one in sink.events if one.source == "right"]
    assert events == [("appeared", "blue"), ("left", "blue")], "each is smoothed for itself"
    assert summary.frames == 3, "a frame with its regions counts once"
    assert summary.fps == pytest.approx(3 / summary.seconds)


@pytest.mark.parametrize(("most", "numbers"), [(1, [0, 0]), (2, [0, 0, 0]), (3, [0, 0, 0, 1, 1])])
def test_the_last_frame_is_recognized_with_all_its_regions(recognizer: Recognizer, most: int, numbers: list[int]) -> None:
    sources = [Given(frame("red"), frame("red", 1, 0.1)), Given(frame("red"), frame("red", 1, 0.1))]
    sources[1].name = "other"
    options = StreamOptions(max_frames=most, named_regions=(NamedRegion("part", Region(0, 0, 0.5, 1), "given"),))
    sink = Collecting()
    assert run_stream(recognizer, sources, [sink], options).frames == most
    assert [one.frame.frame_id for one in sink.results] == numbers
    assert [one.source for one in sink.results] == (["given", "part", "other"] * 2)[: len(numbers)]


def test_named_regions_change_while_the_stream_runs(recognizer: Recognizer) -> None:
    whole, left, right = Part("given", 0), Part("left", 0, Region(0, 0, 0.5, 1)), Part("right", 0, Region(0.5, 0, 0.5, 1))
    parts: list[Part] = [whole]
    frames = [VideoFrame(toy.picture("red", side=40), number, number / 10) for number in range(4)]
    looked = [[whole, left], [whole, left, right], [whole, right]]
    items: list[Any] = [frames[0]]
    for one, now in zip(frames[1:], looked, strict=True):
        items += [partial(parts.__setitem__, slice(None), now), one]
    events: list[Event | StateChange] = []
    found = [one.source for one in results(recognizer, Given(*items), on_event=events.append, parts=lambda: tuple(parts))]
    assert found == ["given", "given", "left", "given", "left", "right", "given", "right"]
    told = [(one.source, one.state if isinstance(one, StateChange) else one.kind) for one in events]
    assert told == [("left", "left"), ("left", State.REMOVED), ("given", "left"), ("right", "left")]


def test_a_part_that_is_drawn_anew_begins_anew(recognizer: Recognizer) -> None:
    """What was smoothed is the label of another part of the picture."""
    image = np.concatenate([toy.picture("red", side=40), toy.picture("blue", side=40)], axis=1)
    left, right = Region(0, 0, 0.5, 1), Region(0.5, 0, 0.5, 1)
    parts = [Part("given", 0, left), Part("part", 0, left)]
    frames = [VideoFrame(image, number, number / 100) for number in range(4)]

    def draw(place: int) -> None:
        parts[place] = replace(parts[place], region=right)

    items = [*frames[:2], partial(draw, 0), frames[2], partial(draw, 1), frames[3]]
    events: list[Event | StateChange] = []
    found = list(results(recognizer, Given(*items), on_event=events.append, parts=lambda: tuple(parts)))
    shown = [(one.source, one.label, one.region) for one in found]
    assert shown[-4:] == [("given", "blue", right), ("part", "red", left), ("given", "blue", right), ("part", "blue", right)]
    told = [(one.source, one.kind, one.name) for one in events if isinstance(one, Event)]
    assert told[:2] == [("given", "left", "red"), ("part", "left", "red")], "each that appeared leaves"
    assert len(told) == len(events), "nothing is removed"


def test_a_loss_is_told_of_every_region(recognizer: Recognizer) -> None:
    named = (NamedRegion("part", Region(0, 0, 0.5, 1)),)
    sources = [Given(frame("red"), SourceError("unplugged")), Given(frame("red"), frame("red", 1, 0.1))]
    sources[1].name = "other"
    events: list[Event | StateChange] = []
    options = StreamOptions(named_regions=(replace(named[0], source="given"),))
    with pytest.raises(SourceError, match="unplugged"):
        list(results(recognizer, sources, options, on_event=events.append))
    assert [(one.source, one.state) for one in events if isinstance(one, StateChange)] == [
        ("given", State.ERROR),
        ("part", State.ERROR),
    ]


def test_a_frame_that_is_too_old_is_counted_once(recognizer: Recognizer) -> None:
    old = VideoFrame(toy.picture("red", side=40), 0, 0.0, captured=time.monotonic() - 9)

    class Aging:
        def classify(self, images: list[np.ndarray], /, *, region: Sequence[Region | None]) -> list[Prediction]:
            predictions = recognizer.classify(images, region=region)
            object.__setattr__(young, "captured", time.monotonic() - 9)
            return predictions

    young = frame("red", 1)
    source = Given(old, young, live=True)
    named = (NamedRegion("part", Region(0, 0, 0.5, 1)),)
    assert list(results(Aging(), source, StreamOptions(named_regions=named, max_staleness=5))) == []
    assert source.stale == 2


def test_a_camera_that_turns_gray_is_told_once(recognizer: Recognizer, log: pytest.LogCaptureFixture) -> None:
    gray = np.full((40, 40, 3), 90, np.uint8)
    frames = [VideoFrame(gray if number >= 5 else toy.picture("red", side=40), number, number / 10) for number in range(40)]
    found = list(results(recognizer, Given(*frames)))
    assert [one.to_json()["gray"] for one in found] == [False] * 5 + [True] * 35
    assert [message for message in log.messages if "gray" in message] == [m for m in log.messages if m.startswith("given is")]
    assert len(log.messages) == 1
