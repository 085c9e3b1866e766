"""The command that shows what int8 would cost on a folder of pictures."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sp_edge import runs
from sp_edge.cli.arguments import find_checkpoint, means_bundle
from sp_edge.cli.common import Command, refuse_unreadable
from sp_edge.cli.shared import PATH
from sp_edge.columns import table
from sp_edge.errors import BundleError

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from sp_edge.preprocess import Preprocess
    from sp_edge_calibration.report import Report

JSON, PLOT = "report.json", "report.svg"


@click.command(cls=Command)
@click.argument("source", type=PATH, required=False, metavar="[BUNDLE | CHECKPOINT]")
@click.option(
    "--data", type=PATH, metavar="DIR", required=True, help="Look at the pictures in this folder, in class folders or not."
)
@click.option("--report", "out", type=PATH, metavar="DIR", help=f"Write {JSON} and {PLOT} into this folder.")
def calibrate(source: Path | None, data: Path, out: Path | None) -> None:
    """Show what int8 would cost on your pictures.

    Prints each layer's range and sensitivity, and the accuracy of each class folder. Changes nothing: `sp-edge export
    --precision int8 --data DIR` calibrates and exports. Takes the newest bundle where none is named. Pictures that cannot be
    read are left out and named; the exit code is 2 then.

    \b
    Example:
      sp-edge calibrate --data photos --report calibration
    """
    from sp_edge.files import write_bytes, write_json
    from sp_edge_calibration.pictures import Pictures
    from sp_edge_calibration.plot import draw
    from sp_edge_calibration.report import measure

    if out is not None:
        out.mkdir(parents=True, exist_ok=True)  # now, and not after minutes of work
    chosen = source or runs.newest(runs.BUNDLE, BundleError)
    query, preprocess, known = _from_bundle(chosen) if means_bundle(chosen) else _from_checkpoint(chosen)
    pictures = Pictures.read(data, preprocess)
    report = measure(query, pictures, known, progress=True)
    _show(report)
    if out is not None:
        write_json(out / JSON, report.to_json())
        write_bytes(out / PLOT, draw(report).encode())
        click.echo(f"report: {out / JSON}, {out / PLOT}")
    refuse_unreadable(pictures.unreadable, "were left out", of=pictures.found)


def _from_bundle(path: Path) -> tuple[onnx.ModelProto, Preprocess, NDArray[np.uint8]]:
    from sp_edge.bundle.bundle import Bundle
    from sp_edge_calibration.graph import parse_graph

    bundle = Bundle.load(path)
    query = parse_graph(bundle.read_graph("query", "fp32"), bundle.graph("query", "fp32").name)
    return query, bundle.manifest.preprocess, bundle.golden().images


def _from_checkpoint(path: Path) -> tuple[onnx.ModelProto, Preprocess, NDArray[np.uint8]]:
    from sp_edge.data.sets import preprocess_of
    from sp_edge.training.checkpoint import Checkpoint
    from sp_edge_calibration.graph import load_graph
    from sp_edge_export.onnx import export_graphs
    from sp_edge_export.probe import probe_pictures

    checkpoint = Checkpoint.load(find_checkpoint(path))
    preprocess = preprocess_of(checkpoint.settings)
    known = probe_pictures(checkpoint).images[:256]
    with tempfile.TemporaryDirectory() as folder:
        files = export_graphs(checkpoint.network, preprocess.image_size, checkpoint.prompts.text.dim, Path(folder))
        return load_graph(files["query"]), preprocess, known


def _show(report: Report) -> None:
    rows = [
        [v.layer, f"{v.low:.3g}", f"{v.high:.3g}", f"{v.weight:.3g}", f"{v.headroom:.3g}", f"{v.cosine_lost:.2e}"]
        for v in report.layers
    ]
    click.echo(table(["layer", "least in", "most in", "weights", "float16 headroom", "1 - cosine"], rows))
    if report.classes:
        figures = [[v.name, v.pictures, f"{100 * v.fp32:.1f}", f"{100 * v.int8:.1f}"] for v in report.classes]
        click.echo("\n" + table(["class", "pictures", "fp32 %", "int8 %"], figures))
    click.echo(
        f"\nint8 with every layer quantized: cosine {report.cosine_mean:.6f} mean, {report.cosine_min:.6f} least, "
        f"on {report.calibration['chosen']} pictures; 1 - cosine of single layers on {report.sensitivity_pictures}"
    )
