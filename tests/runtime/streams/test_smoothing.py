import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sp_edge.errors import SettingsError
from sp_edge_runtime.streams.smoothing import Event, Smoothed, Smoother, Smoothing

LABELS = ("cat", "dog", "unknown")


def run(labels: list[str], times: list[float], smoothing: Smoothing, confidence: float = 0.75) -> list[Smoothed]:
    smoother = Smoother(smoothing)
    return [
        smoother.update(label, confidence, clock=time, timestamp=time, frame_id=number)
        for number, (label, time) in enumerate(zip(labels, times, strict=True))
    ]


def events(smoothed: list[Smoothed]) -> list[Event]:
    return [event for one in smoothed for event in one.events]


# --- by hand ---


def test_scores_by_hand() -> None:
    """With seconds = 1 / ln 2 each second halves the past: unknown's score of the cat is 1, 1/2, 1/4 after 0, 1, 2 seconds."""
    smoothing = Smoothing(seconds=1 / math.log(2), hysteresis=0.2, gap=10)
    labels = ["cat", "unknown", "unknown", "dog", "dog", "dog"]
    # cat 1, .5, .25: below .3 at the third. dog 0, 0, 0, .5, .75: at .7 at the fifth.
    found = run(labels, [10, 11, 12, 13, 14, 15], smoothing)
    assert [one.label for one in found] == ["cat", "cat", "unknown", "unknown", "dog", "dog"]
    assert events(found) == [
        Event("appeared", "cat", 10, 0, 0, 0.75),
        Event("left", "cat", 12, 2, 2, 0.75),
        Event("appeared", "dog", 14, 4, 0, 0.75),
    ]


def test_the_confidence_is_the_recent_frames_mean() -> None:
    smoother = Smoother(Smoothing(seconds=1 / math.log(2), hysteresis=0, gap=10))
    assert smoother.update("cat", 0.4, clock=0, timestamp=0, frame_id=0).confidence == 0.4
    assert smoother.update("cat", 0.8, clock=1, timestamp=1, frame_id=1).confidence == pytest.approx(0.6)
    # A frame that does not show it says nothing about it: .4 of weight 1/4, .8 of 1/4, .2 of 1/2.
    assert smoother.update("unknown", 0.9, clock=1.5, timestamp=1.5, frame_id=2).confidence == pytest.approx(0.6)
    smoother.update("cat", 0.2, clock=2.5, timestamp=2.5, frame_id=3)
    (left,) = smoother.interrupt("end")
    assert (left.kind, left.cause, left.time, left.frame_id, left.duration) == ("left", "end", 2.5, 3, 2.5)
    weight = 0.5**1.5
    assert left.confidence == pytest.approx((0.6 * weight + 0.2 * 0.5) / (weight + 0.5))


def test_a_class_appears_after_the_minimum() -> None:
    labels = ["cat"] * 4 + ["dog", "dog"] + ["cat"] * 8
    smoothing = Smoothing(seconds=0, minimum=0.3)
    found = run(labels, [n / 10 for n in range(14)], smoothing)
    assert [one.label for one in found] == ["unknown"] * 3 + ["cat"] + ["unknown"] * 5 + ["cat"] * 5
    appeared, left, again = events(found)
    assert (appeared.kind, appeared.name, appeared.frame_id, appeared.duration) == ("appeared", "cat", 3, pytest.approx(0.3))
    assert (left.kind, left.frame_id, left.duration, left.confidence) == ("left", 4, pytest.approx(0.4), 0.75)
    assert (again.kind, again.frame_id) == ("appeared", 9)


def test_without_smoothing_each_frame_decides() -> None:
    labels = ["cat", "dog", "unknown", "dog"]
    found = run(labels, [0, 0, 0, 0], Smoothing(seconds=0))
    assert [one.label for one in found] == labels
    assert [(event.kind, event.name) for event in events(found)] == [
        *(("appeared", "cat"), ("left", "cat"), ("appeared", "dog"), ("left", "dog"), ("appeared", "dog")),
    ]


