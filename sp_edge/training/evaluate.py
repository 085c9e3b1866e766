"""Measures a network on episodes of classes that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sp_edge.data.episodes import Accuracy, Features, episode_accuracy
from sp_edge.data.pictures import PictureSet
from sp_edge.model import PromptedVisformer
from sp_edge.model.network import normalise
from sp_edge.prompts import PromptTable

SHOTS = (1, 5)


@torch.no_grad()
def encode(
    network: PromptedVisformer, images: NDArray[np.uint8], prompts: NDArray[np.float32] | None, *, batch_size: int = 128
) -> Features:
    """Encodes every picture once as a query and once as a support, in float32 and eval mode.

    Args:
        images: uint8 (n, H, W, 3) RGB.
        prompts: float32 (n, T), each picture's class prompt; None where the support is encoded without.
    """
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    queries: list[Tensor] = []
    supports: list[Tensor] = []
    for start in range(0, len(images), batch_size):
        rows = slice(start, start + batch_size)
        tokens = network.begin(normalise(torch.from_numpy(images[rows]).to(device)))
        queries.append(network.finish(tokens).cpu())
        if prompts is not None:
            supports.append(network.finish(tokens, torch.from_numpy(prompts[rows]).to(device)).cpu())
    network.train(was_training)
    query = torch.cat(queries).numpy()
    return Features(query, torch.cat(supports).numpy() if prompts is not None else query)


def class_prompts(network: PromptedVisformer, pictures: PictureSet, table: PromptTable) -> NDArray[np.float32] | None:
    """Each picture's class prompt, float32 (n, T), or None where the network knows no prompts."""
    return None if network.prompt is None else table.select(pictures.class_names)[pictures.labels]


def evaluate(
    network: PromptedVisformer,
    pictures: PictureSet,
    prompts: NDArray[np.float32] | None,
    *,
    n_way: int = 5,
    shots: Sequence[int] = SHOTS,
    n_query: int = 15,
    episodes: int = 2000,
    seed: int = 0,
) -> dict[str, dict[str, Accuracy]]:
    """Accuracy for each number of shots ('1-shot') and each group of pictures ('clutter').

    Args:
        prompts: as in `encode`.
        n_way, n_query, episodes: of the protocol.

    Raises:
        DataError: fewer classes than ways, or pictures than shots and queries.
    """
    features = encode(network, pictures.images, prompts)
    return accuracies(features, pictures, n_way=n_way, shots=shots, n_query=n_query, episodes=episodes, seed=seed)


def accuracies(
    features: Features, pictures: PictureSet, *, n_way: int, shots: Sequence[int], n_query: int, episodes: int, seed: int
) -> dict[str, dict[str, Accuracy]]:
    """As `evaluate`, of features that are there already."""
    return {
        f"{n_shot}-shot": {
            group: episode_accuracy(
                features.only(rows),
                pictures.labels[rows],
                n_way=n_way,
                n_shot=n_shot,
                n_query=n_query,
                episodes=episodes,
                seed=seed,
            )
            for group, rows in pictures.groups.items()
        }
        for n_shot in shots
    }
