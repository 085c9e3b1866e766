"""The first stage: the backbone learns the base classes as a plain classifier."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional

from sp_edge.data.pictures import PictureSet
from sp_edge.model import PromptedNetwork
from sp_edge.settings.settings import Settings
from sp_edge.training.accelerator import Share
from sp_edge.training.augment import augment
from sp_edge.training.loop import ParameterGroup, Schedule, StageLog, run_stage
from sp_edge.training.mixing import mix, targets


class BaseClassifier(nn.Module):
    """The network with a linear head on its features; the head is thrown away after the stage."""

    def __init__(self, network: PromptedNetwork, classes: int) -> None:
        super().__init__()
        self.network = network
        self.head = nn.Linear(network.feature_dim, classes)

    def forward(self, images: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (B, H, W, 3) RGB and float (B, C) targets -> mean cross-entropy and accuracy, 0-d."""
        logits = self.head(self.network(self.network.normalise(images))).float()
        hits = logits.argmax(dim=1) == wanted.argmax(dim=1)
        return functional.cross_entropy(logits, wanted), hits.float().mean()


def base_batches(pictures: PictureSet, settings: Settings, share: Share) -> tuple[PictureSet, int, slice]:
    """What the stage uses: base pictures, how many make a batch, and this process's part of it.

    Raises:
        DataError: no such group.
        SettingsError: the processes cannot share a batch.
    """
    stage = settings.pretrain
    pictures = pictures.only(stage.group)
    size = min(stage.batch_size, len(pictures) * stage.repeats)
    return pictures, size, share.rows(size, "pretrain.batch_size")


def pretrain(
    network: PromptedNetwork, pictures: PictureSet, settings: Settings, *, folder: Path, accelerator: Accelerator
) -> StageLog:
    """Trains the backbone of `network` in place; the prompt, which sees no gradient here, is left alone.

    Args:
        pictures: the base classes.
        folder: of the run.
    """
    stage = settings.pretrain
    pictures, size, own = base_batches(pictures, settings, Share.of(accelerator))
    module = BaseClassifier(network, len(pictures.class_names)).to(memory_format=torch.channels_last)
    different = math.ceil(size / stage.repeats)
    epoch = max(1, len(pictures) // different)

    def batch(step: int) -> tuple[Tensor, ...]:
        order = np.random.default_rng([settings.seed, 1, step // epoch]).permutation(len(pictures))
        chosen = np.resize(order[(step % epoch) * different :][:different], size)
        images = torch.from_numpy(pictures.images[chosen]).to(accelerator.device)
        labels = torch.from_numpy(pictures.labels[chosen][own]).to(accelerator.device)
        rng = np.random.default_rng([settings.seed, 2, step])
        images = augment(images, settings.augment, rng, own)
        return mix(images, targets(labels, len(pictures.class_names), stage.label_smoothing), stage, rng)

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