def test_a_label_changes_after_results_in_a_row_that_agree() -> None:
    labels = ["cat", "cat", "dog", "cat", "cat", "cat", "dog", "unknown", "cat", "dog", "unknown", "dog", "dog", "dog"]
    found = run(labels, [n / 10 for n in range(14)], Smoothing(seconds=0, stable=3))
    assert [one.label for one in found] == ["unknown"] * 5 + ["cat"] * 6 + ["unknown"] * 2 + ["dog"]
    assert [(event.kind, event.name, event.frame_id) for event in events(found)] == [
        ("appeared", "cat", 5),
        ("left", "cat", 11),  # the third in a row without it, though these were of two labels
        ("appeared", "dog", 13),
    ]


def test_a_row_of_results_does_not_reach_over_a_gap() -> None:
    found = run(["cat"] * 5, [0, 1, 60, 61, 62], Smoothing(stable=3))
    assert [one.label for one in found] == ["unknown"] * 4 + ["cat"]


@settings(deadline=None)
@given(st.lists(st.sampled_from(LABELS), max_size=40), st.integers(1, 5), st.floats(0, 1))
def test_whatever_comes_a_change_has_its_row_of_results(labels: list[str], stable: int, seconds: float) -> None:
    found = run(labels, [n / 10 for n in range(len(labels))], Smoothing(seconds=seconds, stable=stable))
    for event in events(found):
        row = labels[max(0, event.frame_id - stable + 1) : event.frame_id + 1]
        if event.kind == "appeared":
            assert row == [event.name] * stable
        else:
            assert len(row) == stable
            assert event.name not in row


@pytest.mark.parametrize("jump", [5.5, -5.5])
def test_after_a_gap_what_was_seen_has_left_when_it_was_last_seen(jump: float) -> None:
    found = run(["cat", "cat", "cat"], [100, 101, 101 + jump], Smoothing(gap=5))
    assert [one.label for one in found] == ["cat"] * 3
    assert events(found) == [
        Event("appeared", "cat", 100, 0, 0, 0.75),
        Event("left", "cat", 101, 1, 1, 0.75, "gap"),
        Event("appeared", "cat", 101 + jump, 2, 0, 0.75),
    ]


def test_nothing_of_the_past_is_left_after_an_interruption() -> None:
    smoother = Smoother(Smoothing())
    for number in range(10):
        smoother.update("cat", 0.9, clock=number / 10, timestamp=number / 10, frame_id=number)
    assert [event.cause for event in smoother.interrupt()] == ["gap"]
    assert smoother.interrupt() == ()
    assert smoother.update("dog", 0.5, clock=1, timestamp=1, frame_id=10).label == "dog"
    assert smoother.update("unknown", 0.0, clock=3, timestamp=3, frame_id=11).label == "unknown"


def test_a_clock_that_is_set_back_a_little_changes_nothing() -> None:
    found = run(["cat", "dog", "dog", "cat"], [10, 9.5, 9.5, 9.6], Smoothing(gap=2))
    assert [one.label for one in found] == ["cat"] * 4
    later = run(["cat", "dog", "dog", "dog"], [10, 9.5, 10, 10.5], Smoothing(gap=2))
    assert [one.label for one in later] == ["cat", "cat", "dog", "dog"], "time goes on from the earlier timestamp"


def test_a_slow_stream_is_no_gap_at_every_frame() -> None:
    slow = run(["cat"] * 6, [60.0 * n for n in range(6)], Smoothing(gap=5))
    assert [(event.kind, event.time) for event in events(slow)] == [("appeared", 0)]
    # Five of its intervals without a frame are one.
    late = run(["cat"] * 4, [0, 60, 120, 120 + 301], Smoothing(gap=5))
    assert [(event.kind, event.time, event.cause) for event in events(late)] == [
        *(("appeared", 0, "frames"), ("left", 120, "gap"), ("appeared", 421, "frames")),
    ]


