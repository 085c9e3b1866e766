"""What does a ready-made network recognize on photographs, and what do names, the metric and larger networks add?

    python benchmarks/sets/clutter.py /tmp/clutter && python benchmarks/sets/gcompris.py /tmp/gcompris
    python benchmarks/ready.py --grocery grocery --clutter /tmp/clutter --other /tmp/gcompris

`60 lines` is what a user would write: the network's feature by timm, and cosines to the mean of the shots. Every other row is
sp-edge: `no names` has its metric alone, `names` is the default, `names alone` teaches without a picture, `wrong names` gives
every class the name of another one, and `lr` decides by logistic regression where there are five shots.

Nothing is measured on what it was chosen on. The constants of names (`sp_edge_export.ready.statistics.USUAL`) were chosen on
half of the clutter set's classes, and on pictures of grocery/train; reported are the other half, and pictures of grocery/val,
taught from grocery/train. What features are like (metric, places) is measured on grocery: for figures on grocery, on the
classes that are not asked about, half of them and then the other half. Rows of one column share their episodes; behind an
accuracy stands the difference to `60 lines` with its 95 % interval.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from tqdm import trange

from sp_edge.accuracy import Accuracy, Difference
from sp_edge.columns import table
from sp_edge.data.folder import labelled
from sp_edge.data.pictures import PictureSet
from sp_edge.data.sets import preprocess_of
from sp_edge.files import write_json
from sp_edge.matching import logistic
from sp_edge.matching.decide import share, unit
from sp_edge.matching.metric import Background, Metric
from sp_edge.preprocess import Preprocess
from sp_edge.prompts.table import PromptTable
from sp_edge.text import extend_table
from sp_edge.training.directions import fit_directions
from sp_edge_export.ready.make import Prepared, ReadyOptions, measure, prepare, set_names

Array = NDArray[np.float32]
Rows = NDArray[np.int64]
CARTONS = re.compile("Alpro|Arla|Bravo|Garant|God Morgon|Oatly|Tropicana|Valio|Yoggi")
BATCH = 32
TAUGHT, ASKED = 12, 8  # pictures of each class that are encoded
LITE = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
BASE, PLAIN, NAMES, ALONE, WRONG, LR = "60 lines", "no names", "names", "names alone", "wrong names", "lr"
GAINS = {"names - no names": NAMES, "wrong names - no names": WRONG}
REJECTS = "names, and a picture of each stranger as what it is not"


@dataclass(frozen=True)
class Pool:
    """Pictures of C classes, encoded.

    Attributes:
        query: float32 (n, D), without names.
        named, wrong: float32 (n, D), as the support graph gives them at full strength, with their class's name and another's.
        labels: int64 (n,).
        alone: float32 (C, D), of the names alone.
        strengths: float64 (C,), of the names.
        background: of other pictures.
    """

    query: Array
    named: Array
    wrong: Array
    labels: Rows
    alone: Array
    strengths: NDArray[np.float64]
    background: Background


def pictures(folder: Path, preprocess: Preprocess, per_class: int, keep: Callable[[int], bool] = lambda _: True) -> PictureSet:
    """Some pictures of each class, the same ones each time."""
    listing = labelled(folder)
    rng = np.random.default_rng(1)
    classes = range(len(listing.class_names))
    drawn = [rng.permutation(np.flatnonzero(listing.labels == label))[:per_class] for label in classes]
    rows = np.concatenate([own for label, own in enumerate(drawn) if keep(label)])
    images = np.stack([preprocess(listing.read(int(row))) for row in rows])
    return PictureSet(images, listing.labels[rows], listing.class_names, {})


def reported(classes: int) -> set[int]:
    """The half of the clutter set's classes on which nothing was chosen."""
    return set(np.random.default_rng(1).permutation(classes)[classes // 2 :].tolist())


@torch.no_grad()
def encoded(prepared: Prepared, shown: PictureSet, title: str) -> Pool:
    """Encodes pictures without names, with their own and with another class's, all at full strength."""
    checkpoint = prepared.checkpoint
    network = checkpoint.network
    text: PromptTable = extend_table(checkpoint.prompts, shown.class_names)
    vectors = text.select(shown.class_names)
    own, other = (torch.from_numpy(v)[torch.from_numpy(shown.labels)] for v in (vectors, np.roll(vectors, 7, axis=0)))
    found: list[list[Array]] = []
    for start in trange(0, len(shown), BATCH, desc=title, mininterval=10.0):
        rows = slice(start, start + BATCH)
        tokens = network.begin(network.normalise(torch.from_numpy(shown.images[rows])))
        plain = network.finish(tokens)
        named = (network.finish(tokens, text[rows], strength=1.0) for text in (own, other))
        found.append([features.numpy() for features in (plain, *named)])
    query, named_own, named_other = (np.concatenate(part) for part in zip(*found, strict=True))
    alone = network.text_prototype.to_numpy()(vectors)  # type: ignore[union-attr]
    strengths = network.strength * network.familiarity_of(vectors)
    return Pool(query, named_own, named_other, shown.labels, alone, strengths, prepared.statistics.background)


def only(pool: Pool, classes: Rows) -> Pool:
    """The pictures of some classes, under the same labels."""
    rows = np.isin(pool.labels, classes)
    parts = {part: getattr(pool, part)[rows] for part in ("query", "named", "wrong", "labels")}
    return replace(pool, **parts)


def episodes(taught: Pool, asked: Pool, ways: int, shots: int, count: int) -> Iterator[tuple[Rows, Rows, Rows, Rows]]:
    """Classes, shots (ways, shots), questions and the way of each; where both pools are one, no picture is both."""
    rng = np.random.default_rng(0)
    same = asked is taught
    classes = [c for c in np.unique(taught.labels) if (taught.labels == c).sum() >= shots + same and (asked.labels == c).any()]
    for _ in range(count):
        drawn = rng.choice(np.array(classes), ways, replace=False)
        shown, questions = [], []
        for label in drawn:
            order = rng.permutation(np.flatnonzero(taught.labels == label))
            shown.append(order[:shots])
            questions.append(order[shots:][:ASKED] if same else rng.permutation(np.flatnonzero(asked.labels == label))[:ASKED])
        truth = np.repeat(np.arange(ways), [len(rows) for rows in questions])
        yield drawn, np.array(shown), np.concatenate(questions), truth


def answers(
    taught: Pool, drawn: Rows, shots: Rows, seen: Mapping[str, Array], metric: Metric, *, regression: bool = False
) -> dict[str, Array]:
    """Row -> similarities of the questions to each way, float32 (questions, ways); `seen` are plain and in the metric."""
    count = shots.shape[1]
    plain = taught.query[shots].mean(axis=1)
    part = np.array([share(s, count) for s in taught.strengths[drawn].tolist()])[:, None]
    prototypes = {
        PLAIN: plain,
        NAMES: part * taught.named[shots].mean(axis=1) + (1 - part) * plain,
        WRONG: part * taught.wrong[shots].mean(axis=1) + (1 - part) * plain,
        ALONE: taught.alone[drawn],
    }
    found = {BASE: seen["plain"] @ unit(plain).T}
    found |= {row: seen["metric"] @ metric(value.astype(np.float32)).T for row, value in prototypes.items()}
    if regression:
        examples = (part[:, None] * taught.named[shots] + (1 - part[:, None]) * taught.query[shots]).reshape(-1, plain.shape[1])
        owners = np.repeat(np.arange(len(drawn)), count)
        weights, bias = logistic.fit(metric(examples).astype(np.float64), owners, balanced=True)
        found[LR] = seen["metric"] @ weights.T + bias
    return found


def scores(pairs: list[tuple[Pool, Pool]], ways: int, shots: int, count: int, title: str) -> dict[str, Array]:
    """Row -> accuracy of each episode, of pairs of what is taught and what is asked, as many episodes of each."""
    found: list[dict[str, float]] = []
    for taught, asked in pairs:
        fixed = Metric.of(taught.background, taught.query[:0], taught.labels[:0])
        every = {"plain": unit(asked.query), "metric": fixed(asked.query)}
        for drawn, shown, questions, truth in _shown(episodes(taught, asked, ways, shots, count // len(pairs)), title):
            metric, seen = fixed, {name: value[questions] for name, value in every.items()}
            if shots > 1:
                metric = Metric.of(taught.background, taught.query[shown.ravel()], np.repeat(np.arange(ways), shots))
                seen["metric"] = metric(asked.query[questions])
            near = answers(taught, drawn, shown, seen, metric, regression=shots > 1)
            found.append({row: _balanced(value.argmax(axis=1), truth) for row, value in near.items()})
    return {row: np.array([one[row] for one in found]) for row in found[0]}


def _shown(drawn: Iterator[tuple[Rows, Rows, Rows, Rows]], title: str) -> Iterator[tuple[Rows, Rows, Rows, Rows]]:
    progress = trange(10**6, desc=title, mininterval=10.0, leave=False)
    for one in drawn:
        progress.update()
        yield one
    progress.close()


def _balanced(answer: Rows, truth: Rows) -> float:
    """Accuracy in which every class counts the same."""
    return float(np.mean([(answer[truth == way] == way).mean() for way in np.unique(truth)]))


def strangers(pairs: list[tuple[Pool, Pool]], shots: int, count: int) -> dict[str, dict[str, Array]]:
    """Five classes taught, five not. Row -> 'AUROC' and 'accepted', the strangers believed at 95 % of the taught believed.

    `REJECTS` is taught one picture of each of the five others with `enroll --not`, too: what is nearest to one is not believed.
    """
    found: dict[str, dict[str, list[float]]] = {row: {"AUROC": [], "accepted": []} for row in (BASE, PLAIN, NAMES, REJECTS)}
    for taught, asked in pairs:
        for drawn, shown, questions, truth in episodes(taught, asked, 10, shots, count // len(pairs)):
            bank, known = shown[:5], truth < 5
            metric = Metric.of(taught.background, taught.query[bank.ravel()], np.repeat(np.arange(5), shots))
            seen = {"plain": unit(asked.query[questions]), "metric": metric(asked.query[questions])}
            near = answers(taught, drawn[:5], bank, seen, metric)
            best = {row: near[row].max(axis=1) for row in (BASE, PLAIN, NAMES)}
            rejected = (seen["metric"] @ metric(taught.query[shown[5:, 0]]).T).max(axis=1) > best[NAMES]
            best[REJECTS] = np.where(rejected, np.float32(-1), best[NAMES])
            for row, score in best.items():
                found[row]["AUROC"].append(float(roc_auc_score(known, score)))
                found[row]["accepted"].append(float((score[~known] >= np.quantile(score[known], 0.05)).mean()))
    return {row: {name: np.array(values) for name, values in kept.items()} for row, kept in found.items()}


def column(found: Mapping[str, Array]) -> dict[str, str]:
    """Row -> accuracy, and the difference to `BASE`; and what names gain or cost."""
    base = found[BASE]
    shown = {
        row: str(Accuracy.of(value)) + ("" if row == BASE else f" ({Difference.between(value, base)})")
        for row, value in found.items()
    }
    return shown | {row: str(Difference.between(found[kind], found[PLAIN])) for row, kind in GAINS.items()}


class Model:
    """A ready-made network with all pictures encoded, once for the whole run.

    Args:
        name: as `sp-edge ready` takes it.
        grocery, clutter, other: folders of pictures.
    """

    def __init__(self, name: str, grocery: Path, clutter: Path, other: Path) -> None:
        self.prepared = prepare(name, ReadyOptions())
        preprocess = preprocess_of(self.prepared.checkpoint.settings)
        train, val = (pictures(grocery / split, preprocess, TAUGHT) for split in ("train", "val"))
        number = np.array([train.class_names.index(name) for name in val.class_names])  # val lacks some of the classes
        val = PictureSet(val.images, number[val.labels], train.class_names, {})
        self.halves = [self._groceries(train, val, half) for half in (0, 1)]
        names = labelled(clutter / "alone").class_names
        self.alone, self.clutter = (
            encoded(self.prepared, pictures(clutter / kind, preprocess, TAUGHT, reported(len(names)).__contains__), kind)
            for kind in ("alone", "clutter")
        )
        self.other = encoded(self.prepared, pictures(other, preprocess, 20), "other")

    def _groceries(self, train: PictureSet, val: PictureSet, half: int) -> tuple[Pool, Pool, Rows]:
        """Half of the classes, taught from train and asked from val, with the background of the other half; and its cartons."""
        halves = np.array_split(np.random.default_rng(0).permutation(len(train.class_names)), 2)
        own, rest = halves[half], np.isin(train.labels, halves[1 - half])
        others = replace(train, images=train.images[rest], labels=train.labels[rest], groups={})
        checkpoint, weights = self.prepared.checkpoint, self.prepared.weights
        statistics = measure(checkpoint.network, others, "the other classes", self.prepared.statistics.settings)
        head = weights.head
        assert head is not None  # noqa: S101 - EfficientNet-Lite has one
        directions = fit_directions(checkpoint.prompts.select(head.names), head.rows)
        set_names(checkpoint.network, *directions, statistics, of_classifier=True)  # type: ignore[arg-type]
        crossed = replace(self.prepared, statistics=statistics)
        taught, asked = (
            encoded(crossed, replace(shown, images=shown.images[rows], labels=shown.labels[rows]), "grocery")
            for shown, rows in ((train, np.isin(train.labels, own)), (val, np.isin(val.labels, own)))
        )
        set_names(checkpoint.network, *directions, self.prepared.statistics, of_classifier=True)  # type: ignore[arg-type]
        cartons = np.array([label for label in own.tolist() if CARTONS.match(train.class_names[label])])
        return taught, asked, cartons

    def columns(self) -> dict[str, tuple[list[tuple[Pool, Pool]], int, tuple[int, ...]]]:
        """Title -> pairs of pools, ways, shots."""
        groceries = [(taught, asked) for taught, asked, _ in self.halves]
        cartons = [(only(taught, few), only(asked, few)) for taught, asked, few in self.halves]
        return {
            "clutter, query alone": ([(self.clutter, self.alone)], 5, (1, 5)),
            "clutter, query in clutter": ([(self.clutter, self.clutter)], 5, (1, 5)),
            "alone": ([(self.alone, self.alone)], 5, (1, 5)),
            "grocery": (groceries, 5, (1, 5)),
            "cartons": (cartons, 5, (1, 5)),
            "grocery, 20-way": (groceries, 20, (1, 5)),
            "other": ([(self.other, self.other)], 5, (1,)),
        }


@click.command()
@click.option("--grocery", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--clutter", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--other", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--model", "models", multiple=True, default=LITE[:1], show_default=True, help="As `sp-edge ready` takes it.")
@click.option("--episodes", "count", default=600, show_default=True, type=click.IntRange(4), help="Of each column.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the tables to a file, too.")
def main(grocery: Path, clutter: Path, other: Path, models: tuple[str, ...], count: int, json_file: Path | None) -> None:
    """Print the comparison."""
    rows = [BASE, PLAIN, NAMES, ALONE, LR, *GAINS]
    everything = {}
    for name in models:
        model = Model(name, grocery, clutter, other)
        found = {}
        for title, (pairs, ways, several) in model.columns().items():
            for shots in several:
                found[f"{title}, {shots}-shot"] = column(scores(pairs, ways, shots, count, title))
        click.echo(f"{name}, {count} episodes, 5-way unless said, % (difference to {BASE})\n")
        click.echo(table(["", *rows], [[title, *(one.get(row, "") for row in rows)] for title, one in found.items()]) + "\n")
        groceries = [(taught, asked) for taught, asked, _ in model.halves]
        unknown = {shots: strangers(groceries, shots, max(count // 2, 4)) for shots in (1, 5)}
        lines = [
            [row, *(str(Accuracy.of(unknown[shots][row][what])) for shots in (1, 5) for what in ("AUROC", "accepted"))]
            for row in unknown[1]
        ]
        header = ["unknown", *(f"{what}, {shots}-shot" for shots in (1, 5) for what in ("AUROC", "accepted"))]
        click.echo(table(header, lines) + "\n")
        everything[name] = {"accuracy": found, "unknown": {row: figures for row, *figures in lines}}
    if json_file:
        write_json(json_file, {"episodes": count, "models": everything})


if __name__ == "__main__":
    main()
