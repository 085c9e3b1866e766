"""Finds what runs a bundle fastest on this CPU: measures once for a bundle and a machine, and remembers it."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib import metadata
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import onnxruntime

import sp_edge
from sp_edge.bundle.bundle import Bundle
from sp_edge.columns import table
from sp_edge.engines.device import read_text, usable_cores
from sp_edge.errors import InputError, SettingsError, SpEdgeError
from sp_edge.files import cache_folder, read_json, write_json
from sp_edge_runtime.backends.backend import Backend, check_golden
from sp_edge_runtime.backends.trials import Form, Open, Trial, measured

_log = logging.getLogger(__name__)
KIND = "sp-edge fastest on a CPU"
MARGIN = 0.9  # of the first candidate's time: what is not clearly faster does not take its place


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
    _, known = _remembered(file)
    if known:
        with suppress(SpEdgeError):  # what has stopped working since is measured anew
            return _opened(bundle, _completed(bundle, forms, known, file), forms, opener)
    return _opened(bundle, _completed(bundle, forms, [], file), forms, opener)


def candidates(bundle: Bundle, precision: str | None) -> list[Form]:
    """Devices and precisions that could run a bundle here; the first is what runs unless another is clearly faster."""
    precisions = [precision] if precision else ["fp32", *(["int8"] if "int8" in bundle.manifest.cpu_graphs else [])]
    forms = [("cpu", each) for each in precisions]
    if openvino_version():
        forms += [("openvino", each) for each in ([precision] if precision else ["fp32", "bf16", *precisions[1:]])]
    return forms


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


def told(most: int) -> str:
    """What was measured last on this machine as it is now, of so many bundles at most: a sentence each, as a line of JSON."""
    sentences = []
    for bundle, trials in islice(remembered_here(), most):
        best = fastest(trials)
        others = ", ".join(str(trial) for trial in trials if trial is not best)
        sentences.append(f"{bundle}: {best}" + (f"; not {others}" if others else ""))
    return json.dumps(sentences)


def openvino_version() -> str | None:
    """OpenVINO's version; None where it is not installed. It is not imported, which takes long."""
    try:
        return metadata.version("openvino") if find_spec("openvino") is not None else None
    except metadata.PackageNotFoundError:
        return None


def _completed(bundle: Bundle, forms: Sequence[Form], known: Sequence[Trial], file: Path | None) -> list[Trial]:
    """What is known with what is measured now, in the forms' order; it is remembered."""
    found = {(trial.device, trial.precision): trial for trial in known}
    left = [form for form in forms if form not in found]
    if left:
        found |= {(trial.device, trial.precision): trial for trial in measured(bundle, left)}
        _remember(file, bundle, [found[form] for form in forms if form in found])
    return [found[form] for form in forms if form in found]


def _opened(bundle: Bundle, trials: Sequence[Trial], forms: Sequence[Form], opener: Open) -> Backend:
    usual = next((trial for trial in trials if trial.milliseconds is not None), None)
    if usual is None:
        backend = opener(*forms[0])
        try:
            check_golden(backend, bundle, forms[0][1], next_step="--device cpu")
        except BaseException:
            backend.close()
            raise
        backend.why = "what is fastest could not be measured"
        _log.debug(backend.why)
        return backend
    best = fastest(trials)
    backend = opener(best.device, best.precision)
    _log.debug(shown(trials))
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
        "threads": usable_cores(),
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
    if file is None or all(trial.milliseconds is None for trial in trials):
        return
    content = {"kind": KIND, "bundle": str(bundle.path.absolute()), "machine": _machine()}
    with suppress(OSError, SpEdgeError):  # a home that cannot be written: measured anew each time
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {**content, "trials": [asdict(trial) for trial in trials if trial.lasting]})


def _age(file: Path) -> float:
    try:
        return -file.stat().st_mtime
    except OSError:
        return 0.0
