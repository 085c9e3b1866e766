"""The second stage: episodes in which support pictures are encoded with their class's prompt and queries without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from sp_edge.data.episodes import Episode, EpisodeSampler
from sp_edge.data.pictures import PictureSet
from sp_edge.errors import SettingsError
from sp_edge.model import PromptedNetwork, PromptedPlaces, SemanticPrompt
from sp_edge.prompts.table import PromptTable
from sp_edge.settings.settings import AugmentSettings, Settings
from sp_edge.training.accelerator import Share
from sp_edge.training.augment import augment
from sp_edge.training.loop import ParameterGroup, Schedule, StageLog, Validation, run_stage
from sp_edge.training.lower_layers import Kept, only_trained, upper_parameters


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
        support = len(images) - prompts.shape[0] * prompts.shape[1] * self.n_query
        tokens = self.network.begin(self.network.normalise(images))
        shots = self.shots(tokens[:support], prompts, prompted)
        return self.loss(shots, self.network.finish(tokens[support:]), prompts.shape[:2])

    def shots(self, tokens: Tensor, prompts: Tensor, prompted: Tensor) -> Tensor:
        """Features of the support, float (E * n_way * n_shot, D), from what `network.begin` gave of it."""
        if self.network.prompt is None:
            return self.network.finish(tokens)
        n_shot = len(tokens) // prompted.numel()
        shots = self.network.finish(tokens, prompts.flatten(0, 1).repeat_interleave(n_shot, dim=0))
        if self.drops_prompts:
            plain = self.network.finish(tokens)
            shots = torch.where(prompted.flatten().repeat_interleave(n_shot)[:, None], shots, plain)
        return shots

    def loss(self, shots: Tensor, queries: Tensor, size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Loss and accuracy, 0-d, from features of the support and of the queries; `size` is (E, n_way)."""
        episodes, n_way = size
        prototypes = functional.normalize(shots.float().reshape(episodes, n_way, -1, shots.shape[1]).mean(dim=2), dim=2)
        unit = functional.normalize(queries.float(), dim=1).reshape(episodes, n_way * self.n_query, -1)
        logits = (unit @ prototypes.transpose(1, 2) / self.temperature).flatten(0, 1)
        labels = torch.arange(n_way, device=logits.device).repeat_interleave(self.n_query).repeat(episodes)
        return functional.cross_entropy(logits, labels), (logits.argmax(dim=1) == labels).float().mean()


class KeptEpisodeLoss(EpisodeLoss):
    """The same of what the layers before the prompt gave (`sp_edge.training.lower_layers.Kept`).

    Args:
        finished: whether queries come as features, rather than as what `network.begin` gave.
        network, others: as in `EpisodeLoss`.
    """

    def __init__(self, network: PromptedNetwork, *, finished: bool, **others: Any) -> None:
        super().__init__(network, **others)
        self.finished = finished

    def forward(self, support: Tensor, queries: Tensor, prompts: Tensor, prompted: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Loss and accuracy of E episodes.

        Args:
            support: float (E * n_way * n_shot, ...), what `network.begin` gave, in the order of `EpisodeLoss`.
            queries: float (E * n_way * n_query, ...), likewise, or features (..., D).
            prompts, prompted: as there.
        """
        shots = self.shots(support, prompts, prompted)
        return self.loss(shots, queries if self.finished else self.network.finish(queries), prompts.shape[:2])


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


def tuning_augmentation(settings: Settings) -> AugmentSettings:
    """How this stage changes pictures."""
    policy = settings.tune.policy
    return settings.augment if policy == "same" else replace(settings.augment, policy=policy)


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
    kept: Kept | None = None,
) -> StageLog:
    """Tunes `network` in place on episodes of the base classes.

    Args:
        pictures: the base classes.
        prompts: holds every base class's name.
        folder: of the run.
        measure: accuracy of `network` on the validation classes; needed where the settings say to measure.
        kept: what the layers before the prompt gave of `pictures`; then only what follows them is tuned.
    """
    stage = settings.tune
    groups = {"all": np.arange(len(pictures)), **pictures.groups}
    pictures, samplers, own = base_episodes(pictures, settings, Share.of(accelerator))
    rows = groups[stage.group]
    vectors = torch.from_numpy(prompts.select(pictures.class_names))
    augmentation = tuning_augmentation(settings)
    options: dict[str, Any] = {"n_query": stage.n_query, "temperature": stage.temperature}
    options["drops_prompts"] = stage.prompt_dropout > 0
    module: EpisodeLoss
    if kept is None:
        trained, module = list(network.parameters()), EpisodeLoss(network, **options)
    else:
        trained = upper_parameters(network)
        module = KeptEpisodeLoss(network, finished=kept.features is not None, **options)
    module.to(memory_format=torch.channels_last)

    def shown(episode: Episode, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        chosen = np.concatenate([episode.support.ravel(), episode.query.ravel()])
        if kept is None:
            images = augment(torch.from_numpy(pictures.images[chosen]).to(accelerator.device), augmentation, rng)
            return images[: episode.support.size], images[episode.support.size :]
        at, view, cut = rows[chosen], rng.integers(kept.views, size=len(chosen)), episode.support.size
        drawn = kept.tokens[at[:cut], view[:cut]], kept.queries[at[cut:], view[cut:]]
        support, query = (torch.from_numpy(np.asarray(part)).to(accelerator.device).float() for part in drawn)
        return support, query

    def batch(step: int) -> tuple[Tensor, ...]:
        sampler = samplers[step % len(samplers)]
        support: list[Tensor] = []
        query: list[Tensor] = []
        texts: list[Tensor] = []
        prompted: list[Tensor] = []
        for number in range(step * stage.episodes_per_step, (step + 1) * stage.episodes_per_step)[own]:
            episode = sampler.episode(number)
            rng = np.random.default_rng([settings.seed, 3, number])
            for part, images in zip((support, query), shown(episode, rng), strict=True):
                part.append(images)
            text = vectors[torch.from_numpy(episode.classes)]
            texts.append(with_noise(text, stage.text_noise, rng))
            prompted.append(torch.from_numpy(rng.random(stage.n_way) >= stage.prompt_dropout))
        pictured = [torch.cat([*support, *query])] if kept is None else [torch.cat(support), torch.cat(query)]
        return *pictured, torch.stack(texts), torch.stack(prompted)

    prompt, channel = _prompt_parameters(network)
    validation = None
    if stage.validate_every:
        if measure is None:
            raise SettingsError("nothing to validate with", expected="tune.validate_every=0", got=str(stage.validate_every))
        validation = Validation(measure, stage.validate_every, stage.patience)
    rates = ((list(network.backbone.parameters()), stage.lr), (prompt, stage.prompt_lr), (channel, stage.channel_lr))
    with only_trained(network, trained):
        return run_stage(
            "tune",
            module,
            [ParameterGroup([p for p in parameters if p.requires_grad], rate) for parameters, rate in rates],
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