def test_a_stream_that_becomes_slow_is_followed_and_one_gap_changes_nothing() -> None:
    fast = [n / 10 for n in range(10)]
    slower = run(["cat"] * 20, [*fast, *(10.0 * n for n in range(1, 11))], Smoothing(gap=5))
    assert [event.kind for event in events(slower)] == ["appeared", *["left", "appeared"] * 3]
    twice = [*fast[:2], *(100 + t for t in fast), *(200 + t for t in fast)]
    assert [event.kind for event in events(run(["cat"] * 22, twice, Smoothing(gap=5)))] == [
        "appeared",
        *["left", "appeared"] * 2,
    ]


def test_a_gap_soon_after_the_beginning_is_not_taken_for_the_pace() -> None:
    found = run(["cat"] * 4, [0.0, 0.1, 100.1, 200.1], Smoothing(gap=5))
    assert [event.kind for event in events(found)] == ["appeared", *["left", "appeared"] * 2]


@pytest.mark.parametrize("jump", [1.7e9, -6.0, 3.0])
def test_events_tell_the_time_of_day_and_time_passes_by_the_clock_that_nobody_sets(jump: float) -> None:
    smoother = Smoother(Smoothing())
    found = [
        smoother.update("cat", 0.9, clock=50 + n / 10, timestamp=1000 + n / 10 + jump * (n >= 10), frame_id=n)
        for n in range(20)
    ]
    assert [(event.kind, event.time) for event in events(found)] == [("appeared", 1000)]
    (left,) = smoother.interrupt("end")
    assert (left.time, left.duration) == (pytest.approx(1001.9 + jump), pytest.approx(1.9))


def test_the_json_of_an_event() -> None:
    event = Event("left", "red fox", 3.5, 7, 1.25, 0.5, "gap")
    assert json.loads(json.dumps(event.to_json())) == {
        "event": "left",
        "name": "red fox",
        "time": 3.5,
        "frame_id": 7,
        "duration": 1.25,
        "confidence": 0.5,
        "cause": "gap",
        "source": "",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("seconds", value) for value in (-0.1, 3601, math.nan, math.inf)),
        *(("hysteresis", value) for value in (-0.1, 0.5, math.nan)),
        *(("minimum", value) for value in (-1, 3601, math.nan)),
        *(("gap", value) for value in (0, -1, 86401, math.nan)),
        *(("stable", value) for value in (0, 1001, 1.5)),
    ],
)
def test_options_out_of_range(name: str, value: float) -> None:
    with pytest.raises(SettingsError, match=f"{name} is out of range"):
        Smoothing(**{name: value})  # type: ignore[arg-type]


# --- what holds of every stream ---


SMOOTHINGS = st.builds(
    Smoothing,
    seconds=st.sampled_from([0.0, 0.1, 0.5, 3.0]),
    hysteresis=st.sampled_from([0.0, 0.1, 0.3, 0.49]),
    minimum=st.sampled_from([0.0, 0.2, 1.0]),
    gap=st.sampled_from([0.5, 5.0]),
    stable=st.sampled_from([1, 1, 3]),
)
FRAMES = st.lists(
    st.tuples(st.sampled_from(LABELS), st.floats(0, 1), st.sampled_from([0.0, 0.04, 0.04, 0.3, 2.0, -0.1, -3.0])), max_size=60
)


