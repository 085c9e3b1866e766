"""Measures a network on episodes of classes that it has not seen, with prompts and without on the same episodes."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import trange

from sp_edge.accuracy import Accuracy, Difference, Scores
from sp_edge.data.episodes import Episode, EpisodeSampler, Features
from sp_edge.data.pictures import PictureSet
from sp_edge.errors import SettingsError
from sp_edge.matching.decide import share
from sp_edge.model import PromptedNetwork
from sp_edge.prompts.table import PromptTable
from sp_edge.settings.settings import AugmentSettings, EvalSettings, ExpectedSettings
from sp_edge.text import extend_table
from sp_edge.training.accelerator import torch_device
from sp_edge.training.augment import augment
from sp_edge.training.checkpoint import Checkpoint
from sp_edge.training.classifier import CLASSIFIERS, Classifier, episode_scores

if TYPE_CHECKING:
    from accelerate import Accelerator

WITH, WITHOUT, DIFFERENCE = "with prompts", "without prompts", "difference"
Setting = tuple[int, str]  # number of shots, group of pictures


def title(setting: Setting) -> str:
    """A setting in words, as tables and files call it."""
    n_shot, group = setting
    return f"{n_shot}-shot, {group}"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured.

    Attributes:
        scores: `WITH` (where the network knows prompts) and `WITHOUT` -> setting -> scores, of the same episodes.
        protocol: of the episodes.
        seed: of the episodes.
        strength: of the prompts, before it is scaled by each one's familiarity.
        familiarity: the median of the classes' names; 1 where there are no prompts or nothing tells.
        pictures: how many there are.
        seconds: that 'encoding' the pictures and the 'episodes' took.
    """

    scores: Mapping[str, Mapping[Setting, Scores]]
    protocol: EvalSettings
    seed: int
    strength: float
    familiarity: float
    pictures: int
    seconds: Mapping[str, float]

    def rows(self) -> dict[str, dict[Setting, Accuracy | Difference]]:
        """The accuracies, and their paired difference where there are two."""
        rows: dict[str, dict[Setting, Accuracy | Difference]] = {
            name: {setting: Accuracy.of(scores) for setting, scores in row.items()} for name, row in self.scores.items()
        }
        if WITH in self.scores:
            ours, theirs = self.scores[WITH], self.scores[WITHOUT]
            rows[DIFFERENCE] = {setting: Difference.between(ours[setting], theirs[setting]) for setting in theirs}
        return rows

    def to_json(self) -> dict[str, Any]:
        """Row -> '1-shot' -> group -> mean, interval and episodes, and how they came about."""
        rows: dict[str, Any] = {}
        for name, row in self.rows().items():
            for (n_shot, group), value in row.items():
                rows.setdefault(name, {}).setdefault(f"{n_shot}-shot", {})[group] = dataclasses.asdict(value)
        return {
            "rows": rows,
            "protocol": dataclasses.asdict(self.protocol),
            "seed": self.seed,
            "strength": self.strength,
            "familiarity": self.familiarity,
            "pictures": self.pictures,
            "seconds": dict(self.seconds),
        }

    def table(self, expected: ExpectedSettings | None = None) -> tuple[list[str], list[list[str]]]:
        """Header and lines, in %.

        Args:
            expected: what a recipe's source reports, for the first setting; stands below.
        """
        header = ["", *map(title, self.scores[WITHOUT])]
        lines = [[name, *map(str, row.values())] for name, row in self.rows().items()]
        if expected is not None and expected.source:
            reported = ((WITH, expected.with_prompts, expected.interval), (WITHOUT, expected.without_prompts, 0.0))
            for name, mean, interval in reported:
                if mean:
                    figure = f"{mean:.1f} ± {interval:.1f}" if interval else f"{mean:.1f}"
                    lines.append([f"{expected.source}, {name}", figure, *[""] * (len(header) - 2)])
        return header, lines

    def __str__(self) -> str:
        count = len(self.scores[WITHOUT]) * len(self.scores) * self.protocol.episodes
        return (
            f"{self.pictures:,} pictures encoded in {self.seconds['encoding']:.1f} s, "
            f"{count:,} episodes classified in {self.seconds['episodes']:.1f} s"
        )


