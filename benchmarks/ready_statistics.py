"""Measures what features of a ready-made network are like on photographs, and writes the file that ships with sp-edge.

    python benchmarks/sets/clutter.py /tmp/clutter
    python benchmarks/ready_statistics.py grocery/train --clutter /tmp/clutter --model efficientnet_lite0 \
        --origin "Grocery Store Dataset (MIT)" --out export/sp_edge_export/ready/data/efficientnet_lite0.safetensors

Features are measured on FOLDER alone. The calibration of 'unknown' is fitted to FOLDER and to half of the clutter set's
classes, those on which the constants of names were chosen: pictures of one class are much more alike in a shop than in clutter,
and thresholds that knew shops alone refused two thirds of what was taught from five cluttered pictures.
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import click
import numpy as np
from ready import TAUGHT, pictures, reported

from sp_edge.data.folder import labelled
from sp_edge.data.pictures import PictureSet
from sp_edge.data.sets import preprocess_of
from sp_edge.text import extend_table
from sp_edge_export.background import BANKS, calibrate
from sp_edge_export.ready.make import ReadyOptions, prepare
from sp_edge_export.ready.statistics import USUAL

PATH = click.Path(path_type=Path)


def together(sets: list[PictureSet]) -> PictureSet:
    """Several sets as one, each a group; classes of the same name are one."""
    names = tuple(dict.fromkeys(name for one in sets for name in one.class_names))
    number = {name: label for label, name in enumerate(names)}
    labels = [np.array([number[name] for name in one.class_names])[one.labels] for one in sets]
    ends = np.cumsum([len(one) for one in sets])
    groups = {f"set {place}": np.arange(end - len(one), end) for place, (end, one) in enumerate(zip(ends, sets, strict=True))}
    return PictureSet(np.concatenate([one.images for one in sets]), np.concatenate(labels), names, groups)


@click.command()
@click.argument("folder", type=PATH)
@click.option("--clutter", type=PATH, required=True, help="What benchmarks/sets/clutter.py wrote.")
@click.option("--model", default="efficientnet_lite0", show_default=True)
@click.option("--weights", type=PATH, help="File with the weights of a model of timm's.")
@click.option("--origin", required=True, help="The photographs and their license, in words.")
@click.option("--set", "given", multiple=True, help="NAME=VALUE of ModelSettings, such as text_share=0.3.")
@click.option("--banks", default=BANKS, show_default=True, help="Simulated banks that the calibration is fitted to.")
@click.option("--out", type=PATH, required=True)
def main(
    folder: Path, clutter: Path, model: str, weights: Path | None, origin: str, given: tuple[str, ...], banks: int, out: Path
) -> None:
    """Print the calibration, and write the file. FOLDER holds one folder a class."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = USUAL | {name: float(value) for name, _, value in (setting.partition("=") for setting in given)}
    options = ReadyOptions(data=folder, weights=weights, settings=settings)
    prepared = prepare(model, options, shipped=False, banks=1)  # its calibration is not kept
    checkpoint, statistics = prepared.checkpoint, prepared.statistics
    classes = len(labelled(clutter / "alone").class_names)
    chosen = set(range(classes)) - reported(classes)
    preprocess = preprocess_of(checkpoint.settings)
    mixed = [pictures(clutter / kind, preprocess, TAUGHT, chosen.__contains__) for kind in ("alone", "clutter")]
    shown = together([prepared.pictures, *mixed])
    names = extend_table(checkpoint.prompts, shown.class_names)
    calibration = calibrate(checkpoint, shown, names, statistics.background, banks=banks)
    told = f"{len(prepared.pictures)} pictures of {len(prepared.pictures.class_names)} classes, {origin}"
    told += "; the calibration also on photographs of tuxpaint-stamps"
    statistics = dataclasses.replace(statistics, origin=told, calibration=calibration)
    out.parent.mkdir(parents=True, exist_ok=True)
    statistics.save(out, prepared.weights.sha256)
    click.echo(f"{out}: {out.stat().st_size / 1e6:.2f} MB")
    click.echo(statistics.calibration)


if __name__ == "__main__":
    main()
