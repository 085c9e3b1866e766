"""Finds the TensorRT engines (plans) that were built for a bundle and fit this machine.

A plan is native code that fits one graph, one TensorRT, and one GPU or family of them. Three rules follow:

- A plan is never part of a bundle. Bundles are shipped to many devices, and whoever unpacks one must not be handed native
  code with it. Plans stand in a folder of their own, by default ~/.cache/sp-edge/engines; XDG_CACHE_HOME moves it, and every
  function takes another. A plan built elsewhere (`--target rtx`) runs where somebody puts it into such a folder.
- Beside every plan stands a sidecar, PLAN.json, which says all that the plan depends on. Whatever differs from the bundle
  and the machine at hand is named, and the plan is left alone.
- A plan's bytes are given out only after size and digest were compared with the sidecar, as the very bytes that were
  compared. Files that everybody may write are not read at all.

    engines/                                                                 `default_folder()`
        0f3a95c1d2e48b67/                                                    the bundle's fingerprint, 16 digits of it
            query.fp16.n1.tensorrt-10.3.0.sm87-orin.plan                     a static batch of 1, for the stream
            query.fp16.n1.tensorrt-10.3.0.sm87-orin.plan.json                its sidecar
            query.fp16.n8.tensorrt-10.3.0.sm87-orin.plan                     batches of 1 to 8
            support.fp16.n8.tensorrt_rtx-1.2.0.36.any.plan                   for every GPU that TensorRT-RTX supports
        timing/tensorrt-10.3.0.sm87-orin.cache                               what the builder measured, for the next build

Names keep the plans of several devices with one home folder apart; what counts is the sidecar.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from hashlib import sha256 as sha256_of
from pathlib import Path

from sp_edge.bundle.bundle import Bundle
from sp_edge.engines.device import Device
from sp_edge.engines.sidecar import Sidecar
from sp_edge.errors import PlanError
from sp_edge.files import cache_folder, read_json


@dataclass(frozen=True)
class Plan:
    """A plan and what its sidecar says of it."""

    path: Path
    sidecar: Sidecar

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Reads the sidecar of a plan; the plan itself is read by `read`.

        Raises:
            PlanError: a file is missing, everybody may write it, or the sidecar is damaged.
        """
        beside = sidecar_of(path)
        for file in (path.parent, path, beside):
            _check_access(file)
        return cls(path, Sidecar.from_json(read_json(beside, PlanError)))

    def read(self) -> bytes:
        """The plan's bytes, of the size and digest that the sidecar says; only these may be deserialised.

        Raises:
            PlanError: it cannot be read, or is not the file that was built.
        """
        try:
            size = self.path.stat().st_size
            content = self.path.read_bytes() if size == self.sidecar.plan_bytes else b""
        except OSError as cause:
            raise PlanError(f"cannot read the engine {self.path}", got=str(cause)) from cause
        digest = sha256_of(content).hexdigest()
        if digest != self.sidecar.plan_sha256:
            raise PlanError(
                f"the engine {self.path.name} is not what its sidecar says",
                expected=f"{self.sidecar.plan_bytes} bytes, sha256 {self.sidecar.plan_sha256[:12]}...",
                got=f"{size} bytes" + (f", sha256 {digest[:12]}..." if content else ""),
                next_step=f"delete {self.path} and build it again",
            )
        return content


def default_folder() -> Path:
    """Where plans stand unless told otherwise, such as ~/.cache/sp-edge/engines; XDG_CACHE_HOME moves it.

    Raises:
        PlanError: the user has no home folder.
    """
    return cache_folder("engines", PlanError, next_step="--engines DIR")


def plan_path(
    bundle: Bundle,
    graph: str,
    precision: str,
    max_batch: int,
    device: Device,
    *,
    targets: tuple[str, ...] = (),
    folder: Path | None = None,
) -> Path:
    """Where a plan is written; see this module's head.

    Args:
        targets: compute capabilities that TensorRT-RTX builds for.
        folder: of all engines, `default_folder()` by default.
    """
    base = folder_of(bundle, folder)
    return base / f"{graph}.{precision}.n{max_batch}.{build_key(device, targets)}.plan"


