"""Keeps where a stage stands in one file, so that a killed run goes on from there."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sp_edge.errors import CheckpointError
from sp_edge.tensors import load_tensors, save_tensors

WINDOW = 50


@dataclass
class StageState:
    """Where a stage stands.

    Attributes:
        step: optimiser steps done.
        window: (loss, accuracy) of the last steps, on training pictures.
        measured: (step, value) of each measurement on the validation classes; more is better.
        best: the module's weights at the best of them, on the CPU; empty before the first.
        ended: nothing is left to do, be it before the last step.
    """

    step: int = 0
    window: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=WINDOW))
    measured: list[tuple[int, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    ended: bool = False

    def note(self, value: float, module: nn.Module) -> None:
        """Adds a measurement of the module as it is after `step`, and keeps its weights if none was better."""
        if not math.isnan(value) and all(value > before for _, before in self.measured if not math.isnan(before)):
            self.best = {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
        self.measured.append((self.step, value))

    @property
    def means(self) -> tuple[float, float]:
        """Of the window: loss and accuracy; 0 before the first step."""
        loss, accuracy = np.mean(self.window or [(0.0, 0.0)], axis=0)
        return float(loss), float(accuracy)

    @property
    def best_measured(self) -> tuple[int, float] | None:
        """Step and value of the first measurement that no other exceeds."""
        numbers = [(step, value) for step, value in self.measured if not math.isnan(value)]
        return max(numbers, key=lambda entry: entry[1], default=None)

    @property
    def since_best(self) -> int:
        """How many measurements came after the best one."""
        best = self.best_measured
        return sum(step > (0 if best is None else best[0]) for step, _ in self.measured)

    def save(self, path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Writes one safetensors file, atomically."""
        tensors = {f"module.{name}": value.detach().cpu().numpy() for name, value in module.state_dict().items()}
        for index, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value.detach().cpu().numpy() for name, value in values.items()}
        tensors |= {f"best.{name}": value.numpy() for name, value in self.best.items()}
        tensors["window"] = np.array(self.window, dtype=np.float64).reshape(-1, 2)
        tensors["measured"] = np.array(self.measured, dtype=np.float64).reshape(-1, 2)
        save_tensors(path, tensors, {"kind": "training state", "step": self.step, "ended": self.ended})

    @classmethod
    def load(cls, path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> StageState:
        """Reads what `save` wrote, and restores the module and the optimiser.

        Raises:
            CheckpointError: damaged, not a training state, or of another network.
        """
        tensors, described = load_tensors(path, CheckpointError)
        step, ended = described.get("step"), described.get("ended")
        window, measured = (tensors.pop(name, np.empty(0)) for name in ("window", "measured"))
        if (
            described.get("kind") != "training state"
            or type(step) is not int
            or step < 0
            or type(ended) is not bool
            or any(table.dtype != np.float64 or table.ndim != 2 or table.shape[1] != 2 for table in (window, measured))
            or not np.isfinite(measured[:, 0]).all()
        ):
            raise CheckpointError(f"{path} is not a training state", next_step="delete it to start the stage again")
        values = {name: torch.from_numpy(value) for name, value in tensors.items()}
        unknown = [name for name in values if not name.startswith(("module.", "optimizer.", "best."))]
        if unknown:
            raise CheckpointError(f"{path} is not a training state", got=unknown[0])
        best = _under("best.", values)
        try:
            if best:
                module.load_state_dict(best)  # whether it fits is found out now
            module.load_state_dict(_under("module.", values))
        except RuntimeError as cause:
            raise _another(path, str(cause)[:300]) from cause
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        moments: dict[int, dict[str, Any]] = {}
        for key, value in _under("optimizer.", values).items():
            index, _, name = key.partition(".")
            if not index.isdecimal() or int(index) >= len(parameters):
                raise CheckpointError(f"{path} is not a training state", got=f"optimizer.{key}")
            if name != "step" and value.shape != parameters[int(index)].shape:
                raise _another(path, f"optimizer.{key} of shape {tuple(value.shape)}")
            moments.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
        state = cls(step, measured=[(int(at), float(value)) for at, value in measured], best=best, ended=ended)
        state.window.extend((float(loss), float(accuracy)) for loss, accuracy in window)
        return state


def _under(prefix: str, values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def _another(path: Path, got: str) -> CheckpointError:
    return CheckpointError(f"{path} is of another network", got=got, next_step="resume with the run's own settings")
