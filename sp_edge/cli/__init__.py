"""The `sp-edge` command. Modules here import what they need when a command runs, so that `--help` answers at once."""

from __future__ import annotations

import importlib
import io
import sys

import click

from sp_edge import __version__
from sp_edge.cli.common import Command, run

# Each command, in the order of work, and where it is.
_PLACES = {
    "demo": "demo:demo",
    "ready": "ready:ready",
    "data": "data:data",
    "train": "train:train",
    "import": "importing:import_",
    "eval": "train:evaluate",
    "ablate": "ablate:ablate",
    "prompts": "prompts:prompts",
    "export": "ship:export",
    "calibrate": "calibrate:calibrate",
    "verify": "ship:verify",
    "enroll": "enroll:enroll",
    "bank": "bank:bank",
    "classify": "classify:classify",
    "stream": "stream:stream",
    "serve": "serve:serve",
    "bench": "bench:bench",
    "doctor": "doctor:doctor",
}


class _Commands(click.Group):
    """Imports a command when it is asked for: a run needs one of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_PLACES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _PLACES:
            return None
        module, _, name = _PLACES[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(f"{__name__}.{module}"), name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
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


def main() -> None:
    """Entry point."""
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="backslashreplace")  # a file's name need not be text
    sys.exit(run(cli, sys.argv[1:]))


__all__ = ["Command", "cli", "main"]
