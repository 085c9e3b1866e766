"""The command that shows all of it: demo."""

from __future__ import annotations

from pathlib import Path

import click

from sp_edge.cli.common import Command
from sp_edge.cli.shared import PATH


@click.command(cls=Command)
@click.option(
    "--out", type=PATH, metavar="DIR", default=Path("demo"), show_default=True, help="Write everything into this folder."
)
@click.option("--quick", is_flag=True, help="Run in about a minute. The network learns little in it.")
def demo(out: Path, quick: bool) -> None:
    """Show everything, on photographs and from training on.

    It teaches a ready-made network five photographs and recognizes them in a video. Then it draws scenes, trains on them,
    exports, teaches five classes and recognizes another video. report.html shows the result.
    """
    from sp_edge.demo import run_demo

    run_demo(out, quick=quick)
    click.echo(f"summary: {out / 'summary.json'}")
    click.echo(f"report: {out / 'report.html'}")
