"""What do views of the shots gain, and what does logistic regression, averaged or with every view a shot?

    python benchmarks/views.py runs/1/checkpoint.safetensors
    python benchmarks/views.py runs/prompts/emoji/seed-0/ours.safetensors --trained-on emoji

Banks of five novel classes are taught as `sp-edge enroll` teaches them, with `sp_edge.bank.views` and the prompts at the
network's strength, and asked fifteen pictures of each class. The nearest prototype and logistic regression decide in the
metric of the bank (`bank.head`). `averaged`: the mean feature of its views stands for a shot, as `--views` has it; `every
view`: each view is a shot of its own, as in the paper's 5-shot protocol. That also multiplies the examples' weight against
the penalty by the number of views V, so `averaged, C = V` is beside it. Differences are to prototypes of one view, on the
same banks, with 95 % intervals.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from tqdm import trange

sys.path.insert(0, str(Path(__file__).parent / "sets"))

from digits import digits
from load import SETS, load_set
from sp_edge.accuracy import Accuracy, Difference
from sp_edge.bank.head import Head
from sp_edge.bank.views import views as make_views
from sp_edge.columns import table
from sp_edge.data.episodes import Episode, EpisodeSampler, Features
from sp_edge.files import write_json
from sp_edge.matching import logistic
from sp_edge.matching.decide import share
from sp_edge.matching.metric import Background
from sp_edge.matching.unknown import Calibration
from sp_edge.training.checkpoint import Checkpoint
from sp_edge.training.evaluate import class_prompts, encode
from sp_edge_export.background import background_of_features, simulated_bank, thinned

WAYS, QUERIES = 5, 15
PROTOTYPE = "prototype"
CLASSES, PER_CLASS, DIGITS = 40, 20, 60  # classes of a group and pictures of each that are encoded, in every view
CHUNK = 64  # pictures whose views are in memory at once
_ANY = Calibration(0, 1, 0, 0, 0, 0, 0, 1)  # decides on 'unknown' alone, which is not measured here
Array = NDArray[Any]


def encode_views(checkpoint: Checkpoint, images: Array, prompts: Array | None, count: int) -> Features:
    """Views of every picture, as enrollment makes them: float32 (n, V, D) without prompts, and at the network's strength."""
    flip = checkpoint.settings.augment.flip
    parts = []
    for start in trange(0, len(images), CHUNK, desc="views", leave=False, mininterval=1.0, disable=None):
        rows = slice(start, start + CHUNK)
        shown = np.concatenate([make_views(image, count, flip=flip) for image in images[rows]])
        given = None if prompts is None else np.repeat(prompts[rows], count, axis=0)
        parts.append(encode(checkpoint.network, shown, given))
    query, support = (np.concatenate([getattr(p, side) for p in parts]) for side in ("query", "support"))
    return Features(query.reshape(len(images), count, -1), support.reshape(len(images), count, -1))


def few_of_each(labels: Array, count: int) -> Array:
    """Rows of some pictures of some classes."""
    classes = np.random.default_rng(0).permutation(np.unique(labels))[:CLASSES]
    return np.concatenate([np.flatnonzero(labels == label)[:count] for label in classes])


def ask(views: Features, episode: Episode, strength: float, background: Background) -> dict[str, float]:
    """Teaches one bank in every way and asks it: way -> accuracy."""
    query = views.query[episode.query.ravel(), 0]
    truth = np.repeat(np.arange(WAYS), episode.query.shape[1])
    shots = list(episode.support)
    rows, owners = episode.support.ravel(), np.repeat(np.arange(WAYS), episode.support.shape[1])
    count = views.query.shape[1]
    found = {}
    for name, features in (
        ("", Features(views.query[:, 0], views.support[:, 0])),
        (f", {count} views averaged", Features(views.query.mean(axis=1), views.support.mean(axis=1))),
    ):
        bank = simulated_bank(features, shots, strength)
        head = Head.of(bank, background, _ANY)
        found[PROTOTYPE + name] = head.similarities(query).argmax(axis=1)
        found["lr" + name] = fitted(head, bank.examples, owners, query)
    found[f"lr, {count} views averaged, C = {count}"] = fitted(head, bank.examples, owners, query, c=count)
    part = share(strength, episode.support.shape[1]) / (strength or 1.0)  # as `Bank.examples` mixes
    every = (part * views.support + (1 - part) * views.query)[rows].reshape(len(rows) * count, -1)
    found[f"lr, every of {count} views"] = fitted(head, every, np.repeat(owners, count), query)
    return {name: float((labels == truth).mean()) for name, labels in found.items()}


