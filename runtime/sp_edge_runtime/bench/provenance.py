"""Says where and with what figures were measured, so that another reader can judge them."""

from __future__ import annotations

import datetime
import os
import platform
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sp_edge import __version__
from sp_edge.engines.device import find_gpu, l4t_release, read_text, usable_cores
from sp_edge.errors import BackendError
from sp_edge_runtime.doctor.finding import package_version

PACKAGES = (
    "numpy", "pillow", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tensorrt-rtx", "pycuda", "cuda-python",
    "opencv-python-headless", "opencv-python", "av",
)  # fmt: skip
# Instructions that decide how fast a network runs, by the words of /proc/cpuinfo on x86 and on Arm.
_X86 = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
_ARM = ("asimd", "asimddp", "i8mm", "bf16", "sve")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def provenance(command: str) -> dict[str, Any]:
    """Versions, processor, threads, what else runs, command and date, as JSON has them.

    Args:
        command: that measures.
    """
    return {
        "command": command,
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "versions": {"sp-edge": __version__, "python": platform.python_version(), **versions(PACKAGES)},
        "system": f"{platform.system()} {platform.machine()}",
        "l4t": l4t_release(),
        "gpu": _gpu(),
        "processor": processor(),
        "busy": busy(),
    }


def busy(window: float = 0.5, root: Path = Path("/")) -> float | None:
    """Share of the processor's time, 0 to 1, that is taken now: of other work, where this process waits; None if nothing says.

    Args:
        window: seconds to look.
    """
    before = _ticks(root)
    time.sleep(window)
    after = _ticks(root)
    spent = [end - begin for begin, end in zip(before, after, strict=True)]
    return round(1 - sum(spent[3:5]) / sum(spent), 2) if sum(spent) > 0 else None  # idle, and waiting for a disk


def _ticks(root: Path) -> list[int]:
    """What the cores together did since they started: user, nice, system, idle, iowait and others."""
    first = (read_text(root / "proc/stat") or "").partition("\n")[0].split()
    return [int(number) for number in first[1:9]]


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Of those packages that are installed."""
    return {name: version for name in packages for version in [package_version(name)] if version is not None}


def processor(root: Path = Path("/")) -> dict[str, Any]:
    """Model, instructions that decide how fast networks run, usable cores, and variables that set numbers of threads."""
    said = read_text(root / "proc/cpuinfo") or ""
    listed = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", said, re.MULTILINE)
    model = re.search(r"^model name\s*:\s*(.*)$", said, re.MULTILINE)
    has = set(listed[1].split()) if listed else set()
    return {
        "model": model[1].strip() if model else platform.machine(),
        "instructions": [name for name in (*_X86, *_ARM) if name in has],
        "cores": usable_cores(),
        "threads": {name: os.environ[name] for name in _THREADS if name in os.environ},
    }


def processor_words(found: Mapping[str, Any]) -> str:
    """Such as 'x86-64 with AVX2, without VNNI and bf16, 2 cores', from what `processor` gave; no model."""
    has = set(found["instructions"])
    arm = bool(has & {"asimd"})
    dot = bool(has & {"avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"})
    half = bool(has & {"avx512_bf16", "amx_bf16", "bf16"})
    wide = "NEON" if arm else "AVX-512" if "avx512f" in has else "AVX2" if "avx2" in has else "no AVX2"
    word = "integer dot products" if arm else "VNNI"
    kinds = [f"{'with' if there else 'without'} {name}" for name, there in ((word, dot), ("bf16", half))]
    return f"{'Arm' if arm else 'x86-64'} with {wide}, {' and '.join(kinds)}, {found['cores']} cores"


def _gpu() -> str | None:
    try:
        return find_gpu().name
    except BackendError:
        return None
