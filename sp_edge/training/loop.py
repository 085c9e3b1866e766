"""Runs one training stage to its end, from wherever it was last interrupted."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather, reduce
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from sp_edge.errors import SettingsError
from sp_edge.training.pointwise import multiply_pointwise
from sp_edge.training.shared_norm import share_statistics
from sp_edge.training.state import StageState

_log = logging.getLogger(__name__)
SAVE_EVERY_S = 30.0
REPORT_EVERY = 10

Batch = Callable[[int], tuple[Tensor, ...]]


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a peak learning rate."""

    parameters: list[nn.Parameter]
    lr: float


@dataclass(frozen=True)
class Schedule:
    """How many steps a stage takes, and at which rate.

    Attributes:
        steps: optimiser steps.
        shape: cosine (to zero) or constant, after the warm-up.
        warm_up: share of the steps over which the rate rises linearly to its peak.
    """

    steps: int
    shape: str = "cosine"
    warm_up: float = 0.08

    def rate(self, step: int) -> float:
        """Share of the peak rate at a step, above 0 to 1."""
        warm = int(self.warm_up * self.steps)
        if step < warm:
            return (step + 1) / warm
        if self.shape == "constant":
            return 1.0
        return 0.5 + 0.5 * math.cos(math.pi * (step - warm) / (self.steps - warm))


@dataclass(frozen=True)
class Validation:
    """When the module is measured on the validation classes; the stage ends with the weights that did best.

    Attributes:
        measure: the module as it is -> a number, more being better; it follows from the weights alone. Every process calls
            it, so that they can share the work.
        every: steps between measurements; there is one after the last step, too.
        patience: measurements without a better one after which the stage ends early; 0 goes on to the last step.
    """

    measure: Callable[[], float]
    every: int
    patience: int = 0


@dataclass(frozen=True)
class StageLog:
    """What a stage did.

    Attributes:
        steps: optimiser steps in all, those before a resumption included.
        seconds: of this process.
        loss, accuracy: means over the last steps, on training pictures.
        best_step, best: after how many steps the weights that were kept did how well on the validation classes; None where
            nothing was measured.
    """

    steps: int
    seconds: float
    loss: float
    accuracy: float
    best_step: int | None = None
    best: float | None = None


def run_stage(
    name: str,
    module: nn.Module,
    groups: list[ParameterGroup],
    batch: Batch,
    *,
    schedule: Schedule,
    weight_decay: float,
    seed: int,
    folder: Path,
    accelerator: Accelerator,
    validation: Validation | None = None,
) -> StageLog:
    """Trains `module` in place with AdamW.

    Everything random in step i follows from (seed, i), so that a killed run that starts again reaches the same weights.
    In several processes, each calls this with its own share of every batch, and all see the same folder.

    Args:
        name: of the stage; its state is kept in `folder/<name>.state.safetensors` until the run is complete.
        module: called with a batch's tensors, returns (loss, accuracy) as 0-d tensors.
        batch: step -> tensors for the module. It is called in another thread while the step before is computed, and so
            must not draw from torch's global generator.
        folder: of the run; TensorBoard events go to `folder/events/<name>`.
    """
    groups = [group for group in groups if group.parameters]
    optimizer = torch.optim.AdamW([{"params": g.parameters, "lr": g.lr} for g in groups], weight_decay=weight_decay)
    file = folder / f"{name}.state.safetensors"
    state = StageState.load(file, module, optimizer) if file.exists() else StageState()
    main = accelerator.is_main_process
    _agree(state.step, accelerator, file)
    module = share_statistics(module, accelerator)
    multiply_pointwise(module, accelerator)
    prepared, prepared_optimizer = accelerator.prepare(module, optimizer)
    prepared.train()
    steps = range(state.step, state.step if state.ended else schedule.steps)
    # To read a GPU's numbers is to wait for it.
    fetch_every = 1 if accelerator.device.type == "cpu" else REPORT_EVERY
    pending: list[Tensor] = []
    began = saved = time.monotonic()
    with _Report(name, folder, schedule.steps, state, enabled=main) as report:
        for step, tensors in _ahead(batch, steps, accelerator.device):
            torch.manual_seed(_step_seed(seed, step, accelerator.process_index))
            for group, options in zip(groups, optimizer.param_groups, strict=True):
                options["lr"] = group.lr * schedule.rate(step)
            with accelerator.autocast():
                loss, accuracy = prepared(*tensors)
            prepared_optimizer.zero_grad()
            accelerator.backward(loss)
            prepared_optimizer.step()
            pending.append(torch.stack([loss.detach(), accuracy]))
            state.step = step + 1
            last = state.step == schedule.steps
            measuring = validation is not None and (last or state.step % validation.every == 0)
            if last or measuring or state.step % fetch_every == 0:
                _fetch(pending, state)
            if validation is not None and measuring:
                state.note(_measured(validation, accelerator), module)
                prepared.train()
                state.ended = 0 < validation.patience <= state.since_best
            report.update(measured=measuring)
            if state.ended:
                break
            if main and not pending and time.monotonic() - saved > SAVE_EVERY_S:
                state.save(file, module, optimizer)
                saved = time.monotonic()
    if steps:
        state.ended = True
        if main:
            state.save(file, module, optimizer)
    if state.best:
        module.load_state_dict(state.best)
    accelerator.free_memory()
    return StageLog(state.step, time.monotonic() - began, *state.means, *(state.best_measured or (None, None)))


