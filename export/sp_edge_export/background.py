"""Measures how features of base classes vary, and fits the probability of 'known' to simulated banks of validation classes."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
from numpy.typing import NDArray

from sp_edge.bank.bank import Bank
from sp_edge.bank.crops import crops_of
from sp_edge.bank.head import Head
from sp_edge.data import sets
from sp_edge.data.episodes import Features
from sp_edge.data.pictures import PictureSet
from sp_edge.errors import ExportError
from sp_edge.matching import logistic
from sp_edge.matching.decide import class_sums, unit
from sp_edge.matching.metric import Background, Metric
from sp_edge.matching.unknown import Calibration
from sp_edge.prompts.table import PromptTable, TextSpec
from sp_edge.training.checkpoint import Checkpoint
from sp_edge.training.evaluate import class_prompts, encode
from sp_edge_export.by_name import fit_by_name

_log = logging.getLogger(__name__)
PER_CLASS = 4  # of base classes, at least
PICTURES = 1200  # of base classes; as many of validation classes
BANKS = 300
WAYS = (2, 3, 5, 8, 12, 20)
SHOTS = 5  # at most
NEIGHBOURS = (8, 16, None)  # how many similar classes a simulated bank and its strangers come from; None: all
QUERIES = 5  # at most, of each class
LEAST_SHARPNESS = 0.1
DEFAULT_TEMPERATURE = 0.1  # where every simulated bank has one class
Rows = NDArray[np.int64]
_START = Calibration(0, 1, 0, 0, 0, 0, 0, 1)  # while nothing is fitted


def base_pictures(checkpoint: Checkpoint) -> PictureSet:
    """Some pictures of many base classes, several of each: the fewer classes there are, the more of each."""
    settings = checkpoint.settings
    per_class = max(PER_CLASS, PICTURES // max(1, len(checkpoint.classes.get("train", ()))))
    few = dataclasses.replace(settings.data, per_class=min(settings.data.per_class, per_class // 2))
    return thinned(sets.load_split(dataclasses.replace(settings, data=few), "train"), per_class, PICTURES)


def thinned(pictures: PictureSet, per_class: int, most: int) -> PictureSet:
    """At most `per_class` pictures of a class, and at most `most` in all, of classes drawn by lot."""
    rng = np.random.default_rng(0)
    rows: list[int] = []
    for label in rng.permutation(len(pictures.class_names)):
        own = np.flatnonzero(pictures.labels == label)
        rows += rng.permutation(own)[:per_class].tolist()
        if len(rows) >= most:
            break
    kept = np.sort(np.array(rows[:most], dtype=np.int64))
    groups = {name: np.flatnonzero(np.isin(kept, members)) for name, members in pictures.groups.items()}
    return PictureSet(pictures.images[kept], pictures.labels[kept], pictures.class_names, groups)


def background_of(checkpoint: Checkpoint, pictures: PictureSet) -> Background:
    """What the pictures' query features are like.

    Raises:
        ExportError: no class has two pictures.
    """
    return background_of_features(encode(checkpoint.network, pictures.images, None), pictures.labels)


def background_of_features(features: Features, labels: Rows) -> Background:
    """As `background_of`, of features."""
    if len(np.unique(labels)) == len(labels):
        raise ExportError(
            "too few base pictures to measure classes with",
            expected="a class with two",
            got="one each",
            next_step="add pictures to train/",
        )
    return Background.of(features.query, labels)


def calibrate(
    checkpoint: Checkpoint,
    pictures: PictureSet,
    prompts: PromptTable,
    background: Background,
    *,
    banks: int = BANKS,
) -> Calibration:
    """Fits on the pictures of classes that training has not seen; see `fit_calibration` and `fit_by_name`."""
    network = checkpoint.network
    few = thinned(pictures, 24, PICTURES)
    features = encode(network, few.images, class_prompts(network, few, prompts))
    groups = [rows for rows in few.groups.values() if len(rows)]
    fitted = fit_calibration(features, few.labels, groups, network.strength, background, banks=banks)
    if network.text_prototype is None or network.text_share == 0:
        return fitted
    looks = network.text_prototype.to_numpy()(prompts.select(few.class_names))
    return dataclasses.replace(fitted, by_name=fit_by_name(features.query, few.labels, looks, background))


def fit_calibration(
    features: Features,
    labels: Rows,
    groups: list[Rows],
    strength: float,
    background: Background,
    *,
    banks: int = BANKS,
) -> Calibration:
    """Fits the probability that a picture shows a taught class.

    Each simulated bank is taught some classes of one group, sometimes ones that look alike, from 1 to 5 pictures each, and
    asked as many pictures of them as of strangers. Logistic regression weighs what `matching.unknown` says; the temperature is
    the one that makes the right classes of the taught ones' pictures most likely.

    Args:
        features: of n pictures.
        labels: int64 (n,).
        groups: of pictures that may meet in one bank, as indices; each is a condition of its own.
        strength: of the prompts in the support features.
        background: of base classes.

    Raises:
        ExportError: fewer than two classes with two pictures.
    """
    rng = np.random.default_rng(0)
    worlds = [world for world in (_members(labels, rows) for rows in groups) if len(world) > 1]
    if not worlds:
        worlds = [world for world in [_members(labels, np.arange(len(labels)))] if len(world) > 1]
    if not worlds:
        raise ExportError(
            "too few pictures to calibrate 'unknown' with",
            expected="two classes with two pictures",
            next_step="add pictures to val/",
        )
    unrelated = _unrelated(features.query, labels, background)
    evidence, targets, cosines, right = [], [], [], []
    for number in range(banks):
        shots, asked, strangers = _cast(features.query, worlds[number % len(worlds)], rng)
        head = Head.of(simulated_bank(features, shots, strength), background, _START)
        known = head.similarities(features.query[np.concatenate(asked)])
        foreign = head.similarities(features.query[rng.choice(strangers, len(known))])
        best = np.concatenate([known.max(axis=1), foreign.max(axis=1)]).astype(np.float64)
        distance = -np.log(np.maximum(1 - best, 0.01))[:, None]
        evidence.append(np.hstack([distance, np.tile(head.level.evidence(unrelated), (len(best), 1))]))
        targets.append(np.repeat([1, 0], len(best) // 2))
        cosines += list(known)
        right += np.repeat(np.arange(len(asked)), [len(rows) for rows in asked]).tolist()
    weights, intercepts = logistic.fit(np.concatenate(evidence), np.concatenate(targets))
    sharpness = float(weights[1, 0])
    if sharpness < LEAST_SHARPNESS:
        _log.warning("features do not tell taught classes from others: do not rely on 'unknown' and on confidences")
    fitted = weights[1].tolist()
    return Calibration(
        bias=float(intercepts[1]),
        distance=max(sharpness, LEAST_SHARPNESS),
        between=fitted[1],
        classes=fitted[2],
        evidence=fitted[3],
        left_out=fitted[4],
        unrelated=unrelated,
        temperature=_temperature(cosines, right),
    )


def _members(labels: Rows, rows: Rows) -> list[Rows]:
    """The pictures of each class that has at least two among `rows`."""
    found = [rows[labels[rows] == label] for label in np.unique(labels[rows])]
    return [members for members in found if len(members) > 1]


def _unrelated(query: NDArray[np.float32], labels: Rows, background: Background) -> float:
    """Mean cosine of pictures of different classes, in the metric of no bank."""
    metric = Metric.of(background, query[:0], labels[:0])
    seen = metric(query).astype(np.float64)
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    sums = class_sums(seen, inverse, len(counts))
    total = sums.sum(axis=0)
    pairs = len(seen) ** 2 - int((counts**2).sum())
    return float((total @ total - (sums**2).sum()) / pairs) if pairs else 0.0


def _cast(query: NDArray[np.float32], world: list[Rows], rng: np.random.Generator) -> tuple[list[Rows], list[Rows], Rows]:
    """Draws a bank: its classes' shots, the pictures to ask of each, and all pictures of classes that it does not know."""
    near = NEIGHBOURS[rng.integers(len(NEIGHBOURS))]
    order = np.arange(len(world))
    if near is not None:
        centres = unit(np.stack([unit(query[members]).mean(axis=0) for members in world]))
        order = np.argsort(-(centres @ centres[rng.integers(len(world))]), kind="stable")[:near]
    order = rng.permutation(order)
    ways = min(int(rng.choice(WAYS)), max(1, len(order) // 2))
    shots, asked = [], []
    for index in order[:ways]:
        members = rng.permutation(world[index])
        count = int(rng.integers(1, min(SHOTS, len(members) - 1) + 1))
        shots.append(members[:count])
        asked.append(members[count:][:QUERIES])
    return shots, asked, np.concatenate([world[index] for index in order[ways:]])


def simulated_bank(features: Features, shots: list[Rows], strength: float) -> Bank:
    """A bank of these shots, as a device would hold it, but for names, prompts and pictures."""
    rows = np.concatenate(shots)
    return Bank(
        fingerprint="",
        names=tuple(f"class {number}" for number in range(len(shots))),
        prompts=np.zeros((len(shots), 1), np.float32),
        thresholds=np.full(len(shots), np.nan, np.float32),
        strengths=np.full(len(shots), strength),
        support=features.support[rows],
        query=features.query[rows],
        owners=np.repeat(np.arange(len(shots)), [len(own) for own in shots]),
        crops=crops_of([b"simulated"] * len(rows)),
        bundle_strength=strength,
        text=TextSpec("", "", "{name}", 1.0, 1),
    )


def _temperature(cosines: list[NDArray[np.float32]], right: list[int]) -> float:
    """tau, of 40 between 0.01 and 1, that makes the right classes most likely."""

    several = [(row.astype(np.float64), index) for row, index in zip(cosines, right, strict=True) if len(row) > 1]
    if not several:
        return DEFAULT_TEMPERATURE

    def loss(temperature: float) -> float:
        return sum(float(np.log(np.exp((row - row[index]) / temperature).sum())) for row, index in several)

    return float(min(np.geomspace(0.01, 1, 40), key=loss))
