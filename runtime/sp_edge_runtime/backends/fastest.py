"""Finds what runs a bundle fastest on this CPU: measures once for a bundle and a machine, and remembers it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

import sp_edge
from sp_edge.bundle.bundle import Bundle
from sp_edge.columns import table
from sp_edge.engines.device import read_text
from sp_edge.errors import InputError, SettingsError, SpEdgeError
from sp_edge.files import cache_folder, read_json, write_json
from sp_edge_runtime.backends.backend import Backend, check_golden

_log = logging.getLogger(__name__)
KIND = "sp-edge fastest on a CPU"
ENGINES = {"cpu": "ONNX Runtime", "openvino": "OpenVINO"}
MARGIN = 0.9  # of the first candidate's time: what is not clearly faster does not take its place
_SECONDS = 0.15  # for each candidate, taking turns
_LEAST_RUNS = 5

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
    """

    device: str
    precision: str
    milliseconds: float | None = None
    cosine: float | None = None
    why: str = ""

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
        if device not in ENGINES or (numbers[0] is None) != bool(value["why"]):
            raise ValueError("no trial")
        milliseconds, cosine = (None if number is None else float(number) for number in numbers)
        return cls(device, str(value["precision"]), milliseconds, cosine, str(value["why"]))


def open_fastest(bundle: Bundle, precision: str | None, opener: Open) -> Backend:
    """The engine and precision that runs the bundle's query graph fastest here, of those whose features are right.

    Args:
        bundle: whose graphs to run.
        precision: the only one that counts; by default fp32, bf16, and int8 where the bundle has it in the form for CPUs.
        opener: opens an engine.

    Raises:
        SpEdgeError: none can be used; of the first candidate.
    """
    forms = candidates(bundle, precision)
    if len(forms) == 1:
        _log.debug(f"nothing to compare on this CPU: there is only {Trial(*forms[0]).title}")
        return opener(*forms[0])
    file = _remembered_at(bundle, forms)
    _, trials = _remembered(file)
    if trials:
        with suppress(SpEdgeError):  # what has stopped working since is measured anew
            return _opened(trials, opener)
    trials = measured(bundle, forms, opener)
    _remember(file, bundle, trials)
    return _opened(trials, opener)


def candidates(bundle: Bundle, precision: str | None) -> list[Form]:
    """Devices and precisions that could run a bundle here; the first is what runs unless another is clearly faster."""
    precisions = [precision] if precision else ["fp32", *(["int8"] if "int8" in bundle.manifest.cpu_graphs else [])]
    forms = [("cpu", each) for each in precisions]
    if openvino_version():
        forms += [("openvino", each) for each in ([precision] if precision else ["fp32", "bf16", *precisions[1:]])]
    return forms


def measured(bundle: Bundle, forms: Sequence[Form], opener: Open) -> list[Trial]:
    """Tries each form: the golden pictures first, then, in turns with the others, its time.

    Raises:
        SpEdgeError: none can be used; of the first.
    """
    cosines: dict[Form, float] = {}
    errors: dict[Form, SpEdgeError] = {}
    with ExitStack() as stack:
        backends: dict[Form, Backend] = {}
        for form in forms:
            try:
                backend = stack.enter_context(opener(*form))
                cosines[form] = check_golden(backend, bundle, form[1], next_step="--device cpu")
                backends[form] = backend
            except SpEdgeError as error:  # noqa: PERF203
                errors[form] = error
        if not backends:
            raise errors[forms[0]]
        times = milliseconds(backends, bundle.golden().images[:1])
    return [
        Trial(*form, why=" ".join(errors[form].what.split())) if form in errors else Trial(*form, times[form], cosines[form])
        for form in forms
    ]


def milliseconds(backends: Mapping[Form, Backend], image: NDArray[np.uint8]) -> dict[Form, float]:
    """How long each takes for a picture: the shortest of its runs, which other work on the machine disturbs least.

    They take turns, so that such work does not fall on one alone.

    Args:
        backends: warmed up.
        image: uint8 (1, H, W, 3) RGB.
    """
    taken: dict[Form, list[float]] = {form: [] for form in backends}
    end = time.perf_counter() + _SECONDS * len(backends)
    while time.perf_counter() < end or min(map(len, taken.values())) < _LEAST_RUNS:
        for form, backend in backends.items():
            start = time.perf_counter()
            backend.run("query", {"image": image})
            taken[form].append(time.perf_counter() - start)
    return {form: 1000 * min(times) for form, times in taken.items()}