def fitted(head: Head, examples: Array, owners: Array, query: Array, *, c: float = 1.0) -> Array:
    """What logistic regression on examples says in a head's metric: class of each query."""
    seen = head.metric(examples).astype(np.float64)
    weights, intercepts = logistic.fit(seen, owners, balanced=True, c=c)
    return np.asarray((head.metric(query) @ weights.T + intercepts).argmax(axis=1))


def measure(
    views: Features, labels: Array, shots: int, banks: int, strength: float, background: Background
) -> dict[str, Array]:
    """Way of teaching -> accuracy of every bank."""
    sampler = EpisodeSampler(labels, n_way=WAYS, n_shot=shots, n_query=QUERIES, seed=0)
    asked = [
        ask(views, sampler.episode(number), strength, background)
        for number in trange(banks, desc="banks", leave=False, disable=None)
    ]
    return {name: np.array([one[name] for one in asked]) for name in asked[0]}


def summary(scores: Mapping[str, Array], count: int) -> dict[str, str]:
    """A column: the accuracy of prototypes of one view, the others' differences, and what every view gains over averages."""
    plain = scores[PROTOTYPE]
    column = {PROTOTYPE: str(Accuracy.of(plain))}
    column |= {name: str(Difference.between(one, plain)) for name, one in scores.items() if name != PROTOTYPE}
    every = scores[f"lr, every of {count} views"]
    column["every view - averaged"] = str(Difference.between(every, scores[f"lr, {count} views averaged"]))
    column["every view - averaged, same C"] = str(Difference.between(every, scores[f"lr, {count} views averaged, C = {count}"]))
    return column


@click.command()
@click.argument("checkpoint_file", type=click.Path(path_type=Path, exists=True))
@click.option("--trained-on", type=click.Choice(SETS), default="scenes", show_default=True)
@click.option("--views", "count", default=10, show_default=True, type=click.IntRange(2, 50))
@click.option("--banks", default=300, show_default=True, type=click.IntRange(2), help="Simulated for each row.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures to a file, too.")
def main(checkpoint_file: Path, trained_on: str, count: int, banks: int, json_file: Path | None) -> None:
    """Print the comparison."""
    checkpoint = Checkpoint.load(checkpoint_file)
    network, settings = checkpoint.network, checkpoint.settings
    few = thinned(load_set(trained_on, "train", settings, 4), 4, 1200)
    background = background_of_features(encode(network, few.images, None), few.labels)
    test = load_set(trained_on, "test", settings)
    strength = network.strength
    prompts = class_prompts(network, test, checkpoint.prompts)
    worlds = {}
    for name, group in test.groups.items():
        rows = group[few_of_each(test.labels[group], PER_CLASS)]
        views = encode_views(checkpoint, test.images[rows], None if prompts is None else prompts[rows], count)
        worlds[name] = (views, test.labels[rows], strength)
        if strength:
            worlds[f"{name}, no prompts"] = (Features(views.query, views.query), test.labels[rows], 0.0)
    images, labels = digits(settings.model.image_size)
    rows = few_of_each(labels, DIGITS)
    worlds["digits"] = (encode_views(checkpoint, images[rows], None, count), labels[rows], 0.0)
    found = {}
    for name, (views, own, counts) in worlds.items():
        for shots in (1, 5):
            found[f"{name}, {shots}-shot"] = summary(measure(views, own, shots, banks, counts, background), count)
            click.echo(f"{name}, {shots}-shot: done", err=True)
    click.echo(f"{trained_on}, strength {strength}: {WAYS}-way, {banks} banks, accuracy and differences to it in %\n")
    ways = list(next(iter(found.values())))
    click.echo(table(["", *found], [[way, *(column[way] for column in found.values())] for way in ways]))
    if json_file:
        write_json(json_file, {"trained on": trained_on, "views": count, "banks": banks, "rows": found})


if __name__ == "__main__":
    main()
