"""Measures what features of a ready-made network are like on photographs, and writes the file that ships with sp-edge.

    python benchmarks/ready_statistics.py ../shared/photos/grocery/train --model efficientnet_lite0 \
        --origin "Grocery Store Dataset (MIT)" --out export/sp_edge_export/ready/data/efficientnet_lite0.safetensors
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import click

from sp_edge_export.background import BANKS
from sp_edge_export.ready.make import ReadyOptions, prepare
from sp_edge_export.ready.statistics import USUAL

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("folder", type=PATH)
@click.option("--model", default="efficientnet_lite0", show_default=True)
@click.option("--weights", type=PATH, help="File with the weights of a model of timm's.")
@click.option("--origin", required=True, help="The photographs and their license, in words.")
@click.option("--set", "given", multiple=True, help="NAME=VALUE of ModelSettings, such as text_share=0.3.")
@click.option("--banks", default=BANKS, show_default=True, help="Simulated banks that the calibration is fitted to.")
@click.option("--out", type=PATH, required=True)
def main(folder: Path, model: str, weights: Path | None, origin: str, given: tuple[str, ...], banks: int, out: Path) -> None:
    """Print the calibration, and write the file. FOLDER holds one folder a class."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = USUAL | {name: float(value) for name, _, value in (setting.partition("=") for setting in given)}
    options = ReadyOptions(data=folder, weights=weights, settings=settings)
    prepared = prepare(model, options, shipped=False, banks=banks)
    told = f"{len(prepared.pictures)} pictures of {len(prepared.pictures.class_names)} classes, {origin}"
    statistics = dataclasses.replace(prepared.statistics, origin=told)
    out.parent.mkdir(parents=True, exist_ok=True)
    statistics.save(out, prepared.weights.sha256)
    click.echo(f"{out}: {out.stat().st_size / 1e6:.2f} MB")
    click.echo(statistics.calibration)


if __name__ == "__main__":
    main()
