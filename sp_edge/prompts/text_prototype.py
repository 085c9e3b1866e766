"""The text prototype t(g): what a class's prompt alone says of its feature, computed without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sp_edge.errors import PromptError
from sp_edge.tensors import read_tensors, save_tensors

KIND = "text prototype"


@dataclass(frozen=True, eq=False)
class TextPrototype:
    """A function of prompts: the raw feature that a class of this name is expected to have.

    It has two forms. Of a trained network it is linear, t(g) = A g + b. Where A g + b gives a direction alone, as of a
    ready-made network's classifier, features stand around their mean m: t(g) = n (m + c unit(A g + b)).

    Attributes:
        weight: float32 (D, T), A.
        bias: float32 (D,), b.
        mean: float32 (D,), m, the mean of features of length one; None for the linear form.
        reach: c, above 0: how far a class's feature of length one lies from m.
        length: n, above 0, that of a usual raw feature.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    mean: NDArray[np.float32] | None = None
    reach: float = 1.0
    length: float = 1.0

    def __post_init__(self) -> None:
        if self.weight.ndim != 2 or not self.weight.size:
            got = str(self.weight.shape)
            raise PromptError("the text prototype's weight does not fit", expected="float32 (D, T)", got=got)
        dim, text = self.weight.shape
        forms = {"weight": (self.weight, (dim, text)), "bias": (self.bias, (dim,))}
        if self.mean is not None:
            forms["mean"] = self.mean, (dim,)
        for name, (value, shape) in forms.items():
            if value.dtype != np.float32 or value.shape != shape:
                got = f"{value.dtype} {value.shape}"
                raise PromptError(f"the text prototype's {name} does not fit", expected=f"float32 {shape}", got=got)
        finite = all(np.isfinite(value).all() for value, _ in forms.values())
        if not (finite and 0 < self.reach < np.inf and 0 < self.length < np.inf):
            raise PromptError("the text prototype holds impossible numbers", expected="finite ones, reach and length above 0")

    @property
    def text_dim(self) -> int:
        """T, the length of a prompt."""
        return int(self.weight.shape[1])

    @property
    def feature_dim(self) -> int:
        """D, the length of a feature."""
        return int(self.weight.shape[0])

    def __call__(self, prompts: NDArray[np.float32]) -> NDArray[np.float32]:
        """What prompts, float32 (n, T), say: raw features, float32 (n, D)."""
        said = prompts.astype(np.float64) @ self.weight.T.astype(np.float64) + self.bias
        if self.mean is not None:
            direction = said / np.maximum(np.linalg.norm(said, axis=1, keepdims=True), 1e-12)
            said = self.length * (self.mean + self.reach * direction)
        return said.astype(np.float32)

    def save(self, path: Path) -> None:
        """Writes one safetensors file, atomically."""
        tensors = {"weight": self.weight, "bias": self.bias} | ({} if self.mean is None else {"mean": self.mean})
        save_tensors(path, tensors, {"kind": KIND, "reach": self.reach, "length": self.length})

    @classmethod
    def read(cls, content: bytes, name: str) -> TextPrototype:
        """What `save` wrote, from the file's content; `name` is for messages.

        Raises:
            PromptError: damaged, or something else.
        """
        tensors, described = read_tensors(content, name, PromptError)
        numbers = [described.get(key) for key in ("reach", "length")]
        if (
            described.get("kind") != KIND
            or not {"weight", "bias"} <= set(tensors)
            or not all(type(number) in (int, float) for number in numbers)
        ):
            raise PromptError(
                f"{name} does not hold a text prototype", expected="weight, bias, reach and length", got=str(list(tensors))
            )
        reach, length = map(float, numbers)  # type: ignore[arg-type]
        return cls(tensors["weight"], tensors["bias"], tensors.get("mean"), reach, length)
