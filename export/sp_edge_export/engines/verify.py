"""Says of each engine that was built for a bundle whether it is whole, and what keeps it from fitting this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sp_edge.bundle.bundle import Bundle
from sp_edge.engines.device import Device
from sp_edge.engines.plans import Plan, plans_of
from sp_edge.errors import PlanError, SpEdgeError
from sp_edge_export.engines.engine import load_tensorrt


@dataclass(frozen=True)
class EngineState:
    """What there is to say of one plan.

    Attributes:
        plan: its file.
        error: why it is no sound plan; empty if it is whole.
        differences: what keeps it from standing for the bundle's graph on this machine; empty if it fits.
    """

    plan: Path
    error: str = ""
    differences: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.error:
            return f"{self.plan.name}: damaged. {self.error}"
        fits = f"whole, but not for this machine: {'; '.join(self.differences)}" if self.differences else "fits this machine"
        return f"{self.plan.name}: {fits}"

    def to_json(self) -> dict[str, Any]:
        """As `sp-edge verify --json` writes it."""
        return {**asdict(self), "plan": str(self.plan), "differences": list(self.differences)}


def engine_states(bundle: Bundle, folder: Path | None = None) -> list[EngineState]:
    """Checks each plan of a bundle: sidecar, size and digest, and whether it fits. None is deserialised.

    Args:
        folder: of all engines; `sp_edge.engines.plans.default_folder()` by default.
    """
    device = cache(_device)
    states = []
    for path in plans_of(bundle, folder):
        try:
            plan = Plan.load(path)
            plan.read()
        except PlanError as error:
            states.append(EngineState(path, error=f"{error.what}" + (f" ({error.got})" if error.got else "")))
            continue
        states.append(EngineState(path, differences=plan.sidecar.differences(bundle, device(plan.sidecar.device.flavour))))
    return states


def refuse_damaged(states: Sequence[EngineState]) -> None:
    """Lets whole engines pass.

    Raises:
        PlanError: one is damaged.
    """
    damaged = [state.plan for state in states if state.error]
    if damaged:
        raise PlanError(
            f"{len(damaged)} of {len(states)} engines are damaged",
            expected="plans as they were built",
            got=", ".join(plan.name for plan in damaged),
            next_step=f"delete them in {damaged[0].parent}, and build them again",
        )


def _device(flavour: str) -> Device:
    try:
        version = str(load_tensorrt(flavour).__version__)
    except SpEdgeError:
        version = f"no {flavour}"
    return Device.here(flavour, version)
