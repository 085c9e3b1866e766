from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sp_edge.errors import CheckpointError
from sp_edge.tensors import load_tensors, save_tensors
from sp_edge.training.state import WINDOW, StageState

GOOD = {"kind": "training state", "step": 3, "ended": False}


def trained(width: int = 3) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A module and an optimiser that has moments."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(width, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.randn(5, width)).square().sum().backward()
    optimizer.step()
    return module, optimizer


def bits(values: Any) -> Any:
    if isinstance(values, torch.Tensor):
        return values.numpy().tobytes()
    return {key: bits(value) for key, value in values.items()} if isinstance(values, dict) else values


@pytest.fixture
def file(tmp_path: Path) -> Path:
    module, optimizer = trained()
    StageState(step=3).save(tmp_path / "s.safetensors", module, optimizer)
    return tmp_path / "s.safetensors"


def load(file: Path) -> StageState:
    return StageState.load(file, *trained())


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    module, optimizer = trained()
    state = StageState(step=7, ended=True)
    state.window.extend((step / 3, step / 7) for step in range(WINDOW + 5))
    state.note(0.25, module)
    state.step = 9
    with torch.no_grad():
        module[0].weight += 1  # type: ignore[index]
    state.note(math.nan, module)
    state.save(tmp_path / "s.safetensors", module, optimizer)
    other, its_optimizer = trained()
    with torch.no_grad():
        for value in other.state_dict().values():
            value.fill_(5)
    loaded = StageState.load(tmp_path / "s.safetensors", other, its_optimizer)
    assert (loaded.step, loaded.ended, list(loaded.window)) == (9, True, list(state.window))
    assert len(loaded.window) == WINDOW
    np.testing.assert_array_equal(loaded.measured, [(7, 0.25), (9, math.nan)])
    assert bits(loaded.best) == bits(state.best) != bits(other.state_dict())
    assert bits(other.state_dict()) == bits(module.state_dict())
    assert bits(its_optimizer.state_dict()["state"]) == bits(optimizer.state_dict()["state"])


def test_the_best_is_the_first_that_no_other_exceeds() -> None:
    module, _ = trained()
    state = StageState()
    assert (state.best_measured, state.since_best, state.best) == (None, 0, {})
    kept = []
    for step, value in [(2, math.nan), (4, 0.5), (6, 0.5), (8, 0.7), (10, 0.6), (12, math.nan)]:
        with torch.no_grad():
            module[0].bias.fill_(step)  # type: ignore[union-attr, index, operator]
        state.step = step
        state.note(value, module)
        kept.append((state.best_measured, state.since_best, float(state.best["0.bias"][0]) if state.best else None))
    assert kept == [
        (None, 1, None), ((4, 0.5), 0, 4.0), ((4, 0.5), 1, 4.0), ((8, 0.7), 0, 8.0), ((8, 0.7), 1, 8.0), ((8, 0.7), 2, 8.0),
    ]  # fmt: skip


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9])
def test_a_truncated_state_is_refused(file: Path, share: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"s\.safetensors"):
        load(file)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {**GOOD, "kind": "checkpoint"},
        {"kind": "training state", "ended": False},
        {**GOOD, "step": "3"},
        {**GOOD, "step": True},
        {**GOOD, "step": -1},
        {**GOOD, "ended": 1},
    ],
    ids=str,
)
def test_a_file_of_another_kind_is_refused(file: Path, metadata: dict[str, object]) -> None:
    tensors, _ = load_tensors(file, CheckpointError)
    save_tensors(file, tensors, metadata)
    with pytest.raises(CheckpointError, match="not a training state"):
        load(file)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optimizer.x.step", np.zeros((), np.float32)),
        ("optimizer.-1.step", np.zeros((), np.float32)),
        ("optimizer..step", np.zeros((), np.float32)),
        ("optimizer.4.step", np.zeros((), np.float32)),
        ("optimizer", np.zeros((), np.float32)),
        ("window", np.zeros((2, 3))),
        ("window", np.zeros((2, 2), np.float32)),
        ("measured", np.full((1, 2), np.nan)),
        ("measured", np.zeros(2)),
    ],
    ids=str,
)
def test_tensors_that_a_stage_does_not_have_are_refused(file: Path, key: str, value: np.ndarray[Any, Any]) -> None:
    tensors, described = load_tensors(file, CheckpointError)
    save_tensors(file, {**tensors, key: value}, described)
    with pytest.raises(CheckpointError, match="not a training state"):
        load(file)


@pytest.mark.parametrize("key", ["module.0.weight", "optimizer.0.exp_avg", "best.0.weight"])
def test_the_state_of_another_network_is_refused(file: Path, key: str) -> None:
    tensors, described = load_tensors(file, CheckpointError)
    save_tensors(file, {**tensors, key: np.zeros((4, 2), np.float32)}, described)
    with pytest.raises(CheckpointError, match="another network") as raised:
        load(file)
    assert raised.value.next_step == "resume with the run's own settings"
