"""The command that shows all of it: demo."""

from __future__ import annotations

from pathlib import Path

import click

from sp_edge.cli.common import PATH, Command


@click.command(cls=Command)
@click.option("--out", type=PATH, metavar="DIR", default=Path("demo"), show_default=True, help="Folder of all that it makes.")
@click.option("--quick", is_flag=True, help="The same in about a minute, too short to learn much.")
def demo(out: Path, quick: bool) -> None:
    """Show all of it: train, export, teach, recognise, report.

    Draws scenes, trains on them, exports, teaches five classes and recognises a video; report.html shows the result.
    """
    from sp_edge.demo import run_demo

    run_demo(out, quick=quick, say=click.echo)
