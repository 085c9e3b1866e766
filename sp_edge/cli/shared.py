"""The options that several commands take."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import wraps
from pathlib import Path
from typing import Any

import click

from sp_edge.cli.common import EXPLAIN
from sp_edge.precisions import PRECISIONS
from sp_edge.view import Region
from sp_edge_runtime.backends.choices import DEVICES

PATH = click.Path(path_type=Path)


def together(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """One decorator for several options, which help lists in this order."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def packed(parameter: str, *options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """One decorator for several options whose values the command gets as one dict, under their own names.

    Args:
        parameter: of the command that takes the dict.
        options: as `together` takes them.
    """
    every = together(*options)
    names = [option.name for option in every(lambda: None).__click_params__ if option.expose_value]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def call(*args: Any, **given: Any) -> Any:
            given[parameter] = {name: given.pop(name) for name in names}
            return command(*args, **given)

        return every(call)

    return decorate


def json_option(what: str) -> Callable[[Any], Any]:
    """The option with which a command that prints a table writes it as JSON, too.

    With '-' the JSON alone goes to standard output, in UTF-8 whatever the locale, and what else is printed to standard error.
    """
    return click.option(
        "--json",
        "json_file",
        type=PATH,
        metavar="FILE",
        callback=_json_file,
        help=f"Write {what} to a JSON file, too; '-' is standard output.",
    )


def _json_file(context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path | None:
    if value != Path("-"):
        return value
    context.with_resource(redirect_stdout(sys.stderr))
    return Path("/dev/stdout")


def _explain(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    context.meta[EXPLAIN] = value


def region(_context: click.Context, _parameter: click.Parameter, value: Any) -> Any:
    """What `--crop` names: a region, or a tuple of them where it may be given again."""
    if isinstance(value, tuple):
        return tuple(map(Region.parse, value))
    return None if value is None else Region.parse(value)


crop_option = click.option(
    "--crop",
    "region",
    metavar="X,Y,W,H",
    callback=region,
    help="Look at this part of each picture, as shares of 0 to 1 or in pixels.  [default: the whole picture]",
)
engines_option = click.option(
    "--engines",
    type=PATH,
    metavar="DIR",
    help="Find and keep TensorRT engines in this folder.  [default: ~/.cache/sp-edge/engines]",
)
# What every command that runs a bundle's graphs lets its user choose; `sp_edge_runtime.backends.devices` says what each is.
backend_options = together(
    click.option(
        "--device",
        default="auto",
        show_default=True,
        type=click.Choice(list(DEVICES)),
        help=f"Choose what runs the network. auto takes {DEVICES['auto']}; 0 is {DEVICES['0']}.",
    ),
    click.option(
        "--precision",
        type=click.Choice(list(PRECISIONS)),
        help="Choose the graphs' precision. bf16 needs OpenVINO.  [default: the bundle's; on a CPU fp32, or what auto takes]",
    ),
    click.option(
        "--explain",
        is_flag=True,
        expose_value=False,
        callback=_explain,
        help="Print what --device auto measured on this CPU: each engine and precision, its time, and what was left out.",
    ),
    engines_option,
)
# How the commands that recognize decide.
deciding_options = together(
    click.option(
        "--threshold",
        type=click.FloatRange(-1, 1),
        help="Call a picture unknown below this cosine, -1 to 1.  [default: each class's own]",
    ),
    click.option(
        "--classifier",
        type=click.Choice(["prototype", "lr"]),
        default="prototype",
        show_default=True,
        help="Decide by the nearest prototype, or by logistic regression (lr) on the shots.",
    ),
)
build_engine_option = click.option(
    "--build-engine",
    is_flag=True,
    help="Build a missing TensorRT engine beside the stream, and go over to it. This takes minutes of the GPU.",
)
bank_option = click.option(
    "--bank",
    "bank_file",
    type=PATH,
    metavar="FILE",
    help="Use this file of taught classes.  [default: classes.spbank beside the bundle]",
)
prompts_option = click.option(
    "--prompts",
    "extra",
    type=PATH,
    metavar="FILE",
    multiple=True,
    help="Take further names from this file, which `sp-edge prompts --out` wrote.",
)
