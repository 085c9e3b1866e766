"""Builds, measures and checks TensorRT engines for the commands: progress, and what is said of the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from sp_edge.errors import ExportError, MissingExtraError, PlanError

if TYPE_CHECKING:
    from pathlib import Path

    from sp_edge.bundle.bundle import Bundle
    from sp_edge.engines.plans import Plan
    from sp_edge_export.engines.engine import EngineOptions


def build_engines(
    bundle: Bundle, precision: str, options: EngineOptions, max_batch: int, folder: Path | None, *, force: bool
) -> None:
    """Builds all the engines that a device needs, measures them where they can run, and says where they are.

    Raises:
        ExportError: an engine computes something else than its graph, or int8 is the slower one here; without `force` its
            engines are removed.
    """
    plans = _build(bundle, precision, options, max_batch, folder)
    query = _measure(bundle, precision, plans, options.flavour, folder)
    if precision != "int8":
        return
    other = "fp16" if "fp16" in bundle.manifest.graphs else "fp32"
    if query is None:
        click.echo(f"int8 was not timed against {other}: it is the slower one on some GPUs")
        return
    click.echo(f"timing int8 against {other}")
    rivals = _build(bundle, other, options, max_batch, folder)
    rival = _measure(bundle, other, rivals, options.flavour, folder)
    if rival is not None:
        _compare(query, rival, other, plans, force=force)


def _build(bundle: Bundle, precision: str, options: EngineOptions, max_batch: int, folder: Path | None) -> list[Plan]:
    from sp_edge_export.engines.engine import build_engine, plans_for

    plans = []
    for graph, batch in plans_for(max_batch):
        with _progress(f"building {graph}, batch {batch}") as progress:
            plan, built = build_engine(
                bundle,
                graph,
                options,
                precision=precision,
                max_batch=batch,
                folder=folder,
                progress=progress,
            )
        click.echo(f"engine: {plan.path}" + ("" if built else " (was built before)"))
        plans.append(plan)
    return plans


def _measure(bundle: Bundle, precision: str, plans: Sequence[Plan], flavour: str, folder: Path | None) -> Plan | None:
    """Measures plans; gives the stream's own, or None where they do not run here."""
    from sp_edge_export.engines.measure import measure
    from sp_edge_runtime.backends.tensorrt_runtime import open_tensorrt

    try:
        backend = open_tensorrt(bundle, precision, flavour, folder)
    except (PlanError, MissingExtraError) as error:
        click.echo(f"not measured: {error.got if isinstance(error, PlanError) else f'{error.package} is not installed'}")
        return None
    with backend:
        measured = [measure(plan, bundle, backend) for plan in plans]
    for plan in measured:
        latency, parity = plan.sidecar.latency, plan.sidecar.parity
        if latency is not None and parity is not None:
            words = f"{latency.median_ms:.2f} ms for {latency.batch}, cosine {parity.cosine_min:.6f} or better to its graph"
            click.echo(f"{plan.sidecar.graph}.{precision}.n{plan.sidecar.max_batch}: {words}")
    return measured[0]


def _compare(int8: Plan, rival: Plan, name: str, plans: Sequence[Plan], *, force: bool) -> None:
    from sp_edge_export.engines.measure import is_slower, remove

    if not is_slower(int8, rival):
        return
    times = [plan.sidecar.latency.median_ms for plan in (int8, rival) if plan.sidecar.latency is not None]
    got = f"{times[0]:.2f} ms against {times[1]:.2f} ms"
    if force:
        click.echo(f"int8 is slower than {name} here, {got}; kept, since --force was given")
        return
    for plan in plans:
        remove(plan)
    raise ExportError(
        f"int8 is slower than {name} on this GPU",
        expected="less time a picture",
        got=got,
        next_step=f"--precision {name}, or --force",
    )


def check_engines(bundle: Bundle, folder: Path | None) -> list[dict[str, Any]]:
    """Says of each engine of a bundle whether it is whole and fits this machine.

    Raises:
        PlanError: one is damaged.
    """
    from sp_edge_export.engines.verify import engine_states

    states = engine_states(bundle, folder)
    for state in states:
        click.echo(f"engine {state}")
    damaged = [state for state in states if state.error]
    if damaged:
        raise PlanError(
            f"{len(damaged)} of {len(states)} engines are damaged",
            expected="plans as they were built",
            got=", ".join(state.plan.name for state in damaged),
            next_step=f"delete them in {damaged[0].plan.parent}, and build them again",
        )
    return [state.to_json() for state in states]


@contextmanager
def _progress(title: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar for TensorRT's outermost phase, which lasts seconds on a desktop and minutes on a Jetson."""
    from tqdm import tqdm

    outermost = ""
    with tqdm(desc=title, leave=False, disable=None) as bar:

        def progress(phase: str, done: int, total: int) -> None:
            nonlocal outermost
            outermost = outermost or phase
            if phase == outermost:
                bar.total, bar.n = total, done
                bar.refresh()

        yield progress
