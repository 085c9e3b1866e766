"""How much of a class's name a model has learned to read: its leverage in the ridge regression from base names to looks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sp_edge.errors import PromptError
from sp_edge.tensors import read_tensors, save_tensors

KIND = "familiarity"
RIDGE = 1e-3  # lambda, as a share of the base names' mean squared distance from their mean
USUAL = 0.9  # quantile of the base names' leverages up to which a name is as good as any of them
LITTLE = 0.5  # familiarity below which a user is told


@dataclass(frozen=True, eq=False)
class Familiarity:
    """A function of prompts: 1 for a name like those of the base classes, towards 0 for one that tells the model nothing.

    A ridge regression on the base classes' vectors X, centred on their mean mu, predicts at a vector y with the variance
    sigma^2 (1 + l(y)), where l(y) = (y - mu)^T (X^T X + lambda I)^-1 (y - mu) is the leverage of y, a squared Mahalanobis
    distance from the base names (Hoerl and Kennard, Technometrics 1970; Bishop, Pattern Recognition and Machine Learning,
    2006, equation 3.59). Familiarity compares it with a leverage that is usual for base names left out of X:
    f(y) = min(1, (1 + l_usual) / (1 + l(y))). A class gets f of the prompt's strength, so that a name that the model cannot
    read leaves the pictures alone. lambda is small whatever the text prototype's own is: a strong one makes all names alike.

    Attributes:
        mean: float32 (T,), mu.
        factor: float32 (T, T), W with W^T W = (X^T X + lambda I)^-1, so that l(y) = |W (y - mu)|^2.
        usual: l_usual, 0 or more: a quantile of the base names' leverages, each left out in turn, or the highest of one within.
    """

    mean: NDArray[np.float32]
    factor: NDArray[np.float32]
    usual: float

    def __post_init__(self) -> None:
        dim = self.mean.shape[:1]
        for name, value, shape in (("mean", self.mean, dim), ("factor", self.factor, dim + dim)):
            if value.dtype != np.float32 or value.shape != shape or not value.size:
                got = f"{value.dtype} {value.shape}"
                raise PromptError(f"the familiarity's {name} does not fit", expected=f"float32 {shape}", got=got)
        if not (np.isfinite(self.mean).all() and np.isfinite(self.factor).all() and 0 <= self.usual < np.inf):
            raise PromptError("the familiarity holds impossible numbers", expected="finite ones, a usual leverage from 0 up")

    @classmethod
    def of(cls, names: NDArray[np.float32]) -> Familiarity:
        """Of the vectors of n base classes, float32 (n, T).

        Raises:
            PromptError: fewer than two vectors, or numbers that cannot be.
        """
        count = len(names)
        if count < 2:
            raise PromptError("one name tells nothing about others", expected="2 or more base classes", got=str(count))
        wide = names.astype(np.float64)
        mean = wide.mean(axis=0)
        centred = wide - mean
        values, vectors = np.linalg.eigh(centred.T @ centred)
        penalty = RIDGE * max(float(np.square(centred).sum(axis=1).mean()), 1e-12)
        factor = vectors.T / np.sqrt(np.maximum(values, 0) + penalty)[:, None]
        # Without row i, mean and scatter change by multiples of x_i alone, so that its leverage follows from the one within.
        within = np.square(centred @ factor.T).sum(axis=1)
        growth = count / (count - 1)
        left_out = growth**2 * within / np.maximum(1 - growth * within, 1e-12)
        usual = max(float(np.quantile(left_out, USUAL)), float(within.max()))  # no base name is strange
        return cls(mean.astype(np.float32), factor.astype(np.float32), usual)

    def leverage(self, prompts: NDArray[np.float32]) -> NDArray[np.float64]:
        """The leverage l of prompts (..., T), 0 or more: float64 (...)."""
        away = prompts.astype(np.float64) - self.mean
        return np.asarray(np.square(away @ self.factor.T.astype(np.float64)).sum(axis=-1))

    def __call__(self, prompts: NDArray[np.float32]) -> NDArray[np.float64]:
        """The familiarity f of prompts (..., T), 0 to 1: float64 (...)."""
        return np.minimum(1, (1 + self.usual) / (1 + self.leverage(prompts)))

    def save(self, path: Path) -> None:
        """Writes one safetensors file, atomically."""
        save_tensors(path, {"mean": self.mean, "factor": self.factor}, {"kind": KIND, "usual": self.usual})

    @classmethod
    def read(cls, content: bytes, name: str) -> Familiarity:
        """What `save` wrote, from the file's content; `name` is for messages.

        Raises:
            PromptError: damaged, or something else.
        """
        tensors, described = read_tensors(content, name, PromptError)
        usual = described.get("usual")
        if described.get("kind") != KIND or set(tensors) != {"mean", "factor"} or not isinstance(usual, float):
            raise PromptError(f"{name} does not hold a familiarity", expected="mean, factor and usual", got=str(list(tensors)))
        return cls(**tensors, usual=usual)