@given(frames=FRAMES, smoothing=SMOOTHINGS)
@settings(deadline=None, max_examples=300)
def test_events_are_the_changes_of_the_label(frames: list[tuple[str, float, float]], smoothing: Smoothing) -> None:
    smoother, time, label = Smoother(smoothing), 50.0, "unknown"
    kinds: dict[str, list[str]] = {}
    for number, (seen, confidence, step) in enumerate(frames):
        time += step
        found = smoother.update(seen, confidence, clock=time, timestamp=time, frame_id=number)
        for event in found.events:
            kinds.setdefault(event.name, []).append(event.kind)
            assert event.name != "unknown"
            assert event.duration >= 0
            assert 0 <= event.confidence <= 1
            assert event.frame_id == (number if event.cause == "frames" else number - 1)
            assert (event.kind, event.name if event.kind == "left" else "unknown") in {("left", label), ("appeared", "unknown")}
            label = event.name if event.kind == "appeared" else "unknown"
        assert label == found.label, "no change without an event, no event without a change"
        assert 0 <= found.confidence <= 1
    for event in smoother.interrupt("end"):
        kinds[event.name].append(event.kind)
    for found_kinds in kinds.values():
        assert found_kinds == ["appeared", "left"] * (len(found_kinds) // 2)


@given(steps=st.lists(st.floats(0, 0.4), min_size=1, max_size=100), label=st.sampled_from(LABELS), smoothing=SMOOTHINGS)
def test_what_does_not_change_does_not_flicker(steps: list[float], label: str, smoothing: Smoothing) -> None:
    times = [sum(steps[:n]) for n in range(len(steps))]
    found = run([label] * len(steps), times, smoothing)
    assert len(events(found)) <= (label != "unknown")
    if smoothing.minimum == 0:
        assert {one.label for one in found[smoothing.stable - 1 :]} <= {label}


@given(
    turns=st.lists(st.tuples(st.sampled_from(LABELS), st.floats(0.2, 4)), min_size=1, max_size=8),
    rates=st.tuples(st.integers(20, 120), st.integers(20, 120)),
    seconds=st.sampled_from([0.2, 0.5, 1.0]),
)
@settings(deadline=None, max_examples=60)
def test_the_frame_rate_does_not_matter(turns: list[tuple[str, float]], rates: tuple[int, int], seconds: float) -> None:
    """The label follows the score in continuous time, which a frame rate samples; so it may differ near a change alone."""
    ends = [sum(length for _, length in turns[: n + 1]) for n in range(len(turns))]
    score, true_changes, time = dict.fromkeys(("cat", "dog"), 0.0), [], 0.0
    score |= {turns[0][0]: 1.0}
    for (label, length), end in zip(turns, ends, strict=True):
        for name in ("cat", "dog"):  # when does its score cross the two thresholds?
            goal = float(label == name)
            for level in (0.4, 0.6):
                ratio = (goal - level) / (goal - score[name]) if goal != score[name] else -1
                if 0 < ratio <= 1 and -seconds * math.log(ratio) < length + 0.2:
                    true_changes.append(time - seconds * math.log(ratio))
            score[name] = goal + (score[name] - goal) * math.exp(-length / seconds)
        time = end

    def sampled(rate: int) -> list[tuple[float, str]]:
        times = [n / rate for n in range(int(ends[-1] * rate))]
        labels = [next(label for (label, _), end in zip(turns, ends, strict=True) if time < end) for time in times]
        found = run(labels, times, Smoothing(seconds, 0.1, gap=60))
        return list(zip(times, (one.label for one in found), strict=True))

    one, other = sampled(rates[0]), sampled(rates[1])
    # A boundary between turns falls up to a frame early or late in the samples: scores differ by one frame's weight, and
    # where a score nears a threshold slowly, so does the crossing.
    slack = 3 / min(rates) + seconds * math.expm1(3 / (min(rates) * seconds)) / 0.4 + 1 / min(rates)
    for moment, label in one:
        if all(abs(moment - change) > slack for change in true_changes):
            _, near = other[min(round(moment * rates[1]), len(other) - 1)]
            assert near == label


def test_half_and_half_does_not_flicker() -> None:
    labels = ["cat", "cat", "dog", "dog"] * 50
    found = run(labels, [n / 25 for n in range(200)], Smoothing(seconds=0.5, hysteresis=0.1))
    assert len(events(found)) == 1
    raw = run(labels, [n / 25 for n in range(200)], Smoothing(seconds=0))
    assert len(events(raw)) == 199


def test_one_odd_frame_is_not_shown() -> None:
    labels = ["cat"] * 20 + ["dog"] + ["cat"] * 20 + ["unknown"] + ["cat"] * 20
    assert {one.label for one in run(labels, [n / 25 for n in range(62)], Smoothing())} == {"cat"}
