"""Shows where the network looks: the attention of its last block, with and without a prompt."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sp_edge.model.network import PromptedVisformer, normalise


@torch.no_grad()
def attention_map(
    network: PromptedVisformer, image: NDArray[np.uint8], prompt: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """How much each patch is attended to in the last block, averaged over its heads.

    With a prompt, by the prompt's token; without one, by all patches on average.

    Args:
        image: uint8 (H, W, 3) RGB, preprocessed.
        prompt: float32 (T,) or None.

    Returns:
        float32 (h, w), h and w the last stage's grid, non-negative, with sum 1.
    """
    seen: list[Tensor] = []
    attention: Any = network.backbone.stage3[-1].attn
    hook = attention.qkv.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    try:
        tokens = network.begin(normalise(torch.from_numpy(image[None])))
        network.finish(tokens, None if prompt is None else torch.from_numpy(prompt[None]))
    finally:
        hook.remove()
    query, key, _ = seen[0].reshape(3, attention.num_heads, attention.head_dim, -1).float()
    weights = (query.transpose(1, 2) @ key * attention.scale).softmax(dim=-1).mean(dim=0)
    height, width = tokens.shape[2:]
    prompted = prompt is not None and network.prompt is not None and network.prompt.spatial is not None
    patches = weights[0, 1:] if prompted else weights.mean(dim=0)[-height * width :]
    share: NDArray[np.float32] = (patches / patches.sum()).reshape(height, width).numpy()
    return share
