"""What do views of the shots gain on photographs, and what does logistic regression?

    python benchmarks/photos.py grocery/train
    python benchmarks/photos.py grocery/train --only '^(Alpro|Arla|Bravo|Garant|God|Oatly|Trop|Valio|Yoggi)'

The network is the ready-made one, EfficientNet-Lite0, which has seen photographs, as `sp-edge ready` exports it. The folder
holds one folder a class. Half of the classes are the background, the other half is taught and asked about, ten pictures a
class; then the other way round. `plain` compares by the cosine, `centred` after the background's mean is taken off, `adapted`
with the background's covariance, and the runtime does both. Of `views`, as `sp-edge enroll --views` makes them, the mean
feature stands for the shot. `lr` is logistic regression. Rows of a metric are differences to its prototypes of one view, and
its prototypes to the plain ones, on the same episodes, with 95 % intervals.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm, trange

from sp_edge import __version__
from sp_edge.accuracy import Accuracy, Difference
from sp_edge.bank.views import views
from sp_edge.columns import table
from sp_edge.data.episodes import Episode, EpisodeSampler
from sp_edge.data.episodes import Features as Encoded
from sp_edge.data.folder import labelled
from sp_edge.files import write_json
from sp_edge.matching import logistic
from sp_edge.matching.decide import prototype
from sp_edge.matching.metric import Background, Metric
from sp_edge.model.ready.registry import DEFAULT
from sp_edge_export.background import background_of_features
from sp_edge_export.ready import make_ready
from sp_edge_runtime.backends.devices import open_backend
from sp_edge_runtime.features import Features

PER_CLASS, QUERIES, VIEWS = 20, 10, (1, 2, 5, 10)
C = (1, 10)  # of logistic regression; the runtime's is 1
RUNTIME = "adapted and centred"
Array = NDArray[Any]


def encoded(folder: Path) -> tuple[Array, Array, list[str]]:
    """Features of pictures of each class, float32 (n, V, D); their class, int64 (n,); and the names of the classes."""
    listing = labelled(folder)
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.permutation(np.flatnonzero(listing.labels == c))[:PER_CLASS] for c in np.unique(listing.labels)])
    drawn = (DEFAULT, __version__, listing.title, [listing.stamps[row] for row in rows], VIEWS)
    key = hashlib.sha256(repr(drawn).encode()).hexdigest()[:16]
    cached = Path(tempfile.gettempdir()) / f"sp-edge-photos-{key}.npy"
    if not cached.exists():
        with tempfile.TemporaryDirectory() as made:
            bundle = make_ready(DEFAULT, Path(made) / "ready.spedge")
            with open_backend(bundle, "cpu") as backend:
                features, preprocess = Features(bundle, backend), bundle.manifest.preprocess
                shown = (views(preprocess(listing.read(row)), max(VIEWS), flip=True) for row in rows)
                found = [features.queries(list(each)) for each in tqdm(shown, "encoding", len(rows), mininterval=5.0)]
        np.save(cached, np.stack(found))
    return np.load(cached), listing.labels[rows], list(listing.class_names)


def ask(features: Array, episode: Episode, background: Background) -> dict[str, float]:
    """Teaches and asks in every way: way -> accuracy. Features float32 (n, V, D), of which the episode's pictures are rows."""
    truth, owners = (np.repeat(np.arange(len(rows)), rows.shape[1]) for rows in (episode.query, episode.support))
    shots, asked = (features[rows.ravel()] for rows in (episode.support, episode.query))
    ours = Metric.of(background, shots[:, 0], owners)
    zero, identity = np.zeros_like(ours.mean), np.eye(len(ours.mean), dtype=np.float32)
    found = {}
    for name, metric in {
        "plain": Metric(zero, identity),
        "centred": Metric(ours.mean, identity),
        "adapted": Metric(zero, ours.matrix),
        RUNTIME: ours,
    }.items():
        query = metric(asked[:, 0])
        for count in VIEWS:
            shown = shots[:, :count].mean(axis=1).reshape(*episode.support.shape, -1)
            way = name + f", {count} views" * (count > 1)
            found[way] = (query @ metric(prototype(shown)).T).argmax(axis=1)
        for c in C:
            weights, intercepts = logistic.fit(metric(shots[:, 0]).astype(np.float64), owners, c=c, balanced=True)
            found[f"{name}, lr, C = {c}"] = (query @ weights.T + intercepts).argmax(axis=1)
    return {way: float((answer == truth).mean()) for way, answer in found.items()}


def measure(features: Array, labels: Array, chosen: Array, ways: int, shots: int, episodes: int) -> dict[str, Array]:
    """Way -> accuracy of each episode, half of them of either half of the classes."""
    halves = np.array_split(np.random.default_rng(0).permutation(labels.max() + 1), 2)
    found: list[dict[str, float]] = []
    for own, other in (halves, halves[::-1]):
        rows, rest = (np.flatnonzero(np.isin(labels, some)) for some in (np.intersect1d(own, chosen), other))
        background = background_of_features(Encoded(features[rest, 0], features[rest, 0]), labels[rest])
        sampler = EpisodeSampler(labels[rows], n_way=ways, n_shot=shots, n_query=QUERIES, seed=0)
        numbers = trange(episodes // 2, desc=f"{ways}-way, {shots}-shot", mininterval=5.0)
        found += [ask(features[rows], sampler.episode(number), background) for number in numbers]
    return {way: np.array([one[way] for one in found]) for way in found[0]}


def column(scores: Mapping[str, Array]) -> dict[str, str]:
    """Accuracy of plain prototypes; differences of the others."""
    shown = {}
    for way, own in scores.items():
        metric = way.split(",")[0]
        against = scores["plain" if way == metric else metric]
        shown[way] = str(Accuracy.of(own) if way == "plain" else Difference.between(own, against))
    return shown


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--only", default="", metavar="REGEX", help="Teach only classes whose name begins so.  [default: all]")
@click.option("--ways", default=(5, 20), show_default=True, multiple=True, type=click.IntRange(2))
@click.option("--episodes", default=600, show_default=True, type=click.IntRange(4), help="Of each column.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the table to a file, too.")
def main(folder: Path, only: str, ways: tuple[int, ...], episodes: int, json_file: Path | None) -> None:
    """Print the comparison."""
    features, labels, names = encoded(folder)
    chosen = np.array([number for number, name in enumerate(names) if re.match(only, name)])
    found = {}
    for way, shots in itertools.product(ways, (1, 2, 5)):
        if len(chosen) >= 2.5 * way:  # a half must hold them
            found[f"{way}-way, {shots}-shot"] = column(measure(features, labels, chosen, way, shots, episodes))
    click.echo(f"{len(chosen)} classes, {episodes} episodes, accuracy and differences in %\n")
    click.echo(table(["", *found], [[way, *(one[way] for one in found.values())] for way in next(iter(found.values()))]))
    if json_file:
        write_json(json_file, {"classes": len(chosen), "episodes": episodes, "columns": found})


if __name__ == "__main__":
    main()
