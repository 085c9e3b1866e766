"""How well is a picture of no taught class told from the others? Simulates many banks and compares three scores.

    python benchmarks/unknown.py runs/1/checkpoint.safetensors
    python benchmarks/unknown.py emoji.safetensors --trained-on emoji

Each bank is taught some classes and asked as many pictures of them as of classes that it does not know. `cosine` is the
largest plain cosine to a prototype, as one fixed threshold cuts it; `softmax` the largest softmax probability over plain
cosines; `ours` the calibrated probability of `matching.unknown`, in the metric of the bank. Calibration is the export's, on
validation classes. AUROC and FAR (the share of unknown pictures that pass where 95 % of the others do) are over all pictures
of all banks of a row, so that one cut must serve them all; the differences' 95 % intervals are bootstrapped over banks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent / "sets"))

from digits import digits
from load import SETS, load_set
from sp_edge.bank.head import Head
from sp_edge.columns import table
from sp_edge.data.episodes import Features
from sp_edge.data.pictures import PictureSet
from sp_edge.files import write_json
from sp_edge.matching.decide import unit
from sp_edge.matching.unknown import Calibration
from sp_edge.training.checkpoint import Checkpoint
from sp_edge.training.evaluate import class_prompts, encode
from sp_edge_export.background import background_of_features, calibrate, simulated_bank, thinned

QUERIES = 5
RESAMPLES = 400
Array = NDArray[Any]


@dataclass(frozen=True)
class World:
    """Pictures that may meet in one bank: their features, and the members of each class."""

    features: Features
    members: list[Array]
    strength: float


def worlds_of(checkpoint: Checkpoint, pictures: PictureSet) -> dict[str, World]:
    """A world for each group of novel pictures, and the digits, which have no prompts."""
    network = checkpoint.network
    features = encode(network, pictures.images, class_prompts(network, pictures, checkpoint.prompts))
    found = {}
    for name, rows in pictures.groups.items():
        members = [rows[pictures.labels[rows] == label] for label in range(len(pictures.class_names))]
        found[name] = World(features, members, network.strength)
    images, labels = digits(checkpoint.settings.model.image_size)
    plain = encode(network, images, None)
    found["digits"] = World(plain, [np.flatnonzero(labels == digit) for digit in range(10)], 0.0)
    return found


@dataclass
class Asked:
    """One bank's answers: scores by name, whether each picture was of a taught class, confidences, and right labels."""

    scores: dict[str, Array]
    known: Array
    confidence: Array
    correct: dict[str, Array]
    accepted: Array


def ask(
    world: World,
    ways: int,
    shots: int | None,
    temperature: float,
    prepared: tuple[Array, Calibration],
    rng: np.random.Generator,
) -> Asked:
    """Teaches a bank `ways` classes, from `shots` pictures each or from 1 to 5, and asks it."""
    order = rng.permutation(len(world.members))
    taught, rest = order[:ways], order[ways:]
    counts = [int(rng.integers(1, 6)) if shots is None else shots for _ in taught]
    drawn = [rng.permutation(world.members[c])[: k + QUERIES] for c, k in zip(taught, counts, strict=True)]
    bank = simulated_bank(world.features, [d[:k] for d, k in zip(drawn, counts, strict=True)], world.strength)
    own = np.concatenate([d[k:] for d, k in zip(drawn, counts, strict=True)])
    truth = np.repeat(np.arange(ways), [len(d) - k for d, k in zip(drawn, counts, strict=True)])
    foreign = np.array([rng.choice(world.members[c]) for c in rng.choice(rest, len(own))])
    query = world.features.query[np.concatenate([own, foreign])]
    plain = unit(query) @ bank.prototypes.T
    head = Head.of(bank, *prepared)
    cosines = head.similarities(query)
    matches = head.matches(query)
    fitted = Head.of(bank, *prepared, classifier="lr").matches(query[: len(own)])
    exponents = np.exp((plain - plain.max(axis=1, keepdims=True)) / temperature)
    # Strictly rising in the probability of 'known', and without its rounding near 1.
    level = np.log(np.maximum(1 - cosines.max(axis=1).astype(np.float64), 1e-6)) - np.log(1 - head.thresholds[0])
    names = [f"class {c}" for c in truth]
    return Asked(
        scores={"cosine": plain.max(axis=1), "softmax": 1 / exponents.sum(axis=1), "ours": -level},
        known=np.arange(len(query)) < len(own),
        confidence=np.array([m.confidence for m in matches]),
        correct={
            "plain": plain[: len(own)].argmax(axis=1) == truth,
            "ours": np.array([m.name == name for m, name in zip(matches, names, strict=False)]),
            "lr": np.array([m.name == name for m, name in zip(fitted, names, strict=True)]),
        },
        accepted=np.array([not m.unknown for m in matches]),
    )