def build_key(device: Device, targets: tuple[str, ...] = ()) -> str:
    """The part of a file's name that stands for TensorRT and the GPUs: 'tensorrt-10.3.0.sm87-orin'."""
    capabilities = targets if device.flavour == "tensorrt_rtx" else (device.compute_capability or "",)
    names = [f"sm{capability.replace('.', '')}" for capability in capabilities if capability]
    if device.flavour == "tensorrt" and device.gpu:
        names.append(re.sub(r"[^a-z0-9]+", "-", device.gpu.lower()).strip("-"))
    return f"{device.flavour}-{device.version}.{'-'.join(names) or 'any'}"


def folder_of(bundle: Bundle, folder: Path | None = None) -> Path:
    """The folder with the plans of one bundle."""
    return (folder or default_folder()) / bundle.fingerprint[:16]


def sidecar_of(plan: Path) -> Path:
    """The sidecar's file beside a plan."""
    return plan.with_name(plan.name + ".json")


def plans_of(bundle: Bundle, folder: Path | None = None) -> list[Path]:
    """Every plan that was built for a bundle, fitting or not, by name."""
    return sorted(path for path in folder_of(bundle, folder).glob("*.plan") if not path.name.startswith("."))


def find_plan(bundle: Bundle, graph: str, precision: str, batch: int, device: Device, *, folder: Path | None = None) -> Plan:
    """The plan for batches of this size: of those that fit, the one with the smallest profile, so static for a batch of 1.

    Args and errors are those of `find_plans`.
    """
    return find_plans(bundle, graph, precision, batch, device, folder=folder)[0]


def find_plans(
    bundle: Bundle, graph: str, precision: str, batch: int, device: Device, *, folder: Path | None = None
) -> list[Plan]:
    """The plans that take batches of this size and fit, one a profile, the smallest first.

    Args:
        graph: query or support.
        batch: pictures at once; a caller with more than any plan takes asks for less and runs several times.
        device: as `Device.here` gives it.
        folder: of all engines, `default_folder()` by default.

    Raises:
        PlanError: none fits; `got` says of each what differs.
    """
    fitting: dict[int, Plan] = {}
    reasons: list[str] = []
    for path in plans_of(bundle, folder):
        if not path.name.startswith(f"{graph}.{precision}."):
            continue
        try:
            plan = Plan.load(path)
        except PlanError as error:
            reasons.append(f"{path.name}: {error.what}" + (f" ({error.got})" if error.got else ""))
            continue
        what = plan.sidecar
        differing = what.differences(bundle, device)
        if (what.graph, what.precision) != (graph, precision):
            differing = (f"its sidecar is of the {what.precision} {what.graph} graph",)
        elif batch > what.max_batch:
            differing = (*differing, f"takes batches up to {what.max_batch}, not {batch}")
        if differing:
            reasons.append(f"{path.name}: {'; '.join(differing)}")
        else:
            fitting.setdefault(what.max_batch, plan)
    if not fitting:
        raise PlanError(
            f"no engine fits for the {precision} {graph} graph",
            expected=f"one in {folder_of(bundle, folder)} for this machine and batches of {batch}",
            got="; ".join(reasons) or "none was built",
            next_step=f"sp-edge export {bundle.path} --format engine --precision {precision}",
        )
    return [fitting[size] for size in sorted(fitting)]


def _check_access(path: Path) -> None:
    """A plan is code: it is not read from where anybody can put it."""
    try:
        mode = path.stat().st_mode
    except OSError as cause:
        raise PlanError(f"no file {path.name}", expected="a plan with its sidecar", got=str(cause)) from cause
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise PlanError(f"{path.name} is no file", expected="a plan with its sidecar")
    if mode & stat.S_IWOTH:
        raise PlanError(
            f"everybody may write {path}",
            expected="an engine that only its owner may change, since it is native code",
            got=stat.filemode(mode),
            next_step=f"chmod o-w {path}, if you trust what is there",
        )
