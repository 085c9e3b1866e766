"""The second stage: episodes in which support pictures are encoded with their class's prompt and queries without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from sp_edge.data.episodes import EpisodeSampler
from sp_edge.data.pictures import PictureSet
from sp_edge.errors import SettingsError
from sp_edge.model import PromptedNetwork, PromptedPlaces, SemanticPrompt
from sp_edge.prompts.table import PromptTable
from sp_edge.settings.settings import Settings
from sp_edge.training.accelerator import Share
from sp_edge.training.augment import augment
from sp_edge.training.loop import ParameterGroup, Schedule, StageLog, Validation, run_stage


class EpisodeLoss(nn.Module):
    """Mean loss of episodes: cross-entropy over cos(query, prototype) / tau (equation 3 of the paper).

    Args:
        network: is trained.
        n_query: query pictures a class.
        temperature: tau.
        drops_prompts: whether some classes go without their prompt. Every process then encodes all support both ways, or
            they would wait for one another's batch statistics.
    """

    def __init__(self, network: PromptedNetwork, *, n_query: int, temperature: float, drops_prompts: bool = False) -> None:
        super().__init__()
        self.network = network
        self.n_query, self.temperature, self.drops_prompts = n_query, temperature, drops_prompts

    def train(self, mode: bool = True) -> EpisodeLoss:
        """Sets the mode. Where places are weighed, BatchNorm keeps its statistics: names and places were fitted with them.

        Episodes of a few classes would replace what a ready-made network learned of photographs within some dozen steps.
        """
        super().train(mode)
        if isinstance(self.network, PromptedPlaces):
            for layer in self.network.backbone.modules():
                if isinstance(layer, _BatchNorm):
                    layer.eval()
        return self

    def forward(self, images: Tensor, prompts: Tensor, prompted: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and accuracy of E episodes, whose pictures go through the network together.

        Args:
            images: uint8 (E * n_way * (n_shot + n_query), H, W, 3) RGB: all support by episode and way, then all queries so.
            prompts: float32 (E, n_way, T); (E, n_way, 0) where the network knows none.
            prompted: bool (E, n_way), False for a class whose support is to be encoded without its prompt.

        Returns:
            Two 0-d tensors.
        """
        episodes, n_way = prompts.shape[:2]
        ways = episodes * n_way
        support = len(images) - ways * self.n_query
        n_shot = support // ways
        tokens = self.network.begin(self.network.normalise(images))
        if self.network.prompt is None:
            shots = self.network.finish(tokens[:support]).float()
        else:
            shots = self.network.finish(tokens[:support], prompts.flatten(0, 1).repeat_interleave(n_shot, dim=0)).float()
            if self.drops_prompts:
                plain = self.network.finish(tokens[:support]).float()
                shots = torch.where(prompted.flatten().repeat_interleave(n_shot)[:, None], shots, plain)
        prototypes = functional.normalize(shots.reshape(episodes, n_way, n_shot, -1).mean(dim=2), dim=2)
        queries = functional.normalize(self.network.finish(tokens[support:]).float(), dim=1).reshape(
            episodes, n_way * self.n_query, -1
        )
        logits = (queries @ prototypes.transpose(1, 2) / self.temperature).flatten(0, 1)
        labels = torch.arange(n_way, device=logits.device).repeat_interleave(self.n_query).repeat(episodes)
        return functional.cross_entropy(logits, labels), (logits.argmax(dim=1) == labels).float().mean()


def base_episodes(pictures: PictureSet, settings: Settings, share: Share) -> tuple[PictureSet, list[EpisodeSampler], slice]:
    """What the stage uses: base pictures, a sampler of episodes for each number of shots, this process's part of a step's.

    Raises:
        DataError: no such group, or too few classes or pictures for an episode.
        SettingsError: the processes cannot share the episodes of a step.
    """
    stage = settings.tune
    pictures = pictures.only(stage.group)
    samplers = [
        EpisodeSampler(pictures.labels, n_way=stage.n_way, n_shot=n_shot, n_query=stage.n_query, seed=settings.seed)
        for n_shot in stage.n_shot
    ]
    return pictures, samplers, share.rows(stage.episodes_per_step, "tune.episodes_per_step")


