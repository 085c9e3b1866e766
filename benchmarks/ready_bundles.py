"""What do bundles recognize on photographs: a ready-made one in fp32 and int8, and one that was trained?

    sp-edge ready --precision int8 --out ready.spedge && sp-edge demo
    python benchmarks/ready_bundles.py ready.spedge:fp32 ready.spedge:int8 demo/runs/1/model.spedge:fp32 \
        --grocery grocery --clutter /tmp/clutter --other /tmp/gcompris

The graphs of each bundle run in ONNX Runtime. `cosine` is the query graph's feature and cosines to the mean of the shots;
`names` is the bundle as the runtime uses it, with its metric and names. The ready-made bundle's metric was measured on grocery,
so there only `cosine` is reported. Sets, episodes and classes are those of `benchmarks/ready.py`. Behind a figure stands the
difference to the first bundle's with its 95 % interval.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from ready import BASE, NAMES, TAUGHT, Array, Pool, pictures, reported, scores

from sp_edge.accuracy import Accuracy, Difference
from sp_edge.bundle.bundle import Bundle
from sp_edge.columns import table
from sp_edge.data.folder import labelled
from sp_edge.data.pictures import PictureSet
from sp_edge.files import write_json
from sp_edge.prompts.table import PromptTable
from sp_edge_export.verify import graph_features
from sp_edge_runtime.text import TextEncoder


def pool(bundle: Bundle, precision: str, shown: PictureSet, *, for_cpu: bool = False) -> Pool:
    """Pictures, through the graphs of a bundle; `for_cpu` takes those for CPUs."""
    encoder = TextEncoder.of(bundle)
    assert encoder is not None, "a bundle that carries its text encoder"  # noqa: S101
    made: PromptTable = encoder.table(list(shown.class_names), None)
    encoder.close()
    vectors = made.select(shown.class_names)
    graphs = {graph: bundle.read_graph(graph, precision, for_cpu=for_cpu) for graph in ("query", "support")}
    found = graph_features(graphs, shown.images, vectors[shown.labels])
    strength, familiarity = bundle.manifest.strength, bundle.familiarity()
    strengths = strength * (np.ones(len(vectors)) if familiarity is None else familiarity(vectors))
    full = found.support + (1 - strength) / strength * (found.support - found.query) if strength else found.support
    return Pool(
        found.query, full, full, shown.labels, np.zeros_like(found.query[: len(vectors)]), strengths, bundle.background()
    )


@click.command()
@click.argument("bundles", nargs=-1, required=True, metavar="BUNDLE:PRECISION...")
@click.option("--grocery", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--clutter", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--other", type=click.Path(path_type=Path, exists=True), required=True)
@click.option(
    "--pictures",
    "per_class",
    default=TAUGHT,
    show_default=True,
    type=click.IntRange(6),
    help="Encode this many pictures of each class.",
)
@click.option("--episodes", "count", default=600, show_default=True, type=click.IntRange(4), help="Of each column.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the table to a file, too.")
def main(
    bundles: tuple[str, ...],
    grocery: Path,
    clutter: Path,
    other: Path,
    per_class: int,
    count: int,
    json_file: Path | None,
) -> None:
    """Print the comparison."""
    names = labelled(clutter / "alone").class_names
    kept = reported(len(names)).__contains__
    columns: dict[str, dict[str, Array]] = {}
    for given in bundles:
        path, _, precision = given.rpartition(":")
        bundle = Bundle.load(Path(path))
        preprocess = bundle.manifest.preprocess
        alone, mixed = (
            pool(bundle, precision, pictures(clutter / kind, preprocess, per_class, kept)) for kind in ("alone", "clutter")
        )
        others = pool(bundle, precision, pictures(other, preprocess, 20))
        shop = pool(bundle, precision, pictures(grocery / "train", preprocess, per_class))
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
