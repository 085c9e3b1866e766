"""What decides on features: a bank's classes in the metric that suits them, each with a threshold, ready for a frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sp_edge.bank.bank import Bank
from sp_edge.errors import SettingsError
from sp_edge.matching import logistic
from sp_edge.matching.decide import Floats, Match, match
from sp_edge.matching.metric import Background, Metric
from sp_edge.matching.unknown import Calibration, Level

CLASSIFIERS = ("prototype", "lr")
MOST_FITTED = 1000  # classes for which logistic regression is fitted while a user waits


@dataclass(frozen=True, eq=False)
class Head:
    """An immutable value; every bank has one of its own.

    Attributes:
        names: C class names.
        metric: in which features are compared.
        prototypes: float32 (C, D), of length one in that metric, the transpose of a contiguous array: a query's products with
            many classes take half the time so, as BLAS reads the memory once from end to end.
        thresholds: float32 (C,) least cosine at which each class is believed: the user's, or else the calibrated one.
        calibration: of the probabilities.
        level: what the bank's shots say about distances.
        weights, intercepts: float32 (C, D) and (C,) of logistic regression on features in the metric; None for nearest
            prototypes.
    """

    names: tuple[str, ...]
    metric: Metric
    prototypes: Floats
    thresholds: Floats
    calibration: Calibration
    level: Level
    weights: Floats | None = None
    intercepts: Floats | None = None

    @classmethod
    def of(
        cls,
        bank: Bank,
        background: Background,
        calibration: Calibration,
        *,
        classifier: str = "prototype",
        threshold: float | None = None,
    ) -> Head:
        """Makes a bank ready: milliseconds, for logistic regression and very large banks more.

        Args:
            bank: the taught classes.
            background: the bundle's.
            calibration: the bundle's.
            classifier: 'prototype': the nearest in the metric; 'lr': logistic regression (C = 1) on the shots in the metric,
                with every class of the same weight, whatever its number of shots.
            threshold: of every class, instead of the bank's and the calibrated ones.

        Raises:
            SettingsError: no such classifier, or too many classes for it.
        """
        if classifier not in CLASSIFIERS:
            raise SettingsError("unknown classifier", expected=" or ".join(CLASSIFIERS), got=classifier)
        if classifier == "lr" and len(bank.names) > MOST_FITTED:
            raise SettingsError(
                "too many classes for logistic regression", expected=f"at most {MOST_FITTED}", got=str(len(bank.names)),
                next_step="--classifier prototype",
            )  # fmt: skip
        metric = Metric.of(background, bank.query, bank.owners)
        prototypes = np.asfortranarray(metric(bank.prototypes))
        level = Level.of(bank.query, bank.owners, prototypes, metric)
        if threshold is not None:
            thresholds = np.full(len(bank.names), threshold, np.float32)
        else:
            thresholds = np.where(np.isnan(bank.thresholds), np.float32(calibration.threshold(level)), bank.thresholds)
        weights = intercepts = None
        if classifier == "lr" and bank.names:
            shots = metric(bank.examples).astype(np.float64)
            weights, intercepts = (np.asarray(a, np.float32) for a in logistic.fit(shots, bank.owners, balanced=True))
        return cls(bank.names, metric, prototypes, thresholds, calibration, level, weights, intercepts)

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.names)}

    def index(self, name: str) -> int | None:
        """Row of a class; None where there is none of this name."""
        return self._indices.get(name)

    def similarities(self, features: Floats) -> Floats:
        """Cosines in the metric: float32 (N, D) features -> (N, C)."""
        return self.metric(features) @ self.prototypes.T

    def matches(self, features: Floats, *, topk: int = 5) -> list[Match]:
        """Decides on queries: float32 (N, D) features."""
        seen = self.metric(features)
        logits = [None] * len(seen) if self.weights is None else list(seen @ self.weights.T + self.intercepts)
        return [
            match(
                row, self.names, self.thresholds,
                temperature=self.calibration.temperature, sharpness=self.calibration.distance, topk=topk, logits=scores,
            )
            for row, scores in zip(seen @ self.prototypes.T, logits, strict=True)
        ]  # fmt: skip
