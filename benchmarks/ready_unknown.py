"""Are the thresholds right that a ready-made network ships with? On photographs that they were not set on.

    python benchmarks/sets/clutter.py /tmp/clutter && python benchmarks/sets/gcompris.py /tmp/gcompris
    python benchmarks/ready_unknown.py --grocery grocery --clutter /tmp/clutter --other /tmp/gcompris

Two tables. The first simulates banks of 5 classes and asks each as many pictures of them as of classes that it does not know,
at the threshold that `enroll` would give it; the calibration is the shipped one, which was fitted to grocery/train. The second
says how often a picture's evidence for a name (`matching.evidence`) is below a limit: for the name of what it shows, and for
the name of another class. Of the clutter set, the half of the classes is shown on which nothing was chosen.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import torch
from ready import BATCH, LITE, Array, Rows, pictures, reported
from unknown import World, ask, summary

from sp_edge.columns import table
from sp_edge.data.folder import labelled
from sp_edge.data.pictures import PictureSet
from sp_edge.data.sets import preprocess_of
from sp_edge.files import write_json
from sp_edge.matching.evidence import LEAST, evidence
from sp_edge.text import extend_table
from sp_edge.training.evaluate import class_prompts, encode
from sp_edge_export.ready.make import ReadyOptions, prepare

LIMITS = (0.0, 0.25, LEAST, 0.75, 1.0)


@torch.no_grad()
def evidences(network: torch.nn.Module, shown: PictureSet, prompts: Array) -> tuple[Array, Array]:
    """Of each picture, for its own class's name and for another's: float32 (n,) twice."""
    found: list[list[Array]] = []
    for start in range(0, len(shown), BATCH):
        rows = slice(start, start + BATCH)
        tokens = network.begin(network.normalise(torch.from_numpy(shown.images[rows])))
        labels = shown.labels[rows]
        scores = [network.scores(tokens, torch.from_numpy(text[labels])) for text in (prompts, np.roll(prompts, 7, axis=0))]
        found.append([evidence(one.numpy()) for one in scores])
    own, other = (np.concatenate(part) for part in zip(*found, strict=True))
    return own, other


def members(labels: Rows) -> list[Rows]:
    """The pictures of each class that is shown."""
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]


@click.command()
@click.option("--grocery", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--clutter", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--other", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--model", default=LITE[0], show_default=True, help="As `sp-edge ready` takes it.")
@click.option("--banks", default=300, show_default=True, type=click.IntRange(2), help="Simulated for each row.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures to a file, too.")
def main(grocery: Path, clutter: Path, other: Path, model: str, banks: int, json_file: Path | None) -> None:
    """Print both tables."""
    prepared = prepare(model, ReadyOptions())
    network, statistics = prepared.checkpoint.network, prepared.statistics
    preprocess = preprocess_of(prepared.checkpoint.settings)
    half = reported(len(labelled(clutter / "alone").class_names)).__contains__
    sets = {
        "clutter": pictures(clutter / "clutter", preprocess, 12, half),
        "alone": pictures(clutter / "alone", preprocess, 12, half),
        "grocery/val": pictures(grocery / "val", preprocess, 12),
        "other": pictures(other, preprocess, 12),
    }
    found, names = {}, {}
    for title, shown in sets.items():
        text = extend_table(prepared.checkpoint.prompts, shown.class_names)
        features = encode(network, shown.images, class_prompts(network, shown, text))
        world = World(features, members(shown.labels), network.strength)
        for shots in (1, 5):
            if min(len(own) for own in world.members) <= shots:
                continue
            rng = np.random.default_rng(0)
            bank = (statistics.background, statistics.calibration)
            found[f"{title}, {shots}-shot"] = summary([ask(world, 5, shots, 0.1, bank, rng) for _ in range(banks)])
        names[title] = evidences(network, shown, text.select(shown.class_names))
        click.echo(f"{title}: {len(shown)} pictures", err=True)
    rows = [
        [
            row,
            *(
                f"{100 * value:.1f}"
                for value in (f["accepted"]["known"], f["accepted"]["unknown"], f["accuracy"]["ours"], f["ece"])
            ),
        ]
        for row, f in found.items()
    ]
    click.echo(table(["%", "taught, accepted", "strangers, accepted", "accuracy", "error of the confidence"], rows))
    shares = {title: [[float((values < limit).mean()) for limit in LIMITS] for values in both] for title, both in names.items()}
    rows = [
        [title, *(f"{100 * own:.1f} / {100 * wrong:.1f}" for own, wrong in zip(*both, strict=True))]
        for title, both in shares.items()
    ]
    click.echo("\nPictures whose evidence is below a limit, for their own name / for another's, in %\n")
    click.echo(table(["", *(f"below {limit:g}" for limit in LIMITS)], rows))
    if json_file:
        write_json(json_file, {"rows": found, "evidence": shares, "limits": list(LIMITS), "banks": banks})


if __name__ == "__main__":
    main()
