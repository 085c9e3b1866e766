"""Tries engines on a bundle, in a process that ends afterwards: what they leave of memory and threads goes with it."""

from __future__ import annotations

import json
import logging
import math
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import InputError, SpEdgeError
from sp_edge.processes import python_command
from sp_edge_runtime.backends.backend import Backend, UnfitError, check_golden

_log = logging.getLogger(__name__)
ENGINES = {"cpu": "ONNX Runtime", "openvino": "OpenVINO"}
_SECONDS = 0.3  # for each
_LEAST_RUNS = 5
_TIMEOUT = 300.0  # seconds for all; compiling on a slow board takes many

Form = tuple[str, str]  # device and precision
Open = Callable[[str, str], Backend]  # device ('cpu' or 'openvino') and precision -> the engine


@dataclass(frozen=True)
class Trial:
    """One engine in one precision.

    Attributes:
        device: 'cpu' or 'openvino'.
        precision: such as 'int8'.
        milliseconds: that a picture takes; None where it was left out.
        cosine: least of the golden pictures' features to the expected ones; None likewise.
        why: it was left out; empty where it was not.
        lasting: it would be the same another time: a time, or a reason that stays, such as a package that is not installed.
    """

    device: str
    precision: str
    milliseconds: float | None = None
    cosine: float | None = None
    why: str = ""
    lasting: bool = True

    @property
    def title(self) -> str:
        """Such as 'OpenVINO int8'."""
        return f"{ENGINES[self.device]} {self.precision}"

    def __str__(self) -> str:
        """Such as 'OpenVINO int8 (3.1 ms, cosine 0.9868)'."""
        return f"{self.title} ({self.why or f'{self.milliseconds:.1f} ms, cosine {self.cosine:.4f}'})"

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Trial:
        """Reads what `asdict` gives.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        device, numbers = str(value["device"]), [value["milliseconds"], value["cosine"]]
        milliseconds, cosine = (None if number is None else float(number) for number in numbers)
        left_out, lasting = bool(value["why"]), value["lasting"]
        if (
            device not in ENGINES
            or (milliseconds is None, cosine is None) != (left_out, left_out)
            or lasting not in (True, False)
        ):
            raise ValueError("no trial")
        if milliseconds is not None and cosine is not None and not (0 < milliseconds < math.inf and -1.01 <= cosine <= 1.01):
            raise ValueError("no time, or no cosine")
        return cls(device, str(value["precision"]), milliseconds, cosine, str(value["why"]), lasting)


def measured(bundle: Bundle, forms: Sequence[Form]) -> list[Trial]:
    """Tries each form in a process beside this one. Where that ends early, what it had not told yet is missing."""
    job = json.dumps({"bundle": str(bundle.path), "forms": forms})
    command = python_command("sp_edge_runtime.backends.beside", job)
    try:
        ran = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        _log.debug(f"nothing was measured: {error}")
        return []
    if ran.returncode != 0:
        _log.debug(f"the measurement ended with {ran.returncode}: {ran.stderr.strip()[-300:]}")
    trials = []
    for line in ran.stdout.splitlines():  # libraries may print others
        with suppress(KeyError, TypeError, ValueError):
            trials.append(Trial.from_json(json.loads(line)))
    return trials


def tried(bundle: Bundle, forms: Sequence[Form], opener: Open) -> Iterator[Trial]:
    """Each form by itself, closed before the next: the golden pictures first, then its time."""
    image = bundle.golden().images[:1]
    for form in forms:
        try:
            with opener(*form) as backend:
                cosine = check_golden(backend, bundle, form[1], next_step="--device cpu")
                found = Trial(*form, milliseconds(backend, image), cosine)
        except SpEdgeError as error:
            found = Trial(*form, why=" ".join(error.what.split()), lasting=isinstance(error, InputError | UnfitError))
        yield found


def milliseconds(backend: Backend, image: NDArray[np.uint8]) -> float:
    """How long a picture takes: the shortest of some runs, which other work on the machine disturbs least.

    Args:
        backend: warmed up.
        image: uint8 (1, H, W, 3) RGB.
    """
    taken: list[float] = []
    end = time.perf_counter() + _SECONDS
    while time.perf_counter() < end or len(taken) < _LEAST_RUNS:
        start = time.perf_counter()
        backend.run("query", {"image": image})
        taken.append(time.perf_counter() - start)
    return 1000 * min(taken)
