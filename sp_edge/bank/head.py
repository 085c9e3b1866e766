"""What decides on features: a bank's classes in the metric that suits them, each with a threshold, ready for a frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sp_edge.bank.bank import Bank
from sp_edge.errors import SettingsError
from sp_edge.matching import logistic
from sp_edge.matching.decide import Floats, Match, match
from sp_edge.matching.metric import Background, Metric
from sp_edge.matching.unknown import Calibration, Level

CLASSIFIERS = ("prototype", "lr")
ROUNDING = 1e-5  # of a cosine, from one way to compute it to another
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
        by_name: bool (C,), classes of the name alone, to which cosines are brought to the others' scale.
        rejects: bool (C,), what stands for no class: a query that is nearest to one is 'unknown'.
        calibration: of the probabilities.
        level: what the bank's shots say about distances.
        weights, intercepts: float32 (C, D) and (C,) of logistic regression on features in the metric; None for nearest
            prototypes.
        threshold: of every class, where one was given.
    """

    names: tuple[str, ...]
    metric: Metric
    prototypes: Floats
    thresholds: Floats
    by_name: NDArray[np.bool_]
    rejects: NDArray[np.bool_]
    calibration: Calibration
    level: Level
    weights: Floats | None = None
    intercepts: Floats | None = None
    threshold: float | None = None

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
        # Rejects are no one thing, and what a name says is no picture: neither tells how pictures of a class vary.
        shown = bank.pictured[bank.owners]
        metric = Metric.of(background, bank.query[shown], bank.owners[shown])
        return cls._in(metric, bank, calibration, classifier, threshold)

    def again(self, bank: Bank) -> Head:
        """That of the bank with other strengths or thresholds, but the same shots, by nearest prototypes."""
        return Head._in(self.metric, bank, self.calibration, "prototype", self.threshold)

    @classmethod
    def _in(cls, metric: Metric, bank: Bank, calibration: Calibration, classifier: str, threshold: float | None) -> Head:
        """As `of`, in a metric."""
        shown = bank.pictured[bank.owners]
        prototypes = np.asfortranarray(metric(bank.prototypes))
        level = _level(bank, shown, prototypes, metric)
        if threshold is not None:
            thresholds = np.full(len(bank.names), threshold, np.float32)
        else:
            calibrated = np.full(len(bank.names), calibration.threshold(level), np.float32)
            calibrated[bank.pictured] = _believing(bank, shown, prototypes, metric, calibration, level)
            if calibration.by_name is not None:
                calibrated[bank.by_name] = calibration.by_name.threshold
            thresholds = np.where(np.isnan(bank.thresholds), calibrated, bank.thresholds)
        weights = intercepts = None
        if classifier == "lr" and bank.names:
            shots = metric(bank.examples).astype(np.float64)
            weights, intercepts = (np.asarray(a, np.float32) for a in logistic.fit(shots, bank.owners, balanced=True))
        return cls(
            names=bank.names,
            metric=metric,
            prototypes=prototypes,
            thresholds=thresholds,
            by_name=bank.by_name,
            rejects=bank.rejecting,
            calibration=calibration,
            level=level,
            weights=weights,
            intercepts=intercepts,
            threshold=threshold,
        )

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.names)}

    def index(self, name: str) -> int | None:
        """Row of a class; None where there is none of this name."""
        return self._indices.get(name)

    def similarities(self, features: Floats) -> Floats:
        """Cosines in the metric, those to classes of the name alone on the others' scale: float32 (N, D) -> (N, C)."""
        return self._cosines(self.metric(features))

    def _cosines(self, seen: Floats) -> Floats:
        """As `similarities`, of features in the metric."""
        cosines = seen @ self.prototypes.T
        if self.calibration.by_name is not None and self.by_name.any():
            cosines[:, self.by_name] = self.calibration.by_name(cosines[:, self.by_name])
        return cosines

    def scores(self, features: Floats) -> Floats:
        """What the best class has most of: cosines or, of logistic regression, log-odds; float32 (N, D) -> (N, C)."""
        seen = self.metric(features)
        return self._cosines(seen) if self.weights is None else seen @ self.weights.T + self.intercepts

    def matches(self, features: Floats, *, topk: int = 5) -> list[Match]:
        """Decides on queries: float32 (N, D) features."""
        seen = self.metric(features)
        logits = [None] * len(seen) if self.weights is None else list(seen @ self.weights.T + self.intercepts)
        return [
            match(
                row, self.names, self.thresholds, rejects=self.rejects,
                temperature=self.calibration.temperature, sharpness=self.calibration.distance, topk=topk, logits=scores,
            )
            for row, scores in zip(self._cosines(seen), logits, strict=True)
        ]  # fmt: skip


def _level(bank: Bank, shown: NDArray[np.bool_], prototypes: Floats, metric: Metric) -> Level:
    """What the pictures of a bank's classes say about distances; all classes that a picture may be taken for are counted."""
    rows = np.flatnonzero(bank.pictured)
    found = Level.of(bank.query[shown], np.searchsorted(rows, bank.owners[shown]), prototypes[rows], metric)
    return replace(found, classes=int((~bank.rejecting).sum()))


def _believing(
    bank: Bank, shown: NDArray[np.bool_], prototypes: Floats, metric: Metric, calibration: Calibration, level: Level
) -> Floats:
    """The calibrated thresholds of the classes with pictures, float32: with each, half of the class's own are believed.

    A prompt takes a prototype away from its pictures, by strength, and all cosines to it fall. So the threshold follows that of
    the middle shot, the lower of two, but at most half the way down to where unrelated pictures are.
    """
    usual = calibration.threshold(level)
    owners = np.cumsum(bank.pictured)[bank.owners[shown]] - 1
    own = (metric(bank.query[shown]) * prototypes[bank.owners[shown]]).sum(axis=1)
    counts = np.bincount(owners)
    ordered = own[np.lexsort((own, owners))]
    middle = ordered[np.cumsum(counts) - counts + (counts - 1) // 2] - ROUNDING
    return np.clip(middle, min(usual, (usual + level.similarity(calibration.unrelated)) / 2), usual).astype(np.float32)