@torch.no_grad()
def encode(
    network: PromptedNetwork,
    images: NDArray[np.uint8],
    prompts: NDArray[np.float32] | None,
    *,
    strength: float | None = None,
    change: Callable[[Tensor], Tensor] | None = None,
    batch_size: int | None = None,
    progress: bool = False,
) -> Features:
    """Encodes every picture once as a query and once as a support, in float32 and eval mode.

    Args:
        images: uint8 (n, H, W, 3) RGB.
        prompts: float32 (n, T), each picture's class prompt; None where the support is encoded without.
        strength: of the prompts, 0 to 1; the network's own by default.
        change: is applied to each batch, uint8 (b, H, W, 3) RGB, before it is encoded.
        batch_size: 128 by default, but 16 on a CPU: larger batches allocate their memory anew each time.
    """
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    batch_size = batch_size or (16 if device.type == "cpu" else 128)
    queries: list[Tensor] = []
    supports: list[Tensor] = []
    try:
        for start in trange(
            0, len(images), batch_size, desc="encoding", disable=not progress or None, leave=False, mininterval=1.0
        ):
            rows = slice(start, start + batch_size)
            batch = torch.from_numpy(images[rows])
            tokens = network.begin(network.normalise((batch if change is None else change(batch)).to(device)))
            queries.append(network.finish(tokens).cpu())
            if prompts is not None:
                # Weaker prompts are mixed below, from features that are there anyway.
                supports.append(network.finish(tokens, torch.from_numpy(prompts[rows]).to(device), strength=1.0).cpu())
    finally:
        network.train(was_training)
    query = torch.cat(queries).numpy()
    if prompts is None:
        return Features(query, query)
    return Features(query, torch.cat(supports).numpy()).mixed(network.strength if strength is None else strength)


def encode_together(
    network: PromptedNetwork, images: NDArray[np.uint8], prompts: NDArray[np.float32] | None, accelerator: Accelerator
) -> Features:
    """As `encode`, at full strength, with the work shared by all processes: each calls this, and gets all features."""
    from accelerate.utils import gather

    count, processes = len(images), accelerator.num_processes
    size = math.ceil(count / processes)
    # Gathering asks for parts of one size, so that the last ones may overlap.
    parts = [slice(start, start + size) for start in (min(size * number, count - size) for number in range(processes))]
    own = parts[accelerator.process_index]
    encoded = encode(network, images[own], None if prompts is None else prompts[own], strength=1.0)
    query, support = np.empty((2, count, encoded.query.shape[1]), np.float32)
    for whole, part in ((query, encoded.query), (support, encoded.support)):
        gathered = gather(torch.from_numpy(part).to(accelerator.device)).cpu().numpy()
        for rows, theirs in zip(parts, np.split(gathered, processes), strict=True):
            whole[rows] = theirs
    return Features(query, support)


def encode_views(
    network: PromptedNetwork,
    images: NDArray[np.uint8],
    prompts: NDArray[np.float32] | None,
    *,
    views: int,
    settings: AugmentSettings,
    seed: int,
    progress: bool = False,
) -> Features:
    """Encodes augmented views of every picture, as `encode` does: float32 (n, views, D) each, at full strength.

    Args:
        settings: of the augmentation; the same settings and seed give the same views.
    """
    encoded = []
    for view in trange(views, desc="views", disable=not progress or None, leave=False):
        change = partial(augment, settings=settings, rng=np.random.default_rng([seed, 4, view]))
        encoded.append(encode(network, images, prompts, strength=1.0, change=change))
    query, support = (np.stack([getattr(one, part) for one in encoded], axis=1) for part in ("query", "support"))
    return Features(query, support)


def class_prompts(network: PromptedNetwork, pictures: PictureSet, table: PromptTable) -> NDArray[np.float32] | None:
    """Each picture's class prompt, float32 (n, T), or None where the network knows no prompts."""
    return None if network.prompt is None else table.select(pictures.class_names)[pictures.labels]


