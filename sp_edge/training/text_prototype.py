"""The text prototype: what a class's text alone says of its feature, a linear map fitted on the base classes.

An episode rewards the network for knowing base classes by name, and novel classes punish it for that. A linear map with
a ridge cannot learn names by heart: how much it may believe the text is measured on classes left out of the fit. Mixed
with the picture's own feature (compare AM3, Xing et al., NeurIPS 2019, arXiv 1902.07104, which learns the mixture in
episodes), it helps as far as looks follow from words, and the share that it gets is chosen on validation classes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sp_edge.data.pictures import PictureSet
from sp_edge.errors import DataError
from sp_edge.matching.decide import class_sums, unit
from sp_edge.model import PromptedNetwork
from sp_edge.prompts.familiarity import Familiarity
from sp_edge.prompts.table import PromptTable
from sp_edge.training.evaluate import encode
from sp_edge.training.lower_layers import Kept

RIDGES = np.logspace(-4, 2, 13)
PER_CLASS = 64


@dataclass(frozen=True)
class TextFit:
    """How well text tells the look of a class.

    Attributes:
        classes: how many the map was fitted on.
        ridge: the penalty, as a share of the text vectors' mean squared distance from their mean.
        explained: share of the class prototypes' variance that the map explains for classes left out of the fit, one at a
            time; at most 1; 0 or less where text tells nothing.
        factor: by which a map of other names counts that was there before (`fit_beyond`); None where there was none.
    """

    classes: int
    ridge: float
    explained: float
    factor: float | None = None


@dataclass(frozen=True, eq=False)
class BaseClasses:
    """What a network and the prompts make of the base classes.

    Attributes:
        rows: int64 (n,), the pictures that were looked at: of each class, at most the first 64.
        features: float32 (n, D), without prompts.
        means: float64 (C, D), of each class's features.
        text: float32 (C, T), of each class's name.
    """

    rows: NDArray[np.int64]
    features: NDArray[np.float32]
    means: NDArray[np.float64]
    text: NDArray[np.float32]

    @classmethod
    def of(cls, network: PromptedNetwork, pictures: PictureSet, prompts: PromptTable, kept: Kept | None = None) -> BaseClasses:
        """Encodes the pictures, or takes their features from what was kept of them.

        Args:
            pictures: the base classes'; of each class, at most the first 64 are looked at.
            prompts: hold every base class's name.
            kept: what the layers before the prompt gave of the pictures, where that is known.

        Raises:
            DataError: a feature is not finite.
        """
        rows = np.concatenate([np.flatnonzero(pictures.labels == label)[:PER_CLASS] for label in np.unique(pictures.labels)])
        if kept is not None and kept.features is not None:
            features = kept.features[rows, 0].astype(np.float32)
        else:
            features = encode(network, pictures.images[rows], None).query
        if not np.isfinite(features).all():
            raise DataError("the network's features are not finite", expected="numbers", next_step="lower the lr of training")
        present, index = np.unique(pictures.labels[rows], return_inverse=True)
        means = class_sums(features, index, len(present)) / np.bincount(index)[:, None]
        return cls(rows, features, means, prompts.select([pictures.class_names[label] for label in present]))


def fit_text_prototype(network: PromptedNetwork, base: BaseClasses, familiar: NDArray[np.float32] | None = None) -> TextFit:
    """Sets the weights of `network.text_prototype`, in closed form, and `network.familiarity`.

    The linear form is fitted to the classes' mean features. The directional one is fitted to their directions from the mean
    m of features of length one; its reach is how far they are from m on average. Where it knows names already, as one does
    that started from a ready-made network, it goes on from there (`fit_beyond`).

    Args:
        network: one with a text prototype; otherwise as training left it, and left so.
        base: what it makes of the base classes.
        familiar: float32 (n, T), the text of all names that it is fitted to; by default the base classes'.

    Raises:
        DataError: fewer than three classes.
    """
    assert network.text_prototype is not None  # noqa: S101 - the caller's, not the user's mistake
    layer = network.text_prototype
    text = base.text.astype(np.float64)
    if layer.mean is None:
        weight, bias, fit = fit_ridge(text, base.means)
        layer.set(weight, bias)
    else:
        directions = unit(base.means).astype(np.float64)
        mean = directions.mean(axis=0)
        known = _wide(layer.weight), _wide(layer.bias)
        weight, bias, fit = fit_beyond(known, text, directions - mean) if layer.fitted else fit_ridge(text, directions - mean)
        reach, length = (float(np.linalg.norm(rows, axis=1).mean()) for rows in (directions - mean, base.features))
        layer.set(weight, bias, mean, reach, length)
    network.familiarity = Familiarity.of(base.text if familiar is None else familiar)
    return fit


def _wide(values: Tensor) -> NDArray[np.float64]:
    return values.detach().cpu().numpy().astype(np.float64)


def fit_beyond(
    known: tuple[NDArray[np.float64], NDArray[np.float64]], text: NDArray[np.float64], prototypes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], TextFit]:
    """As `fit_ridge`, of what a map that is there already leaves to be said; returns the sum of both.

    Few classes tell little of what other names look like. So the map of many names stays, by the factor, 0 or more, that
    leaves the least to be said.

    Args:
        known: A0 float64 (D, T) and b0 float64 (D,).
    """
    said = text @ known[0].T + known[1]
    around, wanted = said - said.mean(axis=0), prototypes - prototypes.mean(axis=0)
    factor = max(0.0, float((around * wanted).sum()) / max(float(np.square(around).sum()), 1e-12))
    weight, bias, fit = fit_ridge(text, prototypes - factor * said)
    left = float(np.square(wanted - factor * around).sum()) / max(float(np.square(wanted).sum()), 1e-12)
    explained = 1 - left * (1 - fit.explained)
    return factor * known[0] + weight, factor * known[1] + bias, dataclasses.replace(fit, explained=explained, factor=factor)


def check_classes(count: int) -> None:
    """Refuses base classes that are too few to tell what follows from their names.

    Raises:
        DataError: fewer than three.
    """
    if count < 3:
        raise DataError(
            "too few base classes for a text prototype",
            expected="3 or more",
            got=str(count),
            next_step="model.text_prototype=false",
        )


def fit_ridge(
    text: NDArray[np.float64], prototypes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], TextFit]:
    """Ridge regression from text vectors, float64 (n, T), to class prototypes, float64 (n, D).

    Its penalty is chosen by leaving one class out.

    Returns:
        Weight float64 (D, T), bias float64 (D,), and how well they do.

    Raises:
        DataError: fewer than three classes.
    """
    from sklearn.linear_model import RidgeCV

    check_classes(len(text))
    scale = max(float(np.square(text - text.mean(axis=0)).sum(axis=1).mean()), 1e-12)
    model = RidgeCV(alphas=RIDGES * scale, scoring=None).fit(text, prototypes)
    # Its score is minus the mean squared error on the class left out; the mean of the others is the guess to beat.
    guess = np.square((prototypes - prototypes.mean(axis=0)) * len(text) / (len(text) - 1)).mean()
    explained = 1 + float(model.best_score_) / max(float(guess), 1e-12)
    return model.coef_, model.intercept_, TextFit(len(text), float(model.alpha_ / scale), explained)