def with_noise(text: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Text vectors (n, T) with normal noise, whose expected length is `share` of each vector's own."""
    if share == 0:
        return text
    noise = torch.from_numpy(rng.standard_normal(text.shape, dtype=np.float32))
    return text + share * text.norm(dim=1, keepdim=True) * noise / text.shape[1] ** 0.5


def tune(
    network: PromptedNetwork,
    pictures: PictureSet,
    prompts: PromptTable,
    settings: Settings,
    *,
    folder: Path,
    accelerator: Accelerator,
    measure: Callable[[], float] | None = None,
) -> StageLog:
    """Tunes `network` in place on episodes of the base classes.

    Args:
        pictures: the base classes.
        prompts: holds every base class's name.
        folder: of the run.
        measure: accuracy of `network` on the validation classes; needed where the settings say to measure.
    """
    stage = settings.tune
    pictures, samplers, own = base_episodes(pictures, settings, Share.of(accelerator))
    vectors = torch.from_numpy(prompts.select(pictures.class_names))
    augmentation = settings.augment if stage.policy == "same" else replace(settings.augment, policy=stage.policy)
    module = EpisodeLoss(network, n_query=stage.n_query, temperature=stage.temperature, drops_prompts=stage.prompt_dropout > 0)
    module.to(memory_format=torch.channels_last)

    def batch(step: int) -> tuple[Tensor, ...]:
        sampler = samplers[step % len(samplers)]
        support: list[Tensor] = []
        query: list[Tensor] = []
        texts: list[Tensor] = []
        prompted: list[Tensor] = []
        for number in range(step * stage.episodes_per_step, (step + 1) * stage.episodes_per_step)[own]:
            episode = sampler.episode(number)
            chosen = np.concatenate([episode.support.ravel(), episode.query.ravel()])
            rng = np.random.default_rng([settings.seed, 3, number])
            images = augment(torch.from_numpy(pictures.images[chosen]).to(accelerator.device), augmentation, rng)
            support.append(images[: episode.support.size])
            query.append(images[episode.support.size :])
            text = vectors[torch.from_numpy(episode.classes)]
            texts.append(with_noise(text, stage.text_noise, rng))
            prompted.append(torch.from_numpy(rng.random(stage.n_way) >= stage.prompt_dropout))
        return torch.cat([*support, *query]), torch.stack(texts), torch.stack(prompted)

    prompt, channel = _prompt_parameters(network)
    validation = None
    if stage.validate_every:
        if measure is None:
            raise SettingsError("nothing to validate with", expected="tune.validate_every=0", got=str(stage.validate_every))
        validation = Validation(measure, stage.validate_every, stage.patience)
    return run_stage(
        "tune",
        module,
        [
            ParameterGroup(list(network.backbone.parameters()), stage.lr),
            ParameterGroup(prompt, stage.prompt_lr),
            ParameterGroup(channel, stage.channel_lr),
        ],
        batch,
        schedule=Schedule(stage.steps, stage.schedule, stage.warm_up),
        weight_decay=stage.weight_decay,
        seed=settings.seed,
        folder=folder,
        accelerator=accelerator,
        validation=validation,
    )


def _prompt_parameters(network: PromptedNetwork) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The projectors' parameters, and those of the channel interaction's W1 and W2."""
    if network.prompt is None:
        return [], []
    mlp = network.prompt.channel_mlp if isinstance(network.prompt, SemanticPrompt) else None
    channel = [] if mlp is None else list(mlp.parameters())
    theirs = {id(parameter) for parameter in channel}
    return [p for p in network.prompt.parameters() if id(p) not in theirs], channel
