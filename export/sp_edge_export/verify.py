"""Compares what a graph computes with what it was made from: features on real pictures, accuracy on episodes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.accuracy import Accuracy, Difference, Scores
from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.manifest import GRAPHS, OUTPUTS, SCORES
from sp_edge.data.episodes import EpisodeSampler, Features
from sp_edge.errors import ExportError
from sp_edge.matching.decide import row_cosines
from sp_edge.precisions import CPU, limits_of
from sp_edge.training.classifier import episode_scores
from sp_edge_calibration.session import Inputs, open_session, run_in_batches


@dataclass(frozen=True, eq=False)
class GraphFeatures(Features):
    """Every picture, encoded by two graphs.

    Attributes:
        plain: float32 (n, D), what the support graph gives without the prompt.
        scores: float32 (n, h, w), of the places for the prompt; None where the graph gives none.
    """

    plain: NDArray[np.float32]
    scores: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Parity:
    """One stage against the stage before it.

    Attributes:
        stage: such as 'fp32' or 'fp16', or 'int8-cpu' for the form of int8 that is for CPUs.
        against: the stage before.
        cosine_mean, cosine_min: over the query and the support features of every picture.
        plain_cosine_min: of the support graph's plain features to the query graph's, both of this stage.
        largest_difference: of any number of a feature.
        pictures: how many were compared.
        accuracy, accuracy_before: on the same episodes.
        drop: their paired difference; below zero where accuracy was lost.
        score_difference: mean absolute difference of the places' scores, in deviations; None where there are none.
    """

    stage: str
    against: str
    cosine_mean: float
    cosine_min: float
    plain_cosine_min: float
    largest_difference: float
    pictures: int
    accuracy: Accuracy
    accuracy_before: Accuracy
    drop: Difference
    score_difference: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As the manifest records it; what is no number, which JSON has not, as null."""
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(self).items()}

    def __str__(self) -> str:
        return (
            f"{self.stage} against {self.against}: cosine {self.cosine_mean:.6f} mean, {self.cosine_min:.6f} least; "
            f"{self.accuracy} % against {self.accuracy_before} %, difference {self.drop}"
        )

    def failure(self, max_drop: float) -> ExportError | None:
        """Why the stage does not pass; None where it does.

        Args:
            max_drop: accuracy, 0 to 1, that may be lost at most.
        """
        limits = limits_of(self.stage)
        if not (self.cosine_mean >= limits.cosine_mean and self.cosine_min >= limits.cosine_min):  # so that NaN does not pass
            return ExportError(
                f"the {self.stage} graphs compute other features than {self.against}",
                expected=f"cosine at least {limits.cosine_mean} on average and {limits.cosine_min} everywhere",
                got=f"{self.cosine_mean:.6f} and {self.cosine_min:.6f}",
            )
        if not self.plain_cosine_min >= limits.plain_cosine_min:
            return ExportError(
                f"the {self.stage} support graph gives other plain features than the query graph",
                expected=f"cosine at least {limits.plain_cosine_min} everywhere",
                got=f"{self.plain_cosine_min:.6f}",
            )
        if self.score_difference is not None and not self.score_difference <= limits.score_difference:
            return ExportError(
                f"the {self.stage} support graph scores places otherwise than {self.against}",
                expected=f"a difference of at most {limits.score_difference} on average",
                got=f"{self.score_difference:.4f}",
            )
        if -self.drop.mean > max_drop:
            return ExportError(
                f"the {self.stage} graphs are less accurate than {self.against}",
                expected=f"a drop of at most {max_drop}",
                got=f"{-self.drop.mean:.4f} ± {self.drop.interval:.4f} ({self.accuracy_before} to {self.accuracy} %)",
                next_step="another --precision, or more calibration pictures",
            )
        return None


