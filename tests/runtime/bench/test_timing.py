from __future__ import annotations

import itertools

import pytest

from sp_edge_runtime.bench import timing
from sp_edge_runtime.bench.timing import Spread, medians_ms, taken_ms


def test_a_spread_is_of_all_runs_and_there_is_none_of_no_runs() -> None:
    assert Spread.of([]) is None
    found = Spread.of([1.0, 2.0, 3.0, 4.0, 100.0])
    assert found == Spread(median=3.0, low=2.0, high=4.0, p95=found.p95 if found else 0, runs=5)
    assert found is not None
    assert 4 < found.p95 < 100


def test_what_warms_up_runs_and_does_not_count() -> None:
    ran: list[int] = []
    assert len(taken_ms(lambda: ran.append(1), 3, warm=2)) == 3
    assert len(ran) == 5


def test_a_long_run_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(step=2.0)  # each run takes two seconds
    monkeypatch.setattr(timing.time, "perf_counter", clock.__next__)
    assert taken_ms(lambda: None, 10, longest_s=3) == [2000.0, 2000.0]
    assert taken_ms(lambda: None, 10, longest_s=1) == [2000.0]


def test_actions_take_turns() -> None:
    order: list[str] = []
    found = medians_ms({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2, warm=1)
    assert order == ["a", "b"] * 3
    assert set(found) == {"a", "b"}
