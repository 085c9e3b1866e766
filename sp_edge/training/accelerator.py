"""Chooses the device, the precision and the processes that training runs in."""

from __future__ import annotations

import logging
import os
import warnings
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import conv2d

from sp_edge import runs
from sp_edge.errors import SettingsError

if TYPE_CHECKING:  # encoding pictures, as a ready-made network's export does, needs no accelerate
    from accelerate import Accelerator

_log = logging.getLogger(__name__)
# While one process chooses or writes, the others wait for it.
PATIENCE = timedelta(hours=6)


def torch_device(device: str) -> str:
    """What torch calls a device.

    Raises:
        SettingsError: not auto, cpu or cuda, or cuda without a CUDA GPU.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise SettingsError("unknown device", expected="auto, cpu or cuda", got=device)
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("no CUDA GPU", expected="a GPU that torch can use", got="none", next_step="--device cpu")
    return "cpu" if device == "cpu" or not torch.cuda.is_available() else "cuda"


def make_accelerator(precision: str, device: str) -> Accelerator:
    """The engine that places, autocasts and, started by `torchrun` or `accelerate launch`, joins the processes (DDP).

    Args:
        precision: fp32, bf16, or auto: bf16 where the processor or GPU computes in it, else fp32.
        device: auto, cpu or cuda.

    Raises:
        SettingsError: as `torch_device`, or this process has trained in another way before.
    """
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

    on_cpu = torch_device(device) == "cpu"
    computes = precision != "fp32" and _computes_bf16(on_cpu)
    if on_cpu and computes:
        os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")  # oneDNN reads it when it first computes
    right = not (on_cpu and computes) or bf16_is_right()
    if not right:
        _log.warning(
            "convolutions in bf16 come out wrong here, as those of oneDNN 3.12 (torch 2.14) do with AMX: "
            + ("training in fp32" if precision == "auto" else "set ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16, or precision=fp32")
        )
    if precision == "auto":
        precision = "bf16" if computes and right else "fp32"
    joined = DistributedDataParallelKwargs(find_unused_parameters=True)  # pre-training leaves the prompt out
    warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified")
    try:
        return Accelerator(
            cpu=on_cpu,
            mixed_precision="bf16" if precision == "bf16" else "no",
            kwargs_handlers=[joined, InitProcessGroupKwargs(timeout=PATIENCE)],
        )
    except ValueError as cause:
        raise SettingsError(
            "one process trains on one device and in one precision",
            expected="those it trained with before",
            got=f"{precision} on {device}",
            next_step="train in another process",
        ) from cause


def _computes_bf16(on_cpu: bool) -> bool:
    if not on_cpu:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Older releases of torch cannot tell; fp32 is right there, if slower.
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def bf16_is_right() -> bool:
    """Whether a CPU's strided convolution of few channels is in bf16 near to what it is in fp32."""
    chance = torch.Generator().manual_seed(0)
    image, kernel = (torch.randn(shape, generator=chance) for shape in ((2, 16, 16, 16), (16, 16, 4, 4)))
    exact, rounded = (conv2d(image.to(kind), kernel.to(kind), stride=4).float() for kind in (torch.float32, torch.bfloat16))
    return float((rounded - exact).norm()) < 0.05 * float(exact.norm())


@dataclass(frozen=True)
class Share:
    """The part of a step's work that this process does: the `index`-th of `count` equal parts, in order."""

    index: int = 0
    count: int = 1

    @classmethod
    def of(cls, accelerator: Accelerator) -> Share:
        """The share of this process."""
        return cls(accelerator.process_index, accelerator.num_processes)

    def rows(self, total: int, name: str) -> slice:
        """Which of `total` things are this process's.

        Args:
            name: of the setting that says how many there are.

        Raises:
            SettingsError: they cannot be divided evenly, so that no process would wait for another.
        """
        if total % self.count:
            raise SettingsError(
                f"{name} cannot be divided between the processes", expected=f"a multiple of {self.count}", got=str(total)
            )
        size = total // self.count
        return slice(self.index * size, (self.index + 1) * size)


def new_run(accelerator: Accelerator) -> Path:
    """The next numbered folder in `runs/`, the same in every process."""
    from accelerate.utils import broadcast

    number = int(runs.new_run().name) if accelerator.is_main_process else 0
    return runs.ROOT / str(int(broadcast(torch.tensor(number, device=accelerator.device))))
