"""The text prototype of a network: what a class's text alone says of its feature."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sp_edge.model.places import unit_rows
from sp_edge.prompts.text_prototype import TextPrototype


class TextMap(nn.Linear):
    """t(g), as `sp_edge.prompts.text_prototype` computes it without torch.

    Args:
        text_dim: T.
        dim: D.
        directional: t(g) = n (m + c unit(A g + b)), with buffers `mean` (D,), `reach` and `length` for m, c and n; else
            t(g) = A g + b.
    """

    def __init__(self, text_dim: int, dim: int, *, directional: bool = False) -> None:
        super().__init__(text_dim, dim)
        self.mean: Tensor | None
        self.reach: Tensor
        self.length: Tensor
        self.register_buffer("mean", torch.zeros(dim) if directional else None)
        if directional:
            self.register_buffer("reach", torch.ones(()))
            self.register_buffer("length", torch.ones(()))

    @property
    def fitted(self) -> bool:
        """Whether a directional one has been set."""
        return self.mean is not None and bool(self.mean.any())

    @torch.no_grad()
    def set(
        self,
        weight: NDArray[np.floating],
        bias: NDArray[np.floating],
        mean: NDArray[np.floating] | None = None,
        reach: float = 1.0,
        length: float = 1.0,
    ) -> None:
        """Takes A (D, T) and b (D,), and of a directional one m (D,), c and n."""
        self.weight.copy_(torch.from_numpy(weight))
        self.bias.copy_(torch.from_numpy(bias))
        if self.mean is not None:
            self.mean.copy_(torch.from_numpy(mean))
            self.reach.fill_(reach)
            self.length.fill_(length)

    def forward(self, prompt: Tensor) -> Tensor:
        """Text (B, T) -> raw features (B, D)."""
        said = super().forward(prompt)
        return said if self.mean is None else self.length * (self.mean + self.reach * unit_rows(said))

    def to_numpy(self) -> TextPrototype:
        """The same without torch."""
        weight, bias = (np.ascontiguousarray(value.detach().cpu().numpy()) for value in (self.weight, self.bias))
        if self.mean is None:
            return TextPrototype(weight, bias)
        return TextPrototype(weight, bias, self.mean.cpu().numpy(), float(self.reach), float(self.length))
