"""The transformer of sentence encoders of BERT's form (arXiv 1810.04805), in few operators: quick to load and to export."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_MASKED = -1e4  # is 0 after the softmax
_EPSILON = 1e-12


class Layer(nn.Module):
    """Self-attention and two dense layers, each followed by its sum with what came in, normalized."""

    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.mixed = (nn.Linear(width, width) for _ in range(4))
        self.wide, self.narrow = nn.Linear(width, inner), nn.Linear(inner, width)
        self.after_attention, self.after = (nn.LayerNorm(width, eps=_EPSILON) for _ in range(2))

    def forward(self, tokens: Tensor, masked: Tensor) -> Tensor:
        """Float (N, L, C), and (N, 1, 1, L) to add to the scores -> (N, L, C)."""
        query, key, value = (
            part(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        weights = (query @ key.transpose(2, 3) / math.sqrt(query.shape[3]) + masked).softmax(dim=3)
        tokens = self.after_attention(tokens + self.mixed((weights @ value).transpose(1, 2).flatten(2)))
        out: Tensor = self.after(tokens + self.narrow(functional.gelu(self.wide(tokens))))
        return out


class SentenceBert(nn.Module):
    """Token ids to one vector of length one: the mean of the last layer's tokens under the mask (arXiv 1908.10084).

    Args:
        heads: of the attention.
        weights: of transformers' BertModel, by its names, whose shapes say all else.
    """

    def __init__(self, heads: int, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        words, places = weights["embeddings.word_embeddings.weight"], weights["embeddings.position_embeddings.weight"]
        width, inner = words.shape[1], len(weights["encoder.layer.0.intermediate.dense.bias"])
        depth = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.layer."))
        self.words = nn.Embedding(*words.shape)
        self.places = nn.Parameter(torch.empty(places.shape))
        self.begin = nn.LayerNorm(width, eps=_EPSILON)
        self.layers = nn.ModuleList(Layer(width, inner, heads) for _ in range(depth))
        self._load(weights)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """int64 (N, L) twice -> float32 (N, C)."""
        counted = mask.float()
        masked = (1 - counted)[:, None, None] * _MASKED
        tokens = self.begin(self.words(ids) + self.places[: ids.shape[1]])
        for layer in self.layers:
            tokens = layer(tokens, masked)
        mean = (tokens * counted[:, :, None]).sum(dim=1) / counted.sum(dim=1, keepdim=True)
        return functional.normalize(mean, dim=1)

    @torch.no_grad()
    def _load(self, weights: Mapping[str, Tensor]) -> None:
        self.words.weight.copy_(weights["embeddings.word_embeddings.weight"])
        # Every token is of the first of two sentences.
        self.places.copy_(
            weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
        )
        _copy(self.begin, weights, "embeddings.LayerNorm")
        parts = {
            "query": "attention.self.query",
            "key": "attention.self.key",
            "value": "attention.self.value",
            "mixed": "attention.output.dense",
            "after_attention": "attention.output.LayerNorm",
            "wide": "intermediate.dense",
            "narrow": "output.dense",
            "after": "output.LayerNorm",
        }
        for number, layer in enumerate(self.layers):
            for ours, theirs in parts.items():
                _copy(getattr(layer, ours), weights, f"encoder.layer.{number}.{theirs}")


def _copy(part: Any, weights: Mapping[str, Tensor], name: str) -> None:
    part.weight.copy_(weights[f"{name}.weight"])
    part.bias.copy_(weights[f"{name}.bias"])
