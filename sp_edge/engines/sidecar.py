"""Says what a TensorRT engine (a plan) was built from, by what and for what: the JSON file beside it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.manifest import GRAPHS, INPUTS, OUTPUTS, SCORES
from sp_edge.engines.device import Device
from sp_edge.errors import PlanError
from sp_edge.precisions import EXPORTED

KIND = "sp-edge engine"
SCHEMA = 4
TITLES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
FLAVOURS = tuple(TITLES)
MAX_BATCH = 1024
_PORTABLE = 8.0  # least compute capability of an engine that TensorRT-RTX builds for no GPU in particular
DTYPES = ("bool", "float16", "float32", "int32", "int64", "int8", "uint8")

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """An input or output of a plan.

    Attributes:
        name: image or prompt; feature or plain.
        dtype: numpy's name of it.
        shape: -1 stands for a batch that may vary.
        profile: least, best and largest shape of an input that may vary; None where it may not, and for outputs.
    """

    name: str
    dtype: str
    shape: Shape
    profile: tuple[Shape, Shape, Shape] | None = None


@dataclass(frozen=True)
class Latency:
    """What one run took, copies to and from the device included.

    Attributes:
        median_ms, least_ms: milliseconds.
        batch: of each run.
        runs: how many were measured, after those that warmed the device up.
    """

    median_ms: float
    least_ms: float
    batch: int
    runs: int


@dataclass(frozen=True)
class Parity:
    """The plan's features of the golden pictures against those of the graph that it was built from.

    Attributes:
        cosine_mean, cosine_min: over the pictures.
        pictures: how many.
    """

    cosine_mean: float
    cosine_min: float
    pictures: int


@dataclass(frozen=True)
class Sidecar:
    """What `PLAN.json` says of a plan.

    Attributes:
        sp_edge: version that built it.
        bundle: fingerprint of the bundle.
        graph: query or support.
        precision: fp32, fp16 or int8; the graph's own, since networks are strongly typed.
        plan_sha256, plan_bytes: digest and size of the plan.
        onnx_file, onnx_sha256: the graph that it was built from.
        device: where it was built, by which TensorRT.
        targets: compute capabilities that TensorRT-RTX built for; empty: its own default, 8.0 and later.
        inputs, outputs: its tensors.
        layers: how many of the parsed network's layers give each dtype.
        kernels: how many of the built engine's layers give each dtype, as its inspector says; None where no GPU was at hand.
        max_batch: batches reach from 1 to this; 1 is a static plan.
        workspace: GiB that the builder might use.
        optimization_level: 0 (built fast) to 5 (runs fast).
        preprocess: as the manifest had it.
        calibration: digest of the pictures that int8 was calibrated with, where the manifest had one.
        latency, parity: None where no GPU was at hand to measure them.
    """

    sp_edge: str
    bundle: str
    graph: str
    precision: str
    plan_sha256: str
    plan_bytes: int
    onnx_file: str
    onnx_sha256: str
    device: Device
    targets: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    layers: Mapping[str, int]
    max_batch: int
    workspace: float
    optimization_level: int
    preprocess: Mapping[str, Any]
    calibration: str | None = None
    kernels: Mapping[str, int] | None = None
    latency: Latency | None = None
    parity: Parity | None = None

    def __post_init__(self) -> None:
        checks = {
            "graph": self.graph in GRAPHS,
            "precision": self.precision in EXPORTED,
            "digests": all(map(_is_digest, (self.bundle, self.plan_sha256, self.onnx_sha256))),
            "calibration": self.calibration is None or _is_digest(self.calibration),
            "plan bytes": 0 < self.plan_bytes < 2**63,
            "device": self.device.flavour in FLAVOURS and all((self.device.version, self.device.system, self.device.machine)),
            "targets": all(re.fullmatch(r"\d{1,2}\.\d", target) for target in self.targets),
            "inputs": sorted(tensor.name for tensor in self.inputs) == sorted(INPUTS.get(self.graph, ())),
            "outputs": sorted(tensor.name for tensor in self.outputs if tensor.name != SCORES)
            == sorted(OUTPUTS.get(self.graph, ())),
            "tensors": all(_is_sound(tensor, self.max_batch, profiled=self.max_batch > 1) for tensor in self.inputs)
            and all(_is_sound(tensor, self.max_batch, profiled=False) for tensor in self.outputs),
            "layers": all(count > 0 for count in (*self.layers.values(), *(self.kernels or {}).values())),
            "batch": 1 <= self.max_batch <= MAX_BATCH,
            "workspace": 0 < self.workspace <= 1024,
            "optimization level": 0 <= self.optimization_level <= 5,
            "latency": self.latency is None
            or (0 < self.latency.least_ms <= self.latency.median_ms < math.inf and self.latency.batch > 0 < self.latency.runs),
            "parity": self.parity is None
            or (-1.001 <= self.parity.cosine_min <= self.parity.cosine_mean <= 1.001 and self.parity.pictures > 0),
        }
        wrong = [name for name, sound in checks.items() if not sound]
        if wrong:
            raise PlanError("an engine's sidecar says what cannot be", expected="what sp-edge wrote", got=", ".join(wrong))

    def to_json(self) -> dict[str, Any]:
        """The file's content."""
        return {"kind": KIND, "schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Sidecar:
        """Reads `to_json`.

        Raises:
            PlanError: of another kind or schema, or a field is missing or impossible.
        """
        if value.get("kind") != KIND or value.get("schema") != SCHEMA:
            raise PlanError(
                "not the sidecar of an engine, or of another schema",
                expected=f"kind: {KIND}, schema: {SCHEMA}",
                got=f"{value.get('kind')!r}, {value.get('schema')!r}"[:80],
                next_step="build the engine again",
            )
        try:
            return msgspec.convert({key: part for key, part in value.items() if key not in ("kind", "schema")}, cls)
        except (msgspec.ValidationError, UnicodeError) as cause:  # the second: half of a surrogate pair, which JSON may hold
            raise PlanError(
                "an engine's sidecar is incomplete",
                expected=f"schema {SCHEMA}",
                got=str(cause)[:200],
                next_step="build the engine again",
            ) from cause

    def differences(self, bundle: Bundle, device: Device) -> tuple[str, ...]:
        """What keeps the plan from standing for its graph of `bundle` on `device`, in words; empty if it fits.

        The driver does not count: it may be newer. A plan of TensorRT is for one model of GPU and one release of Linux for
        Tegra; one of TensorRT-RTX is for all the GPUs that it was built for.
        """
        found = []
        if self.bundle != bundle.fingerprint:
            found.append(f"built from bundle {self.bundle[:12]}, not {bundle.fingerprint[:12]}")
        elif self.precision not in bundle.manifest.graphs:
            found.append(f"the bundle has no {self.precision} graphs now")
        elif self.onnx_sha256 != bundle.manifest.files[bundle.manifest.graphs[self.precision][self.graph]][0]:
            found.append(f"built from another {self.precision} {self.graph} graph than the bundle has now")
        here, there = device, self.device
        if there.flavour != here.flavour:
            return (*found, f"built by {there.flavour}, not {here.flavour}")
        if here.compute_capability is None:
            return (*found, "no NVIDIA GPU can be used here")
        parts = ["version", "system", "machine"]
        if here.flavour == "tensorrt":
            parts += ["compute_capability", "gpu", "l4t"]
        elif here.compute_capability not in self.targets and (self.targets or float(here.compute_capability) < _PORTABLE):
            wanted = ", ".join(self.targets) or f"{_PORTABLE} and later"
            found.append(f"built for compute capability {wanted}, here is {here.compute_capability}")
        for part in parts:
            before, now = getattr(there, part), getattr(here, part)
            if before != now:
                found.append(f"built with {part.replace('_', ' ')} {before or 'unknown'}, here is {now or 'unknown'}")
        return tuple(found)


def _is_digest(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{64}", text) is not None


def _is_sound(tensor: Tensor, max_batch: int, *, profiled: bool) -> bool:
    batch, *rest = tensor.shape or (0,)
    if tensor.dtype not in DTYPES or batch != (1 if max_batch == 1 else -1) or not all(0 < side < 2**31 for side in rest):
        return False
    return tensor.profile == (tuple((n, *rest) for n in (1, max_batch, max_batch)) if profiled else None)