@dataclass(frozen=True, eq=False)
class Probe:
    """The pictures on which stages are compared.

    Attributes:
        images: uint8 (n, H, W, 3) RGB, preprocessed.
        labels: int64 (n,).
        prompts: float32 (n, T), of each picture's class.
        n_way, n_shot, n_query, episodes: of the accuracy.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    prompts: NDArray[np.float32]
    n_way: int
    n_shot: int = 1
    n_query: int = 5
    episodes: int = 600

    def scores(self, features: Features) -> Scores:
        """The accuracy of each episode, of features of these pictures."""
        sampler = EpisodeSampler(self.labels, n_way=self.n_way, n_shot=self.n_shot, n_query=self.n_query, seed=0)
        return episode_scores(features, sampler.episodes(self.episodes))


def compare(stage: str, features: GraphFeatures, against: str, before: Features, probe: Probe) -> Parity:
    """Measures how far `features` are from the stage `before`."""
    ours = np.concatenate([features.query, features.support])
    theirs = np.concatenate([before.query, before.support])
    cosines = row_cosines(ours, theirs)
    scores, scores_before = probe.scores(features), probe.scores(before)
    known = before.scores if isinstance(before, GraphFeatures) else None
    return Parity(
        stage=stage,
        against=against,
        cosine_mean=float(cosines.mean()),
        cosine_min=float(cosines.min()),
        plain_cosine_min=float(row_cosines(features.plain, features.query).min()),
        largest_difference=float(np.abs(ours - theirs).max()),
        pictures=len(features.query),
        accuracy=Accuracy.of(scores),
        accuracy_before=Accuracy.of(scores_before),
        drop=Difference.between(scores, scores_before),
        score_difference=score_difference(features.scores, known),
    )


def score_difference(ours: NDArray[np.float32] | None, theirs: NDArray[np.float32] | None) -> float | None:
    """Mean absolute difference of places' scores; None where either has none."""
    return None if ours is None or theirs is None else float(np.abs(ours - theirs).mean())


def graph_features(
    graphs: Mapping[str, Path | bytes], images: NDArray[np.uint8], prompts: NDArray[np.float32], *, scored: bool = False
) -> GraphFeatures:
    """Features of pictures through ONNX Runtime on the CPU.

    Args:
        graphs: 'query' and 'support' -> file, or the content of one.
        images: uint8 (n, H, W, 3) RGB.
        prompts: float32 (n, T).
        scored: whether the support graph scores places.

    Raises:
        ExportError: a file is no graph, or ONNX Runtime cannot load or run it.
    """
    outputs = {**OUTPUTS, "support": OUTPUTS["support"] + (SCORES,) * scored}
    query, support = (open_session(graphs[graph], f"{graph}.onnx", outputs[graph]) for graph in GRAPHS)
    pictures: Inputs = {"image": images}
    (alone,) = run_in_batches(query, pictures)
    prompted, plain, *scores = run_in_batches(support, {**pictures, "prompt": prompts})
    return GraphFeatures(alone, prompted, plain, *scores)


def check_golden(bundle: Bundle) -> dict[str, float]:
    """Runs the golden pictures through every graph of a bundle on this machine.

    Returns:
        Least cosine to the expected features, for each precision, and as 'int8-cpu' for a form that is for CPUs.

    Raises:
        ExportError: a graph's features are not the expected ones.
    """
    golden = bundle.golden()
    expected = np.concatenate([golden.query, golden.support, golden.query])
    forms = [(precision, precision, False) for precision in bundle.manifest.graphs]
    forms += [(precision + CPU, precision, True) for precision in bundle.manifest.cpu_graphs]
    found = {}
    for stage, precision, for_cpu in forms:
        graphs = {graph: bundle.read_graph(graph, precision, for_cpu=for_cpu) for graph in GRAPHS}
        features = graph_features(graphs, golden.images, golden.prompts, scored=golden.scores is not None)
        limits = limits_of(stage)
        least = float(row_cosines(np.concatenate([features.query, features.support, features.plain]), expected).min())
        if not least >= limits.cosine_min:  # so that NaN does not pass
            raise ExportError(
                f"the {stage} graphs give other features here than where they were exported",
                expected=f"cosine at least {limits.cosine_min}",
                got=f"{least:.6f}",
                next_step="export again, or report the version of ONNX Runtime that you use",
            )
        difference, most = score_difference(features.scores, golden.scores), limits.score_difference
        if difference is not None and not difference <= most:
            raise ExportError(
                f"the {stage} graphs score places otherwise here than where they were exported",
                expected=f"a difference of at most {most} on average",
                got=f"{difference:.4f}",
                next_step="export again, or report the version of ONNX Runtime that you use",
            )
        found[stage] = least
    return found