def evaluate(
    network: PromptedNetwork,
    pictures: PictureSet,
    prompts: NDArray[np.float32] | None,
    protocol: EvalSettings,
    *,
    seed: int = 0,
    strength: float | None = None,
    augmentation: AugmentSettings | None = None,
    accelerator: Accelerator | None = None,
    progress: bool = False,
) -> Evaluation:
    """Accuracy for each number of shots and each group of pictures. Each picture, or view, is encoded once per prompt.

    Args:
        prompts: as in `encode`; without, there is no row with prompts.
        seed: of the episodes.
        strength: of familiar prompts, 0 to 1; the network's own by default. Each prompt's familiarity scales it, as it does
            when a device is taught (`sp_edge.prompts.familiarity`).
        augmentation: of the views that logistic regression learns from.
        accelerator: whose processes all call this, and share the encoding for the nearest prototype.

    Raises:
        DataError: fewer classes than ways, or pictures than shots and queries.
    """
    episodes = sample(pictures, protocol, seed=seed)  # what is too little for an episode is found before all is encoded
    began = time.monotonic()
    strength = network.strength if strength is None else strength
    regression = protocol.classifier == "lr"
    if accelerator is not None and not regression:
        shown = encode_together(network, pictures.images, prompts, accelerator)
    else:
        shown = encode(network, pictures.images, None if regression else prompts, strength=1.0, progress=progress)
    query = shown.query
    if regression:
        settings = augmentation or AugmentSettings()
        shown = encode_views(
            network, pictures.images, prompts, views=protocol.views, settings=settings, seed=seed, progress=progress
        )
    encoded = time.monotonic()
    rows, familiarity = {WITHOUT: np.zeros(len(pictures))}, 1.0
    if prompts is not None:
        familiar = network.familiarity_of(prompts)
        rows, familiarity = {WITH: strength * familiar, **rows}, float(np.median(familiar))
    classify = CLASSIFIERS[protocol.classifier]
    scores = {name: score(query, shown, each, pictures, episodes, classify, progress=progress) for name, each in rows.items()}
    seconds = {"encoding": encoded - began, "episodes": time.monotonic() - encoded}
    return Evaluation(scores, protocol, seed, strength, familiarity, len(pictures), seconds)


def evaluate_checkpoint(
    checkpoint: Checkpoint,
    pictures: PictureSet,
    protocol: EvalSettings | None = None,
    *,
    seed: int = 0,
    strength: float | None = None,
    device: str = "auto",
    progress: bool = False,
) -> Evaluation:
    """Evaluates what training left, with prompts where its network knows them.

    Args:
        pictures: of any data set; names that the checkpoint has no prompt for are encoded now.
        protocol: the checkpoint's own by default.
        seed, strength: as in `evaluate`.
        device: auto, cpu or cuda.

    Raises:
        SettingsError: a strength for a network without prompts, or a device that is not there.
        DataError: as `evaluate`.
    """
    network, settings = checkpoint.network, checkpoint.settings
    if strength is not None and network.prompt is None:
        raise SettingsError("this network knows no prompts", expected="no strength", got=f"strength {strength}")
    prompts = None
    if network.prompt is not None:
        table = extend_table(checkpoint.prompts, pictures.class_names, settings.text)
        prompts = class_prompts(network, pictures, table)
    try:
        return evaluate(
            network.to(torch_device(device)),
            pictures,
            prompts,
            settings.eval if protocol is None else protocol,
            seed=seed,
            strength=strength,
            augmentation=settings.augment,
            progress=progress,
        )
    finally:
        network.cpu()


def sample(pictures: PictureSet, protocol: EvalSettings, *, seed: int) -> dict[Setting, Episode]:
    """The episodes of every setting.

    Raises:
        DataError: as `evaluate`.
    """
    return {
        (n_shot, group): EpisodeSampler(
            pictures.labels[rows], n_way=protocol.n_way, n_shot=n_shot, n_query=protocol.n_query, seed=seed
        ).episodes(protocol.episodes)
        for n_shot in protocol.n_shot
        for group, rows in pictures.groups.items()
    }


def score(
    query: NDArray[np.float32],
    shown: Features,
    strength: NDArray[np.float64],
    pictures: PictureSet,
    episodes: Mapping[Setting, Episode],
    classify: Classifier,
    *,
    progress: bool = False,
) -> dict[Setting, Scores]:
    """Scores of the pictures' features on the episodes of every setting.

    Args:
        query: float32 (n, D) of every picture.
        shown: the pictures, or views of them, as support: without prompt, and with it at full strength.
        strength: (n,) of each picture's prompt for one shot; with more, it falls as `sp_edge.matching.decide.share` says.
    """
    scores = {}
    for (n_shot, group), stack in episodes.items():
        features = Features(query, shown.mixed(share(strength, n_shot)).support).only(pictures.groups[group])
        scores[n_shot, group] = episode_scores(features, stack, classify, progress=progress)
    return scores
