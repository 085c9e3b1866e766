"""Semantic Prompt: how a class's text embedding enters the visual tokens (Chen et al., CVPR 2023, arXiv 2303.14123)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sp_edge.errors import SettingsError


class SemanticPrompt(nn.Module):
    """Joins a text embedding g(y) to the patch tokens z_1..z_M of one layer.

    Channel interaction (section 4.3) comes first. With z_c the mean patch and z_0 = h_c(g(y)),
    beta = sigmoid(W2 sigmoid(W1 [z_c; z_0] + b1) + b2), beta <- beta - mean(beta), and every patch becomes z_i + beta.
    Taking beta's mean over the channels off is the authors' release; their paper adds beta as it is.

    Spatial interaction (section 4.2): h_s(g(y)) becomes one more token, which beta does not touch and which the following
    self-attention mixes with the patches.

    h_c is linear. h_s is W_1 g for 'linear', W_2 r(W_1 g + b_1) for 'mlp', W_3 r(W_2 r(W_1 g + b_1) + b_2) for 'mlp3',
    hidden layers as wide as the text, r = max(0, .): the paper names no activation.

    Args:
        text_dim: T, length of the text embedding.
        dim: C, channels of the tokens.
        spatial, channel: which interactions take part; at least one.
        projector: h_s, linear, mlp or mlp3.
        zero_mean: whether beta's mean over the channels is taken off.
    """

    def __init__(
        self,
        text_dim: int,
        dim: int,
        *,
        spatial: bool = True,
        channel: bool = True,
        projector: str = "linear",
        zero_mean: bool = True,
    ) -> None:
        super().__init__()
        self.spatial = _projector(projector, text_dim, dim) if spatial else None
        self.channel = nn.Linear(text_dim, dim, bias=False) if channel else None
        self.channel_mlp = (
            nn.Sequential(nn.Linear(2 * dim, dim), nn.Sigmoid(), nn.Linear(dim, dim), nn.Sigmoid()) if channel else None
        )
        self.zero_mean = zero_mean

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
            beta = self.channel_mlp(torch.cat([patches.mean(dim=2), self.channel(prompt)], dim=1))
            if self.zero_mean:
                beta = beta - beta.mean(dim=1, keepdim=True)
            patches = patches + beta.unsqueeze(2)
        if self.spatial is not None:
            patches = torch.cat([self.spatial(prompt).unsqueeze(2).to(patches.dtype), patches], dim=2)
        return patches.unsqueeze(3)


def _projector(kind: str, text_dim: int, dim: int) -> nn.Module:
    if kind == "linear":
        return nn.Linear(text_dim, dim, bias=False)
    hidden = {"mlp": 1, "mlp3": 2}.get(kind)
    if hidden is None:
        raise SettingsError("unknown projector", expected="linear, mlp or mlp3", got=kind)
    layers = [layer for _ in range(hidden) for layer in (nn.Linear(text_dim, text_dim), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(text_dim, dim, bias=False))
