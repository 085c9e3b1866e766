"""Commands that turn a checkpoint into something a device can run: export, verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sp_edge import runs
from sp_edge.cli.arguments import find_checkpoint, means_bundle, refuse_idle, split_bundle
from sp_edge.cli.common import Command
from sp_edge.cli.engines import check_engines
from sp_edge.cli.formats import APPLIES, FORMATS, options_for_formats
from sp_edge.cli.shared import PATH, engines_option, json_option
from sp_edge.errors import BundleError, MissingExtraError, SettingsError
from sp_edge.precisions import EXPORTED, PRECISIONS

if TYPE_CHECKING:
    from sp_edge.bundle.bundle import Bundle


@click.command(cls=Command)
@click.argument("source", type=PATH, required=False, metavar="[CHECKPOINT | BUNDLE]")
@click.option(
    "--precision",
    type=click.Choice(EXPORTED),
    help="Choose the precision of the graphs.  [default: fp32; of a bundle, its own]",
)
@click.option("--out", type=PATH, metavar="DIR", help="Write the bundle here.  [default: model.spedge beside the checkpoint]")
@click.option(
    "--data", type=PATH, metavar="DIR", help="Calibrate on the pictures in this folder. int8 needs it, fp16 can use it."
)
@click.option(
    "--prompts",
    "extra",
    type=PATH,
    metavar="FILE",
    multiple=True,
    help="Add class names from this file, which `sp-edge prompts --out` wrote.",
)
@click.option(
    "--with-text",
    type=click.Choice(["auto", "none", "fp32", "int8"]),
    default="auto",
    show_default=True,
    help="Put the text encoder into the bundle, so that any class can be named on the device. auto: int8, if it is here.",
)
@click.option(
    "--max-drop", default=0.01, show_default=True, help="Refuse a precision that loses more accuracy than this, 0 to 1."
)
@click.option(
    "--opset",
    type=click.Choice(["20", "19"]),
    default="20",
    show_default=True,
    help="Choose the opset of ONNX. 19 is for a parser without Gelu.",
)
@options_for_formats
@click.pass_context
def export(context: click.Context, /, source: Path | None, precision: str | None, form: str, **options: Any) -> None:
    """Export a bundle, engines, or a folder for Triton or DeepStream.

    A checkpoint becomes a verified bundle, and a bundle what a device or a server takes. CHECKPOINT is a file or a run's
    folder.  [default: the newest run's]

    \b
    Examples:
      sp-edge export
      sp-edge export --precision int8 --data photos
      sp-edge export model.spedge --format engine --precision fp16
      sp-edge export model.spedge --format triton --bank shop.spbank
    """
    idle = [name for name, forms in APPLIES.items() if form not in forms]
    refuse_idle(context, idle, f"--format {form}", "another --format")
    given = source if source is not None and means_bundle(source) else None
    where = given or options["out"] or find_checkpoint(source).parent / runs.BUNDLE
    make = FORMATS[form](options, where)  # now, and not after minutes of work
    bundle = None if given is None else _given_bundle(context, given, form)
    precision = precision or ("fp32" if bundle is None else bundle.manifest.precision)
    facts = PRECISIONS[precision]
    idle = [*(["data"] if facts.pictures == "never" else []), *([] if facts.beside else ["force"])]
    refuse_idle(context, idle, f"--precision {precision}", "another --precision")
    if bundle is None:
        bundle = _export_checkpoint(source, precision, **{name: options[name] for name in _OF_CHECKPOINTS} | {"out": where})
    make(bundle, precision)


_OF_CHECKPOINTS = ("out", "data", "extra", "with_text", "max_drop", "opset")


def _given_bundle(context: click.Context, path: Path, form: str) -> Bundle:
    from sp_edge.bundle.bundle import Bundle

    if form == "onnx":
        raise SettingsError(f"{path} is a bundle already", expected="a checkpoint, or another --format", got="--format onnx")
    refuse_idle(context, _OF_CHECKPOINTS, "a bundle, whose graphs are made already", "a checkpoint")
    return Bundle.load(path)


def _export_checkpoint(
    given: Path | None,
    precision: str,
    *,
    out: Path,
    data: Path | None,
    extra: tuple[Path, ...],
    with_text: str,
    max_drop: float,
    opset: str,
) -> Bundle:
    from sp_edge.data.sets import preprocess_of
    from sp_edge.prompts.table import PromptTable
    from sp_edge.training.checkpoint import Checkpoint
    from sp_edge_calibration.pictures import Pictures
    from sp_edge_export.export import ExportOptions
    from sp_edge_export.export import export as run_export

    checkpoint = Checkpoint.load(find_checkpoint(given))
    further = None
    for path in extra:
        read = PromptTable.load(path)
        further = read if further is None else further.with_table(read)
    pictures = Pictures.read(data, preprocess_of(checkpoint.settings)) if data else None
    options = ExportOptions(precision, max_drop, further, pictures, int(opset), text=with_text)
    bundle = run_export(checkpoint, out, options)
    click.echo(f"bundle: {bundle.path}")
    return bundle


@click.command(cls=Command)
@click.argument("bundle", type=PATH, nargs=-1, metavar="[BUNDLE]")
@engines_option
@json_option("the figures")
def verify(bundle: tuple[Path, ...], engines: Path | None, json_file: Path | None) -> None:
    """Check a bundle on this machine.

    Checks every file's hash, the graphs, the golden pictures and names, and the engines that were built for it. Use it
    after copying a bundle.
    """
    from sp_edge.bundle.bundle import Bundle
    from sp_edge.files import write_json

    try:
        from sp_edge_export.verify import check_golden
    except ImportError as cause:
        raise MissingExtraError("cannot check the graphs", package=str(cause.name), extra="export") from cause
    path, rest = split_bundle(bundle)
    if rest:
        raise BundleError("not a bundle", expected="[BUNDLE]", got=", ".join(map(str, rest)))
    loaded = Bundle.load(path)
    click.echo(f"{path}: {len(loaded.manifest.files)} files, all as the manifest says")
    found = check_golden(loaded)
    for precision, least in found.items():
        click.echo(f"{precision}: golden pictures agree, cosine {least:.6f} or better")
    names = _check_names(loaded)
    built = check_engines(loaded, engines)
    if json_file:
        figures = {"bundle": str(path), "fingerprint": loaded.fingerprint, "golden": found, "text": names, "engines": built}
        write_json(json_file, figures)


def _check_names(bundle: Bundle) -> float | None:
    """Least cosine of the golden names' prompts, where the bundle carries its text encoder."""
    from sp_edge_runtime.text import TextEncoder

    encoder = TextEncoder.of(bundle)
    if encoder is None:
        return None
    least = encoder.check()
    click.echo(f"text encoder {encoder.description}: golden names agree, cosine {least:.6f} or better")
    return least
