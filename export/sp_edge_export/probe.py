"""Chooses the pictures on which the stages of an export are compared, and compares converted graphs on them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sp_edge.data import sets
from sp_edge.data.pictures import PictureSet
from sp_edge.errors import DataError
from sp_edge.model import PromptedNetwork, PromptedPlaces
from sp_edge.prompts.table import PromptTable
from sp_edge.training.checkpoint import Checkpoint
from sp_edge.training.evaluate import encode
from sp_edge_calibration.session import BATCH
from sp_edge_export.verify import GraphFeatures, Parity, Probe, compare, graph_features

HALVED = 4  # pictures that each class needs, so that each half has a shot and a query of it
_log = logging.getLogger(__name__)


def probe_pictures(checkpoint: Checkpoint) -> PictureSet:
    """Pictures of validation classes, or of base classes where the data set has no validation split."""
    settings = checkpoint.settings
    if sets.has_split(settings, "val") and len(checkpoint.classes.get("val", ())) > 1:
        return sets.load_split(settings, "val")
    _log.warning(
        "no validation classes: base classes verify the export and calibrate 'unknown'; both look better than they are"
    )
    return sets.load_split(settings, "train")


def make_probe(pictures: PictureSet, prompts: PromptTable, most: int) -> Probe:
    """At most so many pictures: of so many classes that there are six of each, if the data set has them."""
    rng = np.random.default_rng(0)
    counts = np.bincount(pictures.labels, minlength=len(pictures.class_names))
    able = rng.permutation(np.flatnonzero(counts >= 3))[: most // 6]
    if len(able) < 2:
        raise DataError(
            "too few pictures to verify the export with",
            expected="two classes with three pictures",
            got=str(counts.tolist()),
            next_step="add pictures to val/",
        )
    each = most // len(able)
    rows = rng.permutation(np.concatenate([rng.permutation(np.flatnonzero(pictures.labels == c))[:each] for c in able]))
    labels = pictures.labels[rows]
    n_query = int(min(5, counts[able].min() - 1))
    vectors = prompts.select(pictures.class_names)[labels]
    return Probe(pictures.images[rows], labels, vectors, n_way=min(5, len(able)), n_query=n_query)


@dataclass(frozen=True)
class Reference:
    """Pictures with their features by the fp32 graphs, against which converted graphs are measured.

    Attributes:
        probe: n pictures.
        features: float32 (n, D) each, and scores where there are any.
    """

    probe: Probe
    features: GraphFeatures

    def compare(self, precision: str, graphs: Mapping[str, Path]) -> Parity:
        """Measures 'query' and 'support' in a precision against the fp32 ones.

        Raises:
            ExportError: ONNX Runtime cannot load or run one.
        """
        scored = self.features.scores is not None
        found = graph_features(graphs, self.probe.images, self.probe.prompts, scored=scored)
        return compare(precision, found, "fp32", self.features, self.probe)

    def halves(self) -> tuple[Reference, Reference] | None:
        """Two halves without a picture in common, each with every class; None where a class has fewer than four pictures."""
        labels = self.probe.labels
        if np.unique(labels, return_counts=True)[1].min() < HALVED:
            return None
        nth = np.zeros(len(labels), np.int64)  # of its class, in the probe's order, which is drawn by lot
        for label in np.unique(labels):
            own = np.flatnonzero(labels == label)
            nth[own] = np.arange(len(own))
        first, second = (self._only(np.flatnonzero(nth % 2 == half)) for half in (0, 1))
        return first, second

    def _only(self, rows: NDArray[np.int64]) -> Reference:
        probe = self.probe
        labels = probe.labels[rows]
        fewest = int(np.unique(labels, return_counts=True)[1].min())
        part = replace(
            probe,
            images=probe.images[rows],
            labels=labels,
            prompts=probe.prompts[rows],
            n_query=min(probe.n_query, fewest - probe.n_shot),
        )
        whole = self.features
        scores = None if whole.scores is None else whole.scores[rows]
        return Reference(part, GraphFeatures(whole.query[rows], whole.support[rows], whole.plain[rows], scores))


@torch.no_grad()
def network_features(network: PromptedNetwork, probe: Probe) -> GraphFeatures:
    """What PyTorch gives of the probe's pictures."""
    features = encode(network, probe.images, None if network.prompt is None else probe.prompts)
    scores = None
    if isinstance(network, PromptedPlaces):
        parts = []
        for start in range(0, len(probe.images), BATCH):
            rows = slice(start, start + BATCH)
            tokens = network.begin(network.normalise(torch.from_numpy(probe.images[rows])))
            parts.append(network.scores(tokens, torch.from_numpy(probe.prompts[rows])).numpy())
        scores = np.concatenate(parts)
    return GraphFeatures(features.query, features.support, features.query, scores)
