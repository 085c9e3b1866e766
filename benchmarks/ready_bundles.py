"""What do bundles recognize on photographs: a ready-made one in fp32 and int8, and one that was trained?

    sp-edge ready --precision int8 --out ready.spedge && sp-edge demo
    python benchmarks/ready_bundles.py ready.spedge:fp32 ready.spedge:int8 demo/runs/1/model.spedge:fp32 \
        --grocery ../shared/photos/grocery --clutter /tmp/clutter --other /tmp/gcompris

The graphs of each bundle run in ONNX Runtime. `cosine` is the query graph's feature and cosines to the mean of the shots;
`names` is the bundle as the runtime uses it, with its metric and names. The ready-made bundle's metric was measured on grocery,
so there only `cosine` is reported. Sets, episodes and classes are those of `benchmarks/ready.py`. Behind a figure stands the
difference to the first bundle's with its 95 % interval.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from ready import BASE, NAMES, TAUGHT, Array, Pool, reported, scores

from sp_edge.accuracy import Accuracy, Difference
from sp_edge.bundle.bundle import Bundle
from sp_edge.columns import table
from sp_edge.data.folder import labelled
from sp_edge.files import write_json
from sp_edge.prompts.table import PromptTable
from sp_edge_export.verify import graph_features
from sp_edge_runtime.text import TextEncoder


def pool(bundle: Bundle, precision: str, folder: Path, per_class: int, classes: set[str] | None = None) -> Pool:
    """Some pictures of each class, through the graphs of a bundle."""
    listing = labelled(folder)
    rng = np.random.default_rng(1)
    drawn = [rng.permutation(np.flatnonzero(listing.labels == c))[:per_class] for c in range(len(listing.class_names))]
    kept = [own for name, own in zip(listing.class_names, drawn, strict=True) if classes is None or name in classes]
    rows = np.concatenate(kept)
    labels = listing.labels[rows]
    images = np.stack([bundle.manifest.preprocess(listing.read(int(row))) for row in rows])
    encoder = TextEncoder.of(bundle)
    assert encoder is not None, "a bundle that carries its text encoder"  # noqa: S101
    made: PromptTable = encoder.table(list(listing.class_names), None)
    encoder.close()
    vectors = made.select(listing.class_names)
    graphs = {graph: bundle.read_graph(graph, precision) for graph in ("query", "support")}
    found = graph_features(graphs, images, vectors[labels])
    strength, familiarity = bundle.manifest.strength, bundle.familiarity()
    strengths = strength * (np.ones(len(vectors)) if familiarity is None else familiarity(vectors))
    full = found.support + (1 - strength) / strength * (found.support - found.query) if strength else found.support
    return Pool(found.query, full, full, labels, np.zeros_like(found.query[: len(vectors)]), strengths, bundle.background())


@click.command()
@click.argument("bundles", nargs=-1, required=True, metavar="BUNDLE:PRECISION...")
@click.option("--grocery", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--clutter", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--other", type=click.Path(path_type=Path, exists=True), required=True)
@click.option(
    "--pictures", default=TAUGHT, show_default=True, type=click.IntRange(6), help="Encode this many pictures of each class."
)
@click.option("--episodes", "count", default=600, show_default=True, type=click.IntRange(4), help="Of each column.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the table to a file, too.")
def main(
    bundles: tuple[str, ...],
    grocery: Path,
    clutter: Path,
    other: Path,
    pictures: int,
    count: int,
    json_file: Path | None,
) -> None:
    """Print the comparison."""
    names = labelled(clutter / "alone").class_names
    kept = {names[label] for label in reported(len(names))}
    columns: dict[str, dict[str, Array]] = {}
    for given in bundles:
        path, _, precision = given.rpartition(":")
        bundle = Bundle.load(Path(path))
        alone, mixed = (pool(bundle, precision, clutter / kind, pictures, kept) for kind in ("alone", "clutter"))
        others, shop = pool(bundle, precision, other, 20), pool(bundle, precision, grocery / "train", pictures)
        for title, pair, shots, row in (
            ("clutter, query alone, 1-shot, cosine", (mixed, alone), 1, BASE),
            ("clutter, query alone, 1-shot, names", (mixed, alone), 1, NAMES),
            ("alone, 5-shot, names", (alone, alone), 5, NAMES),
            ("other, 1-shot, names", (others, others), 1, NAMES),
            ("grocery, 1-shot, cosine", (shop, shop), 1, BASE),
            ("grocery, 5-shot, cosine", (shop, shop), 5, BASE),
        ):
            columns.setdefault(title, {})[given] = scores([pair], 5, shots, count, title)[row]
    shown = {
        title: [
            str(Accuracy.of(own)) + ("" if given == bundles[0] else f" ({Difference.between(own, found[bundles[0]])})")
            for given, own in found.items()
        ]
        for title, found in columns.items()
    }
    click.echo(table([f"{count} episodes, 5-way, %", *bundles], [[title, *figures] for title, figures in shown.items()]))
    if json_file:
        write_json(json_file, {"episodes": count, "bundles": bundles, "columns": shown})


if __name__ == "__main__":
    main()
