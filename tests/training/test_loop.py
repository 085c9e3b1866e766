from __future__ import annotations

import itertools
import math
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sp_edge.errors import CheckpointError, DataError, SettingsError
from sp_edge.tensors import load_tensors
from sp_edge.training import loop
from sp_edge.training.accelerator import make_accelerator
from sp_edge.training.loop import ParameterGroup, Schedule, StageLog, Validation, run_stage


class Stopped(BaseException):
    """Stands for whatever ends a process in the middle of a step."""


class Regression(nn.Module):
    """Finds y = 3 x; dropout makes each step depend on chance, BatchNorm on what came before."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(1, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        loss = (self.layers(x) - 3 * x).square().mean()
        return loss, torch.tensor(0.25)


def numbers(step: int) -> tuple[Tensor, ...]:
    return (torch.from_numpy(np.random.default_rng(step).normal(size=(16, 1)).astype(np.float32)),)


def stage(
    folder: Path,
    module: nn.Module,
    steps: int = 20,
    batch: Callable[[int], tuple[Tensor, ...]] = numbers,
    **options: Any,
) -> StageLog:
    groups = options.pop("groups", None) or [ParameterGroup(list(module.parameters()), options.pop("lr", 0.05))]
    return run_stage(
        "fit", module, groups, batch, schedule=options.pop("schedule", Schedule(steps)), weight_decay=0.05,
        seed=options.pop("seed", 0), folder=folder, accelerator=make_accelerator("fp32", "cpu"), **options,
    )  # fmt: skip


def weights(module: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in module.state_dict().items()}


# --- the learning rate ---


def test_the_rate_warms_up_and_then_falls_to_nothing() -> None:
    rates = [Schedule(100).rate(step) for step in range(100)]
    np.testing.assert_allclose(rates[:8], np.arange(1, 9) / 8)
    assert rates[8] == 1
    assert rates[54] == pytest.approx(0.5)
    assert rates[31] == pytest.approx(0.5 + 0.5 * math.cos(math.pi / 4))
    assert all(a > b for a, b in itertools.pairwise(rates[8:]))
    assert 0 < rates[-1] < 0.001


def test_a_constant_rate_stays_at_its_peak() -> None:
    rates = [Schedule(10, "constant", 0.4).rate(step) for step in range(10)]
    np.testing.assert_allclose(rates, [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1])


def test_without_warm_up_the_first_step_is_the_fastest() -> None:
    rates = [Schedule(4, "cosine", 0.0).rate(step) for step in range(4)]
    np.testing.assert_allclose(rates, [1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5])


@given(st.integers(1, 2000), st.sampled_from(["cosine", "constant"]), st.floats(0, 0.9999))
def test_every_step_has_a_rate_above_nothing_and_one_reaches_the_peak(steps: int, shape: str, warm_up: float) -> None:
    schedule = Schedule(steps, shape, warm_up)
    rates = [schedule.rate(step) for step in range(steps)]
    assert max(rates) == 1
    assert min(rates) > 0


def test_every_group_follows_the_schedule_from_its_own_peak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[float]] = []
    step = torch.optim.AdamW.step

    def spy(self: torch.optim.AdamW, *arguments: Any) -> Any:
        assert all(group["weight_decay"] == 0.05 for group in self.param_groups)
        seen.append([group["lr"] for group in self.param_groups])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    module = Regression()
    groups = [ParameterGroup(list(module.layers[0].parameters()), 0.1), ParameterGroup([], 7.0)]
    groups.append(ParameterGroup(list(module.layers[3].parameters()), 0.01))
    before = weights(module)
    stage(tmp_path, module, groups=groups)
    expected = [[peak * Schedule(20).rate(i) for peak in (0.1, 0.01)] for i in range(20)]
    np.testing.assert_allclose(seen, expected)
    changed = {name for name, value in weights(module).items() if value != before[name] and "running" not in name}
    assert changed == {f"layers.{i}.{part}" for i in (0, 3) for part in ("weight", "bias")} | {"layers.1.num_batches_tracked"}


# --- a stage ---


def test_it_learns_and_says_how_well(tmp_path: Path) -> None:
    module = Regression()
    log = stage(tmp_path, module, steps=150)
    assert log.steps == 150
    assert log.accuracy == 0.25
    first = float(Regression()(numbers(0)[0])[0].detach())
    assert 0 < log.loss < first / 2
    assert module.training


def test_without_a_terminal_the_log_says_how_far_it_is(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    stage(tmp_path, Regression(), steps=40)
    steps = [re.fullmatch(r"fit: step (\d+) of 40, loss [0-9.]+, accuracy [0-9.]+", message) for message in log.messages]
    assert [found and found[1] for found in steps] == ["10", "20", "30", "40"]


def test_tensorboard_gets_the_means(tmp_path: Path) -> None:
    stage(tmp_path, Regression(), steps=25)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "events" / "fit")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [10, 20]
    assert [event.value for event in events.Scalars("accuracy")] == [0.25, 0.25]


@pytest.mark.parametrize("saving", [True, False])
@pytest.mark.parametrize("at", [0, 7, 19])
def test_a_stage_that_was_cut_off_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, saving: bool
) -> None:
    whole = Regression()
    stage(tmp_path / "whole", whole)
    monkeypatch.setattr(loop, "SAVE_EVERY_S", -1.0 if saving else 1e9)
    steps_done: list[int] = []

    def cut(step: int) -> tuple[Tensor, ...]:
        if step == at:
            raise Stopped
        return numbers(step)

    def count(step: int) -> tuple[Tensor, ...]:
        steps_done.append(step)
        return numbers(step)

    with pytest.raises(Stopped):
        stage(tmp_path / "cut", Regression(), batch=cut)
    again = Regression()
    log = stage(tmp_path / "cut", again, batch=count)
    assert weights(again) == weights(whole)
    assert log.steps == 20
    assert steps_done == list(range(at if saving else 0, 20)), "what was saved is not done again"
    nothing = Regression()
    done = stage(tmp_path / "cut", nothing, batch=lambda step: pytest.fail(f"step {step} again"))
    assert weights(nothing) == weights(whole)
    assert (done.steps, done.loss, done.accuracy) == (20, log.loss, log.accuracy), "what it did is kept with the weights"


def test_every_seed_is_another_chance(tmp_path: Path) -> None:
    results = []
    for seed in (0, 0, 1):
        module = Regression()
        stage(tmp_path / f"{len(results)}", module, seed=seed)
        results.append(weights(module))
    assert results[0] == results[1] != results[2]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_ends_the_stage_and_is_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY_S", -1.0)

    class Diverging(Regression):
        calls = 0

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            loss, accuracy = super().forward(x)
            self.calls += 1
            return loss * (value if self.calls == 4 else 1), accuracy

    with pytest.raises(SettingsError, match="diverged at step 3") as raised:
        stage(tmp_path, Diverging())
    assert raised.value.next_step == "lower the lr"
    tensors, described = load_tensors(tmp_path / "fit.state.safetensors", CheckpointError)
    assert described["step"] == 3
    assert all(np.isfinite(value).all() for value in tensors.values())


def test_the_loss_is_the_mean_over_the_last_fifty_steps_resumed_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY_S", -1.0)
    losses: list[float] = []

    class Recording(Regression):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            loss, accuracy = super().forward(x)
            losses.append(float(loss.detach()))
            return loss, accuracy

    def cut(step: int) -> tuple[Tensor, ...]:
        if step == 40:
            raise Stopped
        return numbers(step)

    with pytest.raises(Stopped):
        stage(tmp_path, Recording(), steps=60, batch=cut)
    log = stage(tmp_path, Recording(), steps=60)
    assert len(losses) == 60
    assert log.loss == pytest.approx(np.mean(losses[10:]), rel=1e-6)


def test_the_next_batch_is_made_while_a_step_is_computed(tmp_path: Path) -> None:
    """Each step waits for the batch after its own to be begun, and would wait for ever if that came later."""
    begun = [threading.Event() for _ in range(5)]

    class Waiting(Regression):
        calls = 0

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            self.calls += 1
            assert begun[min(self.calls, 4)].wait(60)
            return super().forward(x)

    def batch(step: int) -> tuple[Tensor, ...]:
        begun[step].set()
        assert threading.current_thread() is not threading.main_thread()
        return numbers(step)

    assert stage(tmp_path, Waiting(), steps=5, batch=batch).steps == 5


def test_one_core_makes_the_batches_and_all_compute(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    batches: list[int] = []
    steps: list[int] = []

    class Counting(Regression):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            steps.append(torch.get_num_threads())
            return super().forward(x)

    def batch(step: int) -> tuple[Tensor, ...]:
        batches.append(torch.get_num_threads())
        return numbers(step)

    torch.set_num_threads(2)
    try:
        stage(tmp_path, Counting(), steps=3, batch=batch)
    finally:
        torch.set_num_threads(threads)
    assert (batches, steps) == ([1] * 3, [2] * 3)


def test_an_error_in_a_batch_is_the_stages(tmp_path: Path) -> None:
    def broken(step: int) -> tuple[Tensor, ...]:
        raise DataError(f"picture {step} is gone")

    with pytest.raises(DataError, match="picture 0 is gone"):
        stage(tmp_path, Regression(), batch=broken)


# --- validation ---


def weight(module: nn.Module) -> float:
    """A number that follows from the weights, and goes up and down with training."""
    return math.sin(100 * float(module.get_parameter("layers.3.bias").detach()))


class Measure:
    """Gives the listed numbers in turn, and keeps the weights that it has seen."""

    def __init__(self, module: nn.Module, values: Sequence[float]) -> None:
        self.module, self.values, self.seen = module, list(values), list[dict[str, bytes]]()

    def __call__(self) -> float:
        self.module.eval()
        self.seen.append(weights(self.module))
        return self.values[len(self.seen) - 1]


@pytest.mark.parametrize(
    ("values", "best"), [([0.1, 0.5, 0.3, 0.5], 1), ([0.1, 0.2, 0.3, 0.4], 3), ([math.nan, 0.2, math.nan, 0.1], 1)]
)
def test_the_weights_that_do_best_on_validation_classes_are_kept(tmp_path: Path, values: list[float], best: int) -> None:
    module = Regression()
    measure = Measure(module, values)
    log = stage(tmp_path, module, steps=20, validation=Validation(measure, 6))
    assert len(measure.seen) == 4, "after steps 6, 12, 18 and the last"
    assert len({tuple(sorted(seen.items())) for seen in measure.seen}) == 4
    assert weights(module) == measure.seen[best]
    assert (log.steps, log.best_step) == (20, [6, 12, 18, 20][best])
    assert log.best == pytest.approx(values[best])


def test_measuring_changes_nothing_else(tmp_path: Path) -> None:
    plain, measured = Regression(), Regression()
    stage(tmp_path / "plain", plain)
    stage(tmp_path / "measured", measured, validation=Validation(Measure(measured, range(20)), 1))
    assert weights(plain) == weights(measured)


def test_where_no_measurement_is_a_number_the_last_weights_stay(tmp_path: Path) -> None:
    module = Regression()
    measure = Measure(module, [math.nan, math.nan])
    log = stage(tmp_path, module, validation=Validation(measure, 10))
    assert weights(module) == measure.seen[-1]
    assert (log.best_step, log.best) == (None, None)


def test_patience_ends_a_stage_that_does_not_get_better(tmp_path: Path) -> None:
    module = Regression()
    measure = Measure(module, [0.1, 0.4, 0.3, 0.4, 0.9])
    log = stage(tmp_path, module, validation=Validation(measure, 3, patience=2))
    assert (log.steps, log.best_step, len(measure.seen)) == (12, 6, 4)
    assert weights(module) == measure.seen[1]
    again = Regression()
    done = stage(
        tmp_path, again, batch=lambda step: pytest.fail(f"step {step}"),
        validation=Validation(lambda: pytest.fail("measures again"), 3, patience=2),
    )  # fmt: skip
    assert weights(again) == weights(module)
    assert (done.steps, done.loss, done.best_step, done.best) == (12, log.loss, 6, log.best)


@pytest.mark.parametrize("saving", [True, False])
@pytest.mark.parametrize("at", [0, 5, 6, 11, 19])
def test_a_stage_that_is_measured_and_was_cut_off_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, saving: bool
) -> None:
    whole = Regression()
    log = stage(tmp_path / "whole", whole, validation=Validation(lambda: weight(whole), 3))
    assert log.best_step is not None
    assert log.best_step < 20, "the best must not be the last for this to tell anything"
    monkeypatch.setattr(loop, "SAVE_EVERY_S", -1.0 if saving else 1e9)

    def cut(step: int) -> tuple[Tensor, ...]:
        if step == at:
            raise Stopped
        return numbers(step)

    begun, again = Regression(), Regression()
    with pytest.raises(Stopped):
        stage(tmp_path / "cut", begun, batch=cut, validation=Validation(lambda: weight(begun), 3))
    resumed = stage(tmp_path / "cut", again, validation=Validation(lambda: weight(again), 3))
    assert weights(again) == weights(whole)
    assert (resumed.best_step, resumed.best, resumed.loss) == (log.best_step, log.best, log.loss)
