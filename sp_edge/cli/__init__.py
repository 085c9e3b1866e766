"""The `sp-edge` command. Modules here import what they need when a command runs, so that `--help` answers at once."""

from __future__ import annotations

import io
import sys

import click

from sp_edge import __version__
from sp_edge.cli.ablate import ablate
from sp_edge.cli.bank import bank
from sp_edge.cli.bench import bench
from sp_edge.cli.calibrate import calibrate
from sp_edge.cli.classify import classify
from sp_edge.cli.common import Command, Ordered, run
from sp_edge.cli.data import data
from sp_edge.cli.demo import demo
from sp_edge.cli.doctor import doctor
from sp_edge.cli.enroll import enroll
from sp_edge.cli.importing import import_
from sp_edge.cli.prompts import prompts
from sp_edge.cli.ready import ready
from sp_edge.cli.serve import serve
from sp_edge.cli.ship import export, verify
from sp_edge.cli.stream import stream
from sp_edge.cli.train import evaluate, train


@click.group(cls=Ordered, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="sp-edge")
def cli() -> None:
    """Teach a camera new classes, each with a name and one to five pictures.

    Begin with a model that has seen photographs. It is made once, and needs no training:

    \b
      sp-edge enroll --name mug a.jpg b.jpg  teaches a class
      sp-edge stream 0                       recognizes what a camera shows
      sp-edge serve 0                        shows it on a page, and teaches there
      sp-edge ready                          makes its bundle, to copy to a device

    Or train your own, in this order. Each command takes the newest run in runs/ unless you name another:

    \b
      sp-edge train --data pictures          trains a checkpoint on your pictures
      sp-edge export                         makes a bundle for devices
      sp-edge enroll --name mug a.jpg b.jpg  teaches a class
      sp-edge bank test pictures/test        measures what was taught
      sp-edge classify photos                recognizes pictures
      sp-edge stream 0                       recognizes what a camera shows

    `sp-edge COMMAND --help` lists a command's options.
    """


for command in (
    demo,
    ready,
    data,
    train,
    import_,
    evaluate,
    ablate,
    prompts,
    export,
    calibrate,
    verify,
    enroll,
    bank,
    classify,
    stream,
    serve,
    bench,
    doctor,
):
    cli.add_command(command)


def main() -> None:
    """Entry point."""
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="backslashreplace")  # a file's name need not be text
    sys.exit(run(cli, sys.argv[1:]))


__all__ = ["Command", "cli", "main"]