class _Report:
    """Shows how a stage goes: as a bar, or in the log where standard error is no terminal, and as TensorBoard events."""

    def __init__(self, name: str, folder: Path, steps: int, state: StageState, *, enabled: bool) -> None:
        self._name, self._steps, self._state = name, steps, state
        self._events = SummaryWriter(str(folder / "events" / name)) if enabled else None
        self._bar = tqdm(total=steps, initial=state.step, desc=name, mininterval=1.0, disable=not enabled or None)
        self._tenth = max(steps // 10 // REPORT_EVERY, 1) * REPORT_EVERY

    def __enter__(self) -> _Report:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        if self._events is not None:
            self._events.close()

    def update(self, *, measured: bool) -> None:
        """After a step."""
        state = self._state
        self._bar.update()
        if self._events is None:
            return
        if state.step % REPORT_EVERY == 0:
            loss, accuracy = state.means
            if self._bar.disable and state.step % self._tenth == 0:  # nobody sees the bar
                _log.info(f"{self._name}: step {state.step:,} of {self._steps:,}, loss {loss:.3f}, accuracy {accuracy:.3f}")
            self._bar.set_postfix({"loss": f"{loss:.3f}", "accuracy": f"{accuracy:.3f}"}, refresh=False)
            self._events.add_scalar("loss", loss, state.step)
            self._events.add_scalar("accuracy", accuracy, state.step)
        if measured:
            self._events.add_scalar("validation", state.measured[-1][1], state.step)


def _ahead(batch: Batch, steps: range, device: torch.device) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
    """Every step with its batch on the device, which is made while the step before is computed.

    It is made by one core: as many threads again as the step has would wait for each other's cores.
    """

    def make(step: int) -> tuple[Tensor, ...]:
        return tuple(tensor.to(device) for tensor in batch(step))

    threads = torch.get_num_threads()
    with ThreadPoolExecutor(1, "batch", initializer=torch.set_num_threads, initargs=(1,)) as thread:
        thread.submit(torch.get_num_threads).result()  # it has begun, and with it what threads that begin later would take
        torch.set_num_threads(threads)
        coming = thread.submit(make, steps.start) if steps else None
        for step in steps:
            ready, coming = coming, thread.submit(make, step + 1) if step + 1 in steps else None
            if ready is not None:
                yield step, ready.result()


def _agree(step: int, accelerator: Accelerator, file: Path) -> None:
    """Refuses processes that would start from different steps, and so wait for each other for ever."""
    found = gather(torch.tensor([step], device=accelerator.device)).tolist()
    if len(set(found)) > 1:
        raise SettingsError(
            f"the processes do not see the same {file}", expected="one folder for all of them", got=f"steps {found}"
        )


def _fetch(pending: list[Tensor], state: StageState) -> None:
    """Takes the losses of the last steps from the device into the state; each is the mean over all processes.

    Raises:
        SettingsError: one of them is not a number.
    """
    values = reduce(torch.stack(pending).float(), "mean").tolist()
    for step, (loss, accuracy) in enumerate(values, state.step - len(values)):
        if not math.isfinite(loss):
            raise SettingsError(f"training diverged at step {step}", expected="a finite loss", next_step="lower the lr")
        state.window.append((loss, accuracy))
    pending.clear()


def _measured(validation: Validation, accelerator: Accelerator) -> float:
    """What the first process finds, in every process: the last bit could differ, and all must end at the same step."""
    return float(broadcast(torch.tensor(validation.measure(), dtype=torch.float32, device=accelerator.device)))


def _step_seed(seed: int, step: int, process: int = 0) -> int:
    """Chance within the network differs between the processes, whose pictures differ."""
    return int(np.random.SeedSequence([seed, step, process] if process else [seed, step]).generate_state(1)[0])