def auroc(scores: Array, known: Array) -> float:
    """The probability that a known picture scores above an unknown one; ties count half."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positive = int(known.sum())
    return float((ranks[known].sum() - positive * (positive + 1) / 2) / (positive * (len(scores) - positive)))


def far95(scores: Array, known: Array) -> float:
    """The share of unknown pictures that pass the threshold which 95 % of the known ones pass."""
    return float((scores[~known] >= np.quantile(scores[known], 0.05)).mean())


def summary(asked: list[Asked]) -> dict[str, Any]:
    """A row: figures of each score, and differences of ours with their intervals."""
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {}
    for name, measure in (("auroc", auroc), ("far", far95)):
        whole = np.arange(len(asked))
        values = {s: _pooled(asked, s, measure, whole) for s in ("cosine", "softmax", "ours")}
        samples = [rng.integers(0, len(asked), len(asked)) for _ in range(RESAMPLES)]
        again = {s: np.array([_pooled(asked, s, measure, rows) for rows in samples]) for s in values}
        found[name] = values
        for other in ("cosine", "softmax"):
            low, high = np.quantile(again["ours"] - again[other], [0.025, 0.975])
            found[f"{name} against {other}"] = (values["ours"] - values[other], float(low), float(high))
    flat = np.concatenate([a.known for a in asked])
    accepted = np.concatenate([a.accepted for a in asked])
    found["accepted"] = {"known": float(accepted[flat].mean()), "unknown": float(accepted[~flat].mean())}
    right = np.concatenate([np.concatenate([a.correct["ours"], np.zeros(int((~a.known).sum()), bool)]) for a in asked])
    found["ece"] = _calibration_error(np.concatenate([a.confidence for a in asked]), right)
    found["accuracy"] = {s: float(np.concatenate([a.correct[s] for a in asked]).mean()) for s in ("plain", "ours", "lr")}
    for other in ("plain", "lr"):
        differences = np.array([a.correct["ours"].mean() - a.correct[other].mean() for a in asked])
        found[f"accuracy against {other}"] = float(1.96 * differences.std(ddof=1) / np.sqrt(len(asked)))
    return found


def _pooled(asked: list[Asked], score: str, measure: Callable[[Array, Array], float], rows: Array) -> float:
    return measure(np.concatenate([asked[i].scores[score] for i in rows]), np.concatenate([asked[i].known for i in rows]))


def _calibration_error(confidence: Array, right: Array, bins: int = 15) -> float:
    """Expected calibration error: mean gap of confidence and share of right labels over bins of equal width."""
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(confidence[which == b].sum() - right[which == b].sum()) for b in range(bins)]
    return float(sum(gaps) / len(right))


@click.command()
@click.argument("checkpoint_file", type=click.Path(path_type=Path, exists=True))
@click.option("--trained-on", type=click.Choice(SETS), default="scenes", show_default=True)
@click.option("--banks", default=300, show_default=True, help="Simulated for each row.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures to a file, too.")
def main(checkpoint_file: Path, trained_on: str, banks: int, json_file: Path | None) -> None:
    """Print the comparison."""
    checkpoint = Checkpoint.load(checkpoint_file)
    settings = checkpoint.settings
    splits = {"train": 4, "val": 20, "test": 20}  # pictures a class of other sets than scenes
    base, val, test = (load_set(trained_on, split, settings, count) for split, count in splits.items())
    background = background_of_features(encode(checkpoint.network, (few := thinned(base, 4, 1200)).images, None), few.labels)
    prepared = (background, calibrate(checkpoint, val, checkpoint.prompts, background))
    worlds = worlds_of(checkpoint, test)
    rows = {f"{name}, {k}-shot": [(world, 5, k)] for name, world in worlds.items() for k in (1, 5)}
    native = [world for name, world in worlds.items() if name != "digits"]
    rows["any bank of the set"] = [(world, ways, None) for world in native for ways in (2, 3, 5, 8, 12, 20)]
    rows["any bank"] = [*rows["any bank of the set"], *[(worlds["digits"], ways, None) for ways in (2, 3, 4, 5)]]
    found = {}
    for row, kinds in rows.items():
        rng = np.random.default_rng(0)
        asked = []
        for number in range(banks):
            world, ways, shots = kinds[number % len(kinds)]
            asked.append(ask(world, ways, shots, settings.tune.temperature, prepared, rng))
        found[row] = summary(asked)
        click.echo(f"{row}: done", err=True)
    click.echo("\nAUROC in %, and FAR at 95 % true accepts in %; differences of ours with their 95 % intervals\n")
    lines = []
    for row, f in found.items():
        cells = [f"{100 * f['auroc'][s]:.1f} / {100 * f['far'][s]:.1f}" for s in ("cosine", "softmax", "ours")]
        for other in ("cosine", "softmax"):
            cells += [_interval(f[f"auroc against {other}"]), _interval(f[f"far against {other}"])]
        lines.append([row, *cells])
    header = ["", "cosine", "softmax", "ours", "AUROC - cosine", "FAR - cosine", "AUROC - softmax", "FAR - softmax"]
    click.echo(table(header, lines))
    click.echo("\nAt the bank's own thresholds, and the accuracy among taught classes, in %\n")
    lines = [
        [
            row, *(f"{100 * f['accepted'][kind]:.1f}" for kind in ("known", "unknown")), f"{100 * f['ece']:.1f}",
            f"{100 * f['accuracy']['plain']:.1f}",
            f"{100 * f['accuracy']['ours']:.1f} ({_half(f, 'plain')})",
            f"{100 * f['accuracy']['lr']:.1f}",
        ]
        for row, f in found.items()
    ]  # fmt: skip
    header = ["", "taught, accepted", "unknown, accepted", "ECE of confidence", "plain cosine", "ours (difference)", "lr"]
    click.echo(table(header, lines))
    if json_file:
        write_json(json_file, {"rows": found, "calibration": prepared[1].to_json(), "banks": banks})


def _interval(values: tuple[float, float, float]) -> str:
    return "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * v for v in values))


def _half(f: dict[str, Any], other: str) -> str:
    return f"{100 * (f['accuracy']['ours'] - f['accuracy'][other]):+.1f} ± {100 * f[f'accuracy against {other}']:.1f}"


if __name__ == "__main__":
    main()
