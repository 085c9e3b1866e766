"""The command that makes a bundle of a model which has seen photographs: ready."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sp_edge.cli.arguments import refuse_idle
from sp_edge.cli.common import Command
from sp_edge.cli.default import MODEL
from sp_edge.cli.prompts import names_in
from sp_edge.cli.shared import PATH, json_option
from sp_edge.errors import MissingExtraError, SettingsError
from sp_edge.precisions import EXPORTED

if TYPE_CHECKING:
    from sp_edge.model.ready.registry import Known


@click.command(cls=Command)
@click.argument("model", required=False)
@click.option("--out", type=PATH, metavar="DIR", default="ready.spedge", show_default=True, help="Write the bundle here.")
@click.option(
    "--precision", type=click.Choice(EXPORTED), default="fp32", show_default=True, help="Choose the precision of the graphs."
)
@click.option("--names", "names_file", type=PATH, metavar="FILE", help="Add the names in this text file, one a line.")
@click.option(
    "--data",
    type=PATH,
    metavar="FOLDER",
    help="Try the model on these pictures, FOLDER/<class>/, instead of the photographs that come with sp-edge. "
    "Measures 'unknown' and fits names where the model has none.",
)
@click.option(
    "--weights",
    type=PATH,
    metavar="FILE",
    help="Take the weights from this .safetensors or .pth file (timm/NAME, open_clip/NAME/TAG).",
)
@click.option(
    "--checkpoint",
    type=PATH,
    metavar="FILE",
    help="Write no bundle, but this checkpoint: for sp-edge eval, sp-edge train --init, and easyfsl.",
)
@click.option("--list", "listed", is_flag=True, help="List the models that were tried, and make nothing.")
@json_option("what was made, or the list,")
def ready(
    model: str | None,
    out: Path,
    precision: str,
    names_file: Path | None,
    data: Path | None,
    weights: Path | None,
    checkpoint: Path | None,
    listed: bool,
    json_file: Path | None,
) -> None:
    """Make a bundle of a model that has seen photographs. It needs no training.

    MODEL is efficientnet_lite0, which works without internet; timm/NAME for any image model of timm; or
    open_clip/NAME/TAG for an image-and-text model of open_clip.  [default: efficientnet_lite0]

    A device without torch cannot make a bundle. Make it on another machine, and copy the folder.

    \b
    Examples:
      sp-edge ready
      sp-edge ready --precision int8 --data photos
      sp-edge ready timm/visformer_tiny.in1k --out visformer.spedge
      sp-edge ready --checkpoint ready.safetensors
    """
    from sp_edge.files import write_json

    try:
        from sp_edge.model.ready import KNOWN
        from sp_edge_export.ready import ReadyOptions, make_ready, prepare
    except ImportError as cause:
        error = MissingExtraError("a ready-made bundle cannot be made here", package=str(cause.name), extra="ready")
        error.next_step += "; or run sp-edge ready on another machine and copy ready.spedge here"
        raise SettingsError(error.what, expected=error.expected, got=error.got, next_step=error.next_step) from cause
    if listed:
        _list(KNOWN, json_file)
        return
    options = ReadyOptions(precision, tuple(names_in(names_file)), data, weights)
    if checkpoint is not None:
        refuse_idle(click.get_current_context(), ("out", "precision"), "--checkpoint", "a bundle")
        made = prepare(model or MODEL, options).checkpoint
        made.save(checkpoint)
        record, what = made.record, {"checkpoint": str(checkpoint)}
        click.echo(f"checkpoint: {checkpoint}")
    else:
        bundle = make_ready(model or MODEL, out, options)
        record, what = bundle.manifest.training["record"], {"bundle": str(bundle.path), "precision": bundle.manifest.precision}
        click.echo(f"bundle: {bundle.path}, {bundle.manifest.precision}")
    source = record["ready"]
    click.echo(f"weights: {source['source']}")
    click.echo(f"license of the weights: {source['license']}")
    works = "any name steers the teaching" if "text_prototype" in record else "names do not count: pictures decide alone"
    click.echo(f"names: {works}")
    if json_file:
        write_json(json_file, {**what, **source, "names": works})


def _list(known: tuple[Known, ...], json_file: Path | None) -> None:
    from sp_edge.columns import table
    from sp_edge.files import write_json

    header = ["model", "license", "pixels", "million parameters", "names", "weights"]
    rows = [[*dataclasses.asdict(entry).values()] for entry in known]
    click.echo(table(header, rows, text=["license", "names", "weights"]))
    click.echo("timm/NAME and open_clip/NAME/TAG take any other model, from the hub or with --weights FILE.")
    if json_file:
        write_json(json_file, {"models": [dataclasses.asdict(entry) for entry in known]})
