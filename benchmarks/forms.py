"""What does int8 in the form for CPUs cost on photographs, and may a bank that fp32 taught be asked in int8?

    sp-edge ready --precision int8 --out ready.spedge
    python benchmarks/forms.py ready.spedge --grocery grocery

Shots are of grocery/train, questions of grocery/val. Classes are told apart by cosines to the mean of the shots, of the query
graph's features in ONNX Runtime. All rows share their episodes; behind a figure stands the difference to fp32 with its 95 %
interval, and in the last column that to int8 alone.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import click
import numpy as np
from ready import ASKED, BASE, TAUGHT, pictures, scores
from ready_bundles import pool

from sp_edge.accuracy import Difference
from sp_edge.bundle.bundle import Bundle
from sp_edge.columns import table
from sp_edge.matching.decide import row_cosines

GPUS, CPUS = "int8 for GPUs", "int8 for CPUs"
FORMS = {"fp32": "fp32", GPUS: "int8", CPUS: "int8"}


@click.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.option("--grocery", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--episodes", "count", default=1000, show_default=True, type=click.IntRange(2), help="Of each row.")
def main(path: Path, grocery: Path, count: int) -> None:
    """Print how close the forms' features are, and the accuracy of each pair of forms."""
    bundle = Bundle.load(path)
    taught = pictures(grocery / "train", bundle.manifest.preprocess, TAUGHT)
    asked = pictures(grocery / "val", bundle.manifest.preprocess, ASKED)
    numbers = np.array([taught.class_names.index(name) for name in asked.class_names])  # val lacks some of train's classes
    asked = replace(asked, labels=numbers[asked.labels], class_names=taught.class_names)
    shots_of = {
        form: pool(bundle, precision, taught, for_cpu=form == CPUS) for form, precision in FORMS.items() if form != GPUS
    }
    questions = {form: pool(bundle, precision, asked, for_cpu=form == CPUS) for form, precision in FORMS.items()}
    cosines = {form: row_cosines(each.query, questions["fp32"].query) for form, each in questions.items()}
    rows = [(form, f"{each.mean():.4f}", f"{each.min():.4f}") for form, each in cosines.items()]
    click.echo(table([f"{len(asked.images)} photographs", "cosine, mean", "least"], rows))
    for shots in (1, 5):
        found = {
            pair: scores([(shots_of[pair[0]], questions[pair[1]])], 5, shots, count, ", ".join(pair))[BASE]
            for pair in product(shots_of, repeat=2)
        }
        alone, full = found[CPUS, CPUS], found["fp32", "fp32"]
        rows = [
            (*pair, f"{100 * own.mean():.1f}", str(Difference.between(own, full)), str(Difference.between(own, alone)))
            for pair, own in found.items()
        ]
        click.echo("\n" + table([f"taught, {shots}-shot", "asked", "%", "to fp32", "to int8 for CPUs"], rows, text=["asked"]))


if __name__ == "__main__":
    main()
