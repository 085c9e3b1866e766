"""The first stage: the backbone learns the base classes as a plain classifier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional

from sp_edge.data.pictures import PictureSet
from sp_edge.model import PromptedNetwork
from sp_edge.model.network import normalise
from sp_edge.settings import Settings
from sp_edge.training.accelerator import Share
from sp_edge.training.augment import augment
from sp_edge.training.loop import ParameterGroup, Schedule, StageLog, run_stage


class BaseClassifier(nn.Module):
    """The network with a linear head on its features; the head is thrown away after the stage."""

    def __init__(self, network: PromptedNetwork, classes: int) -> None:
        super().__init__()
        self.network = network
        self.head = nn.Linear(network.feature_dim, classes)

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (B, H, W, 3) RGB and int64 (B,) -> mean cross-entropy and accuracy, 0-d."""
        logits = self.head(self.network(normalise(images))).float()
        return functional.cross_entropy(logits, labels), (logits.argmax(dim=1) == labels).float().mean()


def pretrain(
    network: PromptedNetwork, pictures: PictureSet, settings: Settings, *, folder: Path, accelerator: Accelerator
) -> StageLog:
    """Trains the backbone of `network` in place; the prompt, which sees no gradient here, is left alone.

    Args:
        pictures: the base classes.
        folder: of the run.
    """
    stage = settings.pretrain
    if stage.group != "all":
        pictures = pictures.only(stage.group)
    module = BaseClassifier(network, len(pictures.class_names)).to(memory_format=torch.channels_last)
    size = min(stage.batch_size, len(pictures))
    epoch = max(1, len(pictures) // size)
    own = Share.of(accelerator).rows(size, "pretrain.batch_size")

    def batch(step: int) -> tuple[Tensor, ...]:
        order = np.random.default_rng([settings.seed, 1, step // epoch]).permutation(len(pictures))
        chosen = order[(step % epoch) * size :][:size]
        images = torch.from_numpy(pictures.images[chosen])
        rng = np.random.default_rng([settings.seed, 2, step])
        return augment(images, settings.augment, rng)[own], torch.from_numpy(pictures.labels[chosen])[own]

    return run_stage(
        "pretrain",
        module,
        [ParameterGroup([*network.backbone.parameters(), *module.head.parameters()], stage.lr)],
        batch,
        schedule=Schedule(stage.steps, stage.schedule, stage.warm_up),
        weight_decay=stage.weight_decay,
        seed=settings.seed,
        folder=folder,
        accelerator=accelerator,
    )
