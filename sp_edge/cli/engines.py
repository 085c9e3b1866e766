"""Builds and checks TensorRT engines for the commands: progress, and what is said of the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from sp_edge.errors import PlanError

if TYPE_CHECKING:
    from pathlib import Path

    from sp_edge.bundle import Bundle
    from sp_edge_export.engine import EngineOptions


def build_engines(bundle: Bundle, precision: str, options: EngineOptions, max_batch: int, folder: Path | None) -> None:
    """Builds all the engines that a device needs, and says where they are."""
    from sp_edge_export.engine import build_engine, plans_for

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
                say=lambda words: click.echo(words, err=True),
            )
        click.echo(f"engine: {plan.path}" + ("" if built else " (was built before)"))
    if precision == "int8":
        click.echo("int8 was not timed against fp16 here; int8 is the slower one on some GPUs")


def check_engines(bundle: Bundle, folder: Path | None) -> list[dict[str, Any]]:
    """Says of each engine of a bundle whether it is whole and fits this machine.

    Raises:
        PlanError: one is damaged.
    """
    from sp_edge_export.engine_verify import engine_states

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
