from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sp_edge.errors import CheckpointError, SettingsError
from sp_edge.files import load_tensors, save_tensors
from sp_edge.training import loop
from sp_edge.training.loop import ParameterGroup, StageLog, learning_rate, make_accelerator, run_stage


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
        "fit", module, groups, batch, steps=steps, weight_decay=0.05, seed=options.pop("seed", 0), folder=folder,
        accelerator=make_accelerator("fp32", "cpu"),
    )  # fmt: skip


def weights(module: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in module.state_dict().items()}


# --- the learning rate ---


def test_the_rate_warms_up_and_then_falls_to_nothing() -> None:
    rates = [learning_rate(step, 100) for step in range(100)]
    np.testing.assert_allclose(rates[:8], np.arange(1, 9) / 8)
    assert rates[8] == 1
    assert rates[54] == pytest.approx(0.5)
    assert rates[31] == pytest.approx(0.5 + 0.5 * math.cos(math.pi / 4))
    assert all(a > b for a, b in itertools.pairwise(rates[8:]))
    assert 0 < rates[-1] < 0.001


@given(st.integers(1, 2000))
def test_every_step_has_a_rate_above_nothing_and_one_reaches_the_peak(steps: int) -> None:
    rates = [learning_rate(step, steps) for step in range(steps)]
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
    expected = [[peak * learning_rate(i, 20) for peak in (0.1, 0.01)] for i in range(20)]
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
    stage(tmp_path / "cut", nothing, batch=lambda step: pytest.fail(f"step {step} again"))
    assert weights(nothing) == weights(whole)


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


# --- states that are not ours ---


@pytest.fixture
def state(tmp_path: Path) -> Path:
    stage(tmp_path, Regression(), steps=3)
    return tmp_path / "fit.state.safetensors"


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9])
def test_a_truncated_state_is_refused(state: Path, share: float) -> None:
    content = state.read_bytes()
    state.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"fit\.state\.safetensors"):
        stage(state.parent, Regression())


@pytest.mark.parametrize(
    "metadata",
    [{}, {"kind": "checkpoint", "step": 3}, {"kind": "training state"}, {"kind": "training state", "step": "3"}],
    ids=str,
)
def test_a_file_of_another_kind_is_refused(state: Path, metadata: dict[str, object]) -> None:
    tensors, _ = load_tensors(state, CheckpointError)
    save_tensors(state, tensors, metadata)
    with pytest.raises(CheckpointError, match="not a training state"):
        stage(state.parent, Regression())


@pytest.mark.parametrize("key", ["optimizer.x.step", "optimizer.-1.step", "optimizer..step"])
def test_moments_of_no_parameter_are_refused(state: Path, key: str) -> None:
    tensors, described = load_tensors(state, CheckpointError)
    save_tensors(state, {**tensors, key: np.zeros(1, np.float32)}, described)
    with pytest.raises(CheckpointError, match="not a training state"):
        stage(state.parent, Regression())


def test_the_state_of_another_network_is_refused(state: Path) -> None:
    module = Regression()
    module.layers[0] = nn.Linear(2, 8)
    with pytest.raises(CheckpointError, match="another network"):
        stage(state.parent, module)


# --- the accelerator ---


@pytest.mark.parametrize("device", ["gpu", "", "cuda:0", "CPU"])
def test_an_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(SettingsError, match="unknown device") as raised:
        make_accelerator("fp32", device)
    assert raised.value.expected == "auto, cpu or cuda"


def test_cuda_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingsError, match="no CUDA GPU") as raised:
        make_accelerator("fp32", "cuda")
    assert raised.value.next_step == "--device cpu"


@pytest.mark.parametrize(
    ("precision", "capabilities", "expected"),
    [
        ("auto", {"avx512_bf16": True}, "bf16"),
        ("auto", {"amx_bf16": True}, "bf16"),
        ("auto", {"avx512_bf16": False, "avx2": True}, "no"),
        ("auto", {}, "no"),
        ("bf16", {}, "bf16"),
        ("fp32", {"amx_bf16": True}, "no"),
    ],
)
def test_auto_takes_bf16_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, precision: str, capabilities: dict[str, bool], expected: str
) -> None:
    asked: list[dict[str, object]] = []
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)

    class Alone:
        num_processes = 1

        def __init__(self, **options: object) -> None:
            asked.append(options)

    monkeypatch.setattr(loop, "Accelerator", Alone)
    make_accelerator(precision, "cpu")
    assert asked == [{"cpu": True, "mixed_precision": expected}]


def test_a_process_that_has_trained_in_one_precision_says_that_it_cannot_in_another() -> None:
    assert make_accelerator("fp32", "cpu").mixed_precision == "no"
    with pytest.raises(SettingsError, match="one precision") as raised:
        make_accelerator("bf16", "cpu")
    assert raised.value.next_step == "train in another process"


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Two:
        num_processes = 2

        def __init__(self, **_options: object) -> None: ...

    monkeypatch.setattr(loop, "Accelerator", Two)
    with pytest.raises(SettingsError, match="several processes"):
        loop.make_accelerator("fp32", "cpu")
