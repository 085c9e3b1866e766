"""Holds what was measured, and shows it as a table and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from sp_edge.accuracy import Accuracy
from sp_edge.errors import SpEdgeError
from sp_edge.precisions import PRECISIONS
from sp_edge_runtime.bench.timing import Spread

SCHEMA = 1
BATCHES = (8, 32)


@dataclass
class Figures:
    """What was measured of one backend so far; a list that is empty was not.

    Attributes:
        device, precision: as `open_backend` takes them; '' is the bundle's own precision, whose cosine is not judged.
        title: of the engine.
        cosine: least of its features to the bundle's golden ones; one that the precision does not allow goes into `failed`.
        one_ms: milliseconds of each run of the query graph with one picture.
        batch_ms: the same with more pictures, by their number.
        enroll_ms: of each shot of 1280x720 that was taught, all of an enrollment.
        age_ms: of each frame, from its capture to its label.
        camera_s: seconds of the stream, `camera_cpu_s` of the processor in this process meanwhile, `camera_joules` of energy.
        label_s: seconds from the start of each fresh process to its first label.
        memory_mb: of each such process with a stream, resident, MB; `capture_mb` of the process that captures for it.
        scores: of each episode, 0 to 1.
        failed: why a figure is missing, or not to be relied on, in words.
    """

    device: str
    precision: str
    title: str
    cosine: float
    one_ms: list[float] = field(default_factory=list)
    batch_ms: dict[int, list[float]] = field(default_factory=lambda: {size: [] for size in BATCHES})
    enroll_ms: list[float] = field(default_factory=list)
    age_ms: list[float] = field(default_factory=list)
    camera_s: float = 0.0
    camera_cpu_s: float = 0.0
    camera_joules: float | None = None
    label_s: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    capture_mb: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        least = PRECISIONS[self.precision].cosine_min if self.precision else -1.0
        if not self.cosine >= least:  # so that NaN does not pass
            self.failed.append(f"wrong features: a cosine of {self.cosine:.4f}, where {least} is the least")

    @property
    def name(self) -> str:
        """Such as 'cpu fp32'."""
        return f"{self.device} {self.precision}"

    @property
    def accuracy(self) -> Accuracy | None:
        """Of the episodes; None without any."""
        return Accuracy.of(np.array(self.scores)) if self.scores else None

    def fail(self, error: SpEdgeError) -> None:
        """Notes why a figure is missing; once."""
        reason = " ".join(": ".join(filter(None, (error.what, error.got or error.expected))).split())
        self.failed += [] if reason in self.failed else [reason]

    def to_json(self) -> dict[str, Any]:
        """Medians, quartiles and 95th percentiles; null is what was not measured."""
        accuracy = self.accuracy
        return {
            "device": self.device,
            "precision": self.precision,
            "title": self.title,
            "cosine": self.cosine if math.isfinite(self.cosine) else None,
            "one_ms": _spread(self.one_ms),
            "pictures_a_second": {
                str(size): 1000 * size / float(np.median(taken)) if taken else None for size, taken in self.batch_ms.items()
            },
            "enroll_ms": _spread(self.enroll_ms),
            "camera": self._camera() if self.camera_s else None,
            "start_to_label_s": _spread(self.label_s),
            "memory_mb": _spread(self.memory_mb),
            "capture_memory_mb": _spread(self.capture_mb),
            "accuracy": asdict(accuracy) if accuracy else None,
            "failed": self.failed,
        }

    def _camera(self) -> dict[str, Any]:
        frames, joules = len(self.age_ms), self.camera_joules
        return {
            "age_ms": _spread(self.age_ms),
            "frames": frames,
            "fps": frames / self.camera_s,
            "cpu_share": self.camera_cpu_s / self.camera_s,
            "millijoules_a_frame": None if joules is None else 1000 * joules / frames,
        }


@dataclass(frozen=True)
class Report:
    """What a bench found.

    Attributes:
        backends: `Figures.to_json` of each.
        missing: reason -> names of the engines and precisions that cannot be used for it.
        context: what else JSON tells: bundle, source, seconds, provenance.
        energy: of what the energy is; empty where nothing tells.
        stopped_by: what ended it before it was done; empty where nothing did.
    """

    backends: Sequence[Mapping[str, Any]]
    missing: Mapping[str, Sequence[str]]
    context: Mapping[str, Any]
    energy: str = ""
    stopped_by: str = ""

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "schema": SCHEMA,
            **self.context,
            "energy": self.energy or None,
            "stopped": bool(self.stopped_by),
            "stopped_by": self.stopped_by or None,
            "backends": list(self.backends),
            "missing": {reason: list(names) for reason, names in self.missing.items()},
        }


def columns(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a report's table, from its JSON; a column that nothing fills is left out, a cell is '-'."""
    cells = [_cells(one) for one in report["backends"]]
    header = [name for name in (cells[0] if cells else ()) if any(row[name] is not None for row in cells)]
    return header, [[row[name] or "-" for name in header] for row in cells]


def _cells(one: Mapping[str, Any]) -> dict[str, str | None]:
    camera, accuracy, rate = one["camera"] or {}, one["accuracy"], one["pictures_a_second"]
    return {
        "backend": f"{one['device']} {one['precision']}",
        "cosine": _text(one["cosine"], ".4f"),
        "ms": _text(_of(one["one_ms"], "median"), ".1f"),
        "p95": _text(_of(one["one_ms"], "p95"), ".1f"),
        **{f"{size}: /s": _text(rate[size], ".0f") for size in rate},
        "enroll ms": _text(_of(one["enroll_ms"], "median"), ".0f"),
        "camera ms": _text(_of(camera.get("age_ms"), "median"), ".1f"),
        "p95 ms": _text(_of(camera.get("age_ms"), "p95"), ".1f"),
        "CPU %": _text(camera and 100 * camera["cpu_share"], ".0f"),
        "start s": _text(_of(one["start_to_label_s"], "median"), ".2f"),
        "MB": _text(_of(one["memory_mb"], "median"), ".0f"),
        "accuracy %": str(Accuracy(**accuracy)) if accuracy else None,
        "mJ/frame": _text(camera.get("millijoules_a_frame"), ".0f"),
    }


def _spread(taken: Sequence[float]) -> dict[str, Any] | None:
    found = Spread.of(taken)
    return asdict(found) if found else None


def _of(spread: Mapping[str, Any] | None, which: str) -> Any:
    return spread[which] if spread else None


def _text(value: Any, form: str) -> str | None:
    return format(value, form) if isinstance(value, float | int) else None