def fastest(trials: Sequence[Trial]) -> Trial:
    """The first that works, unless another is clearly faster."""
    timed = [(trial.milliseconds, trial) for trial in trials if trial.milliseconds is not None]
    (first, usual), (least, best) = timed[0], min(timed, key=lambda pair: pair[0])
    return best if least < MARGIN * first else usual


def shown(trials: Sequence[Trial]) -> str:
    """The trials as a table."""
    best = fastest(trials)
    rows = [
        (
            trial.title,
            "" if trial.milliseconds is None else f"{trial.milliseconds:.1f}",
            "" if trial.cosine is None else f"{trial.cosine:.4f}",
            "taken" if trial is best else f"left out: {trial.why}" if trial.why else "",
        )
        for trial in trials
    ]
    return table(["on this CPU", "ms a picture", "cosine", "result"], rows, text=["result"])


def remembered_here() -> Iterator[tuple[str, list[Trial]]]:
    """What was measured on this machine as it is now: path of a bundle and trials, the newest first."""
    folder = _folder()
    files = sorted(folder.glob("*.json"), key=_age) if folder is not None and folder.is_dir() else []
    for file in files:
        content, trials = _remembered(file)
        if trials and content.get("machine") == _machine():
            yield str(content.get("bundle", "")), trials


def openvino_version() -> str | None:
    """OpenVINO's version; None where it is not installed. It is not imported, which takes long."""
    try:
        return metadata.version("openvino") if find_spec("openvino") is not None else None
    except metadata.PackageNotFoundError:
        return None


def _opened(trials: Sequence[Trial], opener: Open) -> Backend:
    best = fastest(trials)
    backend = opener(best.device, best.precision)
    _log.debug(shown(trials))
    usual = next(trial for trial in trials if trial.milliseconds is not None)
    backend.why = f"fastest here: {best.milliseconds:.1f} ms a picture"
    if best is not usual:
        backend.why += f", {usual.title} {usual.milliseconds:.1f}"
    return backend


def _machine() -> dict[str, Any]:
    """All of the machine and the software that a time may depend on."""
    words = dict.fromkeys(
        line.replace("\t", "") for line in (read_text(Path("/proc/cpuinfo")) or "").splitlines() if _of_cpu(line)
    )
    return {
        "cpu": hashlib.sha256("\n".join([platform.machine(), platform.processor(), *words]).encode()).hexdigest(),
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "onnxruntime": onnxruntime.__version__,
        "openvino": openvino_version(),
        "sp_edge": sp_edge.__version__,
    }


def _of_cpu(line: str) -> bool:
    return line.partition(":")[0].strip() in ("model name", "flags", "Features", "CPU part", "CPU implementer")


def _folder() -> Path | None:
    with suppress(InputError):
        return cache_folder("fastest", SettingsError, next_step="")
    return None


def _remembered_at(bundle: Bundle, forms: Sequence[Form]) -> Path | None:
    manifest = bundle.manifest
    graphs = [files for kinds in (manifest.graphs, manifest.cpu_graphs) for files in kinds.values()]
    digests = sorted(manifest.files[name][0] for files in graphs for name in files.values())
    key = json.dumps([digests, forms, _machine()], sort_keys=True)
    folder = _folder()
    return None if folder is None else folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def _remembered(file: Path | None) -> tuple[dict[str, Any], list[Trial]]:
    """What was measured before: the file's content and its trials; nothing where it cannot be read."""
    if file is not None and file.is_file():
        with suppress(SpEdgeError, KeyError, TypeError, ValueError):
            content = read_json(file, SettingsError)
            trials = [Trial.from_json(value) for value in content["trials"]]
            if content["kind"] == KIND and any(trial.milliseconds is not None for trial in trials):
                return content, trials
    return {}, []


def _remember(file: Path | None, bundle: Bundle, trials: Sequence[Trial]) -> None:
    if file is None:
        return
    content = {"kind": KIND, "bundle": str(bundle.path.absolute()), "machine": _machine()}
    with suppress(OSError, SpEdgeError):  # a home that cannot be written: measured anew each time
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {**content, "trials": [asdict(trial) for trial in trials]})


def _age(file: Path) -> float:
    try:
        return -file.stat().st_mtime
    except OSError:
        return 0.0
