"""The command that shows all of it: demo."""

from __future__ import annotations

from pathlib import Path

import click

from sp_edge.cli.common import PATH, Command


@click.command(cls=Command)
@click.option("--out", type=PATH, default=Path("demo"), show_default=True, help="Folder for everything that it makes.")
@click.option("--quick", is_flag=True, help="The same in about a minute, too short to learn much.")
def demo(out: Path, quick: bool) -> None:
    """Draw scenes, train on them, export, teach five classes, recognise a video, and report."""
    from sp_edge.demo import run_demo

    run_demo(out, quick=quick, say=click.echo)
