"""Runs one training stage to its end, from wherever it was last interrupted."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from sp_edge.errors import CheckpointError, SettingsError
from sp_edge.files import load_tensors, save_tensors

WARM_UP = 0.08
SAVE_EVERY_S = 30.0
WINDOW = 50


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a peak learning rate."""

    parameters: list[nn.Parameter]
    lr: float


@dataclass(frozen=True)
class StageLog:
    """What a stage did.

    Attributes:
        steps: optimiser steps in all, those before a resumption included.
        seconds: of this process.
        loss, accuracy: means over the last steps, on training pictures.
    """

    steps: int
    seconds: float
    loss: float
    accuracy: float


def make_accelerator(precision: str, device: str) -> Accelerator:
    """The engine that places and autocasts.

    Args:
        precision: fp32, bf16, or auto: bf16 where the processor or GPU computes in it, else fp32.
        device: auto, cpu or cuda.

    Raises:
        SettingsError: cuda without a CUDA GPU, or this process has trained in another way before.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise SettingsError("unknown device", expected="auto, cpu or cuda", got=device)
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError(
            "no CUDA GPU for training", expected="a GPU that torch can use", got="none", next_step="--device cpu"
        )
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    if precision == "auto":
        precision = "bf16" if _computes_bf16(on_cpu) else "fp32"
    try:
        accelerator = Accelerator(cpu=on_cpu, mixed_precision="bf16" if precision == "bf16" else "no")
    except ValueError as cause:
        raise SettingsError(
            "one process trains on one device and in one precision",
            expected="those it trained with before",
            got=f"{precision} on {device}",
            next_step="train in another process",
        ) from cause
    if accelerator.num_processes > 1:
        raise SettingsError(
            "training in several processes is not there yet", expected="one process", got=str(accelerator.num_processes)
        )
    return accelerator


def _computes_bf16(on_cpu: bool) -> bool:
    if not on_cpu:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Older releases of torch cannot tell; fp32 is right there, if slower.
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def learning_rate(step: int, steps: int) -> float:
    """Share of the peak rate at a step: linear warm-up over the first 8 %, then a cosine to zero."""
    warm = max(1, int(WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 + 0.5 * math.cos(math.pi * (step - warm) / max(1, steps - warm))


def run_stage(
    name: str,
    module: nn.Module,
    groups: list[ParameterGroup],
    batch: Callable[[int], tuple[Tensor, ...]],
    *,
    steps: int,
    weight_decay: float,
    seed: int,
    folder: Path,
    accelerator: Accelerator,
) -> StageLog:
    """Trains `module` in place for `steps` steps with AdamW.

    Everything random in step i follows from (seed, i), so that a killed run that starts again reaches the same weights.

    Args:
        name: of the stage; its state is kept in `folder/<name>.state.safetensors` until the run is complete.
        module: called with a batch's tensors, returns (loss, accuracy) as 0-d tensors.
        batch: step -> tensors for the module.
        folder: of the run; TensorBoard events go to `folder/events/<name>`.
    """
    optimizer = torch.optim.AdamW(
        [{"params": group.parameters, "lr": group.lr} for group in groups if group.parameters], weight_decay=weight_decay
    )
    peaks = [group.lr for group in groups if group.parameters]
    state = folder / f"{name}.state.safetensors"
    start = _load_state(state, module, optimizer) if state.exists() else 0
    prepared, prepared_optimizer = accelerator.prepare(module, optimizer)
    prepared.train()
    losses: deque[float] = deque(maxlen=WINDOW)
    hits: deque[float] = deque(maxlen=WINDOW)
    began = saved = time.monotonic()
    events = SummaryWriter(str(folder / "events" / name))
    try:
        with tqdm(total=steps, initial=start, desc=name, leave=True, mininterval=1.0) as bar:
            for step in range(start, steps):
                torch.manual_seed(_step_seed(seed, step))
                for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                    group["lr"] = peak * learning_rate(step, steps)
                with accelerator.autocast():
                    loss, accuracy = prepared(*(tensor.to(accelerator.device) for tensor in batch(step)))
                prepared_optimizer.zero_grad()
                accelerator.backward(loss)
                prepared_optimizer.step()
                losses.append(loss.item())
                hits.append(accuracy.item())
                if not math.isfinite(losses[-1]):
                    raise SettingsError(f"training diverged at step {step}", expected="a finite loss", next_step="lower the lr")
                bar.update()
                if step % 10 == 9:
                    mean = {"loss": float(np.mean(losses)), "accuracy": float(np.mean(hits))}
                    bar.set_postfix({k: f"{v:.3f}" for k, v in mean.items()}, refresh=False)
                    for key, value in mean.items():
                        events.add_scalar(key, value, step + 1)
                if time.monotonic() - saved > SAVE_EVERY_S:
                    _save_state(state, module, optimizer, step + 1)
                    saved = time.monotonic()
    finally:
        events.close()
    _save_state(state, module, optimizer, steps)
    finished = StageLog(steps, time.monotonic() - began, float(np.mean(losses or [0])), float(np.mean(hits or [0])))
    accelerator.free_memory()
    return finished


def _step_seed(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0])


def _save_state(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    tensors = {f"module.{k}": v.detach().cpu().numpy() for k, v in module.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v.detach().cpu().numpy() for k, v in values.items()}
    save_tensors(path, tensors, {"kind": "training state", "step": step})


def _load_state(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restores what `_save_state` wrote; returns the number of steps done."""
    tensors, described = load_tensors(path, CheckpointError)
    step = described.get("step")
    if described.get("kind") != "training state" or not isinstance(step, int):
        raise CheckpointError(f"{path} is not a training state", next_step="delete it to start the stage again")
    values = {k: torch.from_numpy(v) for k, v in tensors.items()}
    try:
        module.load_state_dict({k.removeprefix("module."): v for k, v in values.items() if k.startswith("module.")})
    except RuntimeError as cause:
        raise CheckpointError(
            f"{path} is of another network", got=str(cause)[:300], next_step="resume with the run's own settings"
        ) from cause
    moments: dict[int, dict[str, Any]] = {}
    for key, value in values.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            if not index.isdecimal():
                raise CheckpointError(f"{path} is not a training state", got=key)
            moments.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return step
