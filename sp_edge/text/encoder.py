"""What every text encoder is: from sentences to vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from sp_edge.errors import PromptError
from sp_edge.prompts.reading import Reading


class TextEncoder(Protocol):
    """Turns sentences into vectors, always the same ones, each on its own.

    Attributes:
        name: as `TextSettings.encoder` names it.
        revision: digest of the weights.
        dim: T, how many numbers a vector has.
    """

    name: str
    revision: str
    dim: int

    def encode(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """As the encoder gives them, of any length: n texts -> float32 (n, T).

        Raises:
            PromptError: a sentence that the encoder cannot read, or not to its end.
        """

    def reading(self, text: str) -> Reading:
        """What of a text the encoder's tokenizer knows."""


def digest(weights: Mapping[str, torch.Tensor]) -> str:
    """Hex digest of weights by name, whatever file they came in; 12 characters."""
    result = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        result.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        result.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return result.hexdigest()[:12]


def no_weights(name: str, place: str, cause: Exception) -> PromptError:
    """The error for an encoder whose weights are neither here nor to be had."""
    return PromptError(
        f"cannot load the text encoder {name}",
        expected=f"its weights in the hub's cache, or a network to download {place}",
        got=" ".join(str(cause).split())[:300],
        next_step=f"on a machine with internet: sp-edge prompts --set text.encoder={name} --names-file names.txt --out FILE; "
        "then here: text.encoder=file and text.path=FILE",
    )
