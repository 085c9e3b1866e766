"""Decides which engines a device gets: all that it needs, measured, and int8 only where it is the faster one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.manifest import GRAPHS
from sp_edge.engines.device import Device
from sp_edge.engines.plans import Plan, find_plan
from sp_edge.engines.sidecar import FLAVOURS
from sp_edge.errors import ExportError, MissingExtraError, PlanError
from sp_edge.precisions import PRECISIONS
from sp_edge_export.engines.engine import EngineOptions, Progress, build_engine, load_tensorrt, plans_for
from sp_edge_export.engines.measure import is_slower, measure, remove
from sp_edge_runtime.backends.tensorrt_runtime import open_tensorrt

_log = logging.getLogger(__name__)
Bar = Callable[[str], AbstractContextManager[Progress]]  # of one engine's title, such as 'building query, batch 1'


@dataclass(frozen=True)
class BuiltEngine:
    """One of a device's engines.

    Attributes:
        plan: the engine; its sidecar holds latency and parity where it was measured.
        new: whether it was built now; False where the same one stood there.
    """

    plan: Plan
    new: bool

    def __str__(self) -> str:
        words = f"{self.plan.path}" + ("" if self.new else " (was built before)")
        latency, parity = self.plan.sidecar.latency, self.plan.sidecar.parity
        if latency is not None and parity is not None:
            words += f": {latency.median_ms:.2f} ms for {latency.batch}, cosine {parity.cosine_min:.6f} or better to its graph"
        return words


def build_engines(
    bundle: Bundle,
    options: EngineOptions,
    *,
    precision: str | None = None,
    max_batch: int = 8,
    folder: Path | None = None,
    force: bool = False,
    bar: Bar = lambda _title: nullcontext(lambda *_: None),
) -> list[BuiltEngine]:
    """Builds all the engines that a device needs, and measures them where they can run.

    int8 is timed against fp16, or fp32 where the bundle has no fp16: on some GPUs it is the slower one. What happens is
    logged.

    Args:
        precision: of the graphs; the bundle's own by default.
        max_batch: pictures in one run, at most.
        folder: of all engines; the user's cache by default.
        force: keep int8 also where it is slower.
        bar: shows how the building of one engine goes.

    Raises:
        MissingExtraError, BundleError: see `build_engine`.
        ExportError: an engine cannot be built, or computes something else than its graph; or int8 is the slower one here,
            whose engines are then removed.
    """
    precision = precision or bundle.manifest.precision
    built, measured = _built(bundle, options, precision, max_batch, folder, bar)
    beside = PRECISIONS[precision].beside
    if not beside:
        return built
    other = beside if beside in bundle.manifest.graphs else "fp32"
    if not measured:
        _log.warning(f"{precision} was not timed against {other}: it is the slower one on some GPUs")
        return built
    _log.info(f"timing {precision} against {other}")
    rivals, measured = _built(bundle, options, other, max_batch, folder, bar)
    if measured:
        _compare([each.plan for each in built], rivals[0].plan, other, force=force)
    return built


def installed_flavour() -> str:
    """The first of TensorRT and TensorRT-RTX that is installed; TensorRT where neither is."""
    return next((name for name in FLAVOURS if find_spec(name) is not None), FLAVOURS[0])


def plans_here(bundle: Bundle, precision: str, max_batch: int, folder: Path | None = None) -> dict[str, Path]:
    """'query' and 'support' -> this device's plan, whose bytes were checked, for a server of this device.

    Raises:
        MissingExtraError, ExportError: TensorRT is not installed, or does not load.
        PlanError: none fits, or one is damaged.
    """
    device = Device.here("tensorrt", load_tensorrt("tensorrt").__version__)
    found = {graph: find_plan(bundle, graph, precision, max_batch, device, folder=folder) for graph in GRAPHS}
    for plan in found.values():
        plan.read()
    return {graph: plan.path for graph, plan in found.items()}


def _built(
    bundle: Bundle, options: EngineOptions, precision: str, max_batch: int, folder: Path | None, bar: Bar
) -> tuple[list[BuiltEngine], bool]:
    """The engines in one precision, the stream's own first, and whether they were measured."""
    built = []
    for graph, batch in plans_for(max_batch):
        with bar(f"building {graph}, batch {batch}") as progress:
            plan, new = build_engine(
                bundle, graph, options, precision=precision, max_batch=batch, folder=folder, progress=progress
            )
        _log.info(f"{plan.path.name}: {'built' if new else 'was built before'}")
        built.append(BuiltEngine(plan, new))
    try:
        backend = open_tensorrt(bundle, precision, options.flavour, folder)
    except (PlanError, MissingExtraError) as error:
        _log.warning(f"not measured: {error.got if isinstance(error, PlanError) else f'{error.package} is not installed'}")
        return built, False
    with backend:
        return [BuiltEngine(measure(each.plan, bundle, backend), each.new) for each in built], True


def _compare(int8: Sequence[Plan], rival: Plan, name: str, *, force: bool) -> None:
    """Removes int8's engines where the first, which the stream uses, is slower than its rival."""
    if not is_slower(int8[0], rival):
        return
    times = [plan.sidecar.latency.median_ms for plan in (int8[0], rival) if plan.sidecar.latency is not None]
    got = f"{times[0]:.2f} ms against {times[1]:.2f} ms"
    if force:
        _log.warning(f"int8 is slower than {name} here, {got}; kept, as asked for")
        return
    for plan in int8:
        remove(plan)
    raise ExportError(
        f"int8 is slower than {name} on this GPU",
        expected="less time a picture",
        got=got,
        next_step=f"--precision {name}, or --force",
    )
