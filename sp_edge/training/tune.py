"""The second stage: episodes in which support pictures are encoded with their class's prompt and queries without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional

from sp_edge.data.episodes import EpisodeSampler
from sp_edge.data.pictures import PictureSet
from sp_edge.model import PromptedVisformer
from sp_edge.model.network import normalise
from sp_edge.prompts import PromptTable
from sp_edge.settings import Settings
from sp_edge.training.augment import augment
from sp_edge.training.loop import ParameterGroup, StageLog, run_stage


class EpisodeLoss(nn.Module):
    """One episode's loss: cross-entropy over cos(query, prototype) / tau (equation 3 of the paper)."""

    def __init__(self, network: PromptedVisformer, *, n_query: int, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.n_query, self.temperature = n_query, temperature

    def forward(self, images: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and accuracy of an episode.

        Args:
            images: uint8 (n_way * (n_shot + n_query), H, W, 3) RGB: all support by way, then all queries by way.
            prompts: float32 (n_way, T); (n_way, 0) where the network knows none.

        Returns:
            Two 0-d tensors.
        """
        n_way = len(prompts)
        support = len(images) - n_way * self.n_query
        tokens = self.network.begin(normalise(images))
        each = prompts.repeat_interleave(support // n_way, dim=0) if self.network.prompt is not None else None
        shots = self.network.finish(tokens[:support], each).float()
        prototypes = functional.normalize(shots.reshape(n_way, support // n_way, -1).mean(dim=1), dim=1)
        queries = functional.normalize(self.network.finish(tokens[support:]).float(), dim=1)
        logits = queries @ prototypes.T / self.temperature
        labels = torch.arange(n_way, device=logits.device).repeat_interleave(self.n_query)
        return functional.cross_entropy(logits, labels), (logits.argmax(dim=1) == labels).float().mean()


def base_episodes(pictures: PictureSet, settings: Settings) -> tuple[PictureSet, list[EpisodeSampler]]:
    """The base pictures that the stage uses, and a sampler of its episodes for each number of shots.

    Raises:
        DataError: no such group, or too few classes or pictures for an episode.
    """
    stage = settings.tune
    if stage.group != "all":
        pictures = pictures.only(stage.group)
    samplers = [
        EpisodeSampler(pictures.labels, n_way=stage.n_way, n_shot=n_shot, n_query=stage.n_query, seed=settings.seed)
        for n_shot in stage.n_shot
    ]
    return pictures, samplers


def tune(
    network: PromptedVisformer,
    pictures: PictureSet,
    prompts: PromptTable,
    settings: Settings,
    *,
    folder: Path,
    accelerator: Accelerator,
) -> StageLog:
    """Tunes `network` in place on episodes of the base classes.

    Args:
        pictures: the base classes.
        prompts: holds every base class's name.
        folder: of the run.
    """
    stage = settings.tune
    pictures, samplers = base_episodes(pictures, settings)
    vectors = torch.from_numpy(prompts.select(pictures.class_names))
    module = EpisodeLoss(network, n_query=stage.n_query, temperature=stage.temperature)
    module.to(memory_format=torch.channels_last)

    def batch(step: int) -> tuple[Tensor, ...]:
        episode = samplers[step % len(samplers)].episode(step)
        chosen = np.concatenate([episode.support.ravel(), episode.query.ravel()])
        images = torch.from_numpy(pictures.images[chosen])
        rng = np.random.default_rng([settings.seed, 3, step])
        return augment(images, settings.augment, rng), vectors[torch.from_numpy(episode.classes)]

    return run_stage(
        "tune",
        module,
        [
            ParameterGroup(list(network.backbone.parameters()), stage.lr),
            ParameterGroup(list(network.prompt.parameters()) if network.prompt else [], stage.prompt_lr),
        ],
        batch,
        steps=stage.steps,
        weight_decay=stage.weight_decay,
        seed=settings.seed,
        folder=folder,
        accelerator=accelerator,
    )
