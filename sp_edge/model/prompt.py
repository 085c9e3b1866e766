"""Semantic Prompt: how a class's text embedding enters the visual tokens (Chen et al., CVPR 2023, arXiv 2303.14123)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SemanticPrompt(nn.Module):
    """Joins a text embedding g(y) to the patch tokens z_1..z_M of one layer.

    Spatial interaction (section 4.2): h_s(g(y)) becomes one more token, which the following self-attention mixes with
    the patches. Channel interaction (section 4.3): beta = sigmoid(W2 sigmoid(W1 [z_c; h_c(g(y))] + b1) + b2), with z_c
    the mean patch, is added to every patch.

    Args:
        text_dim: T, length of the text embedding.
        dim: C, channels of the tokens.
        spatial, channel: which interactions take part; at least one.
    """

    def __init__(self, text_dim: int, dim: int, *, spatial: bool = True, channel: bool = True) -> None:
        super().__init__()
        self.spatial = nn.Linear(text_dim, dim, bias=False) if spatial else None
        self.channel = nn.Linear(text_dim, dim, bias=False) if channel else None
        self.channel_mlp = (
            nn.Sequential(nn.Linear(2 * dim, dim), nn.Sigmoid(), nn.Linear(dim, dim), nn.Sigmoid()) if channel else None
        )

    def forward(self, tokens: Tensor, prompt: Tensor) -> Tensor:
        """Prompts the tokens.

        Args:
            tokens: float (B, C, H, W) patch map.
            prompt: float (B, T) text embeddings.

        Returns:
            float (B, C, M, 1) with M = H * W patches; with spatial interaction (B, C, M + 1, 1), the prompt's token first.
        """
        patches = tokens.flatten(2)
        if self.channel is not None and self.channel_mlp is not None:
            context = torch.cat([patches.mean(dim=2), self.channel(prompt)], dim=1)
            patches = patches + self.channel_mlp(context).unsqueeze(2)
        if self.spatial is not None:
            patches = torch.cat([self.spatial(prompt).unsqueeze(2).to(patches.dtype), patches], dim=2)
        return patches.unsqueeze(3)
