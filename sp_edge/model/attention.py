"""Shows where the network looks, with a prompt and without: what its feature depends on, and what its last block attends to."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sp_edge.errors import SettingsError
from sp_edge.model.network import PromptedNetwork, PromptedVisformer


@torch.no_grad()
def attention_map(
    network: PromptedNetwork, image: NDArray[np.uint8], prompt: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """How much each patch is attended to in the last block, averaged over its heads.

    By the prompt's token where that reaches the last block; else by all patches on average.

    Args:
        network: a `PromptedVisformer`.
        image: uint8 (H, W, 3) RGB, preprocessed.
        prompt: float32 (T,) or None.

    Returns:
        float32 (h, w), h and w the last stage's grid, non-negative, with sum 1.

    Raises:
        SettingsError: a network without attention, or a prompt for one that knows none.
    """
    if not isinstance(network, PromptedVisformer):
        raise SettingsError(
            "this network's attention is not known", expected="a Visformer", got=type(network.backbone).__name__
        )
    seen: list[Tensor] = []
    attention: Any = network.backbone.stage3[-1].attn
    hook = attention.qkv.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    try:
        tokens = network.begin(network.normalise(torch.from_numpy(image[None])))
        network.finish(tokens, None if prompt is None else torch.from_numpy(prompt[None]))
    finally:
        hook.remove()
    query, key, _ = seen[0].reshape(3, attention.num_heads, attention.head_dim, -1).float()
    weights = (query.transpose(1, 2) @ key * attention.scale).softmax(dim=-1).mean(dim=0)
    height, width = network.backbone.pos_embed3.shape[2:]
    has_token = len(weights) > height * width
    patches = weights[0, 1:] if has_token else weights.mean(dim=0)
    share: NDArray[np.float32] = (patches / patches.sum()).reshape(height, width).numpy()
    return share


@torch.no_grad()
def dependence_map(
    network: PromptedNetwork, image: NDArray[np.uint8], prompt: NDArray[np.float32] | None, *, cells: int = 6
) -> NDArray[np.float32]:
    """How much of the feature hangs on each part of a picture, found by covering it (occlusion sensitivity).

    A grey square, two cells wide, covers each cell with its surroundings in turn; the cell's value is how far the feature
    turns, 1 - cosine. It needs no attention, and its grid can be finer than the network's own. The feature is f(x) or
    f(x | g(y)) itself: at full strength, since the map is to show what a prompt does, and without the text prototype, which
    depends on no picture.

    Args:
        image: uint8 (H, W, 3) RGB, preprocessed.
        prompt: float32 (T,) or None.

    Returns:
        float32 (cells, cells), non-negative, with sum 1.
    """
    height, width = image.shape[:2]
    mean = image.mean(axis=(0, 1)).astype(np.uint8)
    pictures = [image]
    for row in range(cells):
        for column in range(cells):
            covered = image.copy()
            top, left = (int((i - 0.5) * side / cells) for i, side in ((row, height), (column, width)))
            bottom, right = (int((i + 1.5) * side / cells) for i, side in ((row, height), (column, width)))
            covered[max(0, top) : bottom, max(0, left) : right] = mean
            pictures.append(covered)
    prompts = None if prompt is None else torch.from_numpy(np.tile(prompt, (len(pictures), 1)))
    tokens = network.begin(network.normalise(torch.from_numpy(np.stack(pictures))))
    features = functional.normalize(network._encode(tokens, prompts), dim=1)
    turned = (1 - features[1:] @ features[0]).clamp(min=0)
    share: NDArray[np.float32] = (turned / turned.sum().clamp(min=1e-12)).reshape(cells, cells).numpy()
    return share
