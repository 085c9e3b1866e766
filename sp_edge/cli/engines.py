"""Shows how TensorRT engines are built, and what state those are in that were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pathlib import Path

    from sp_edge.bundle.bundle import Bundle


def check_engines(bundle: Bundle, folder: Path | None) -> list[dict[str, Any]]:
    """Says of each engine of a bundle whether it is whole and fits this machine.

    Raises:
        PlanError: one is damaged.
    """
    from sp_edge_export.engines.verify import engine_states, refuse_damaged

    states = engine_states(bundle, folder)
    for state in states:
        click.echo(f"engine {state}")
    refuse_damaged(states)
    return [state.to_json() for state in states]


@contextmanager
def building_bar(title: str) -> Iterator[Callable[[str, int, int], None]]:
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
