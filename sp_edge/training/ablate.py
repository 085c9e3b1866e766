"""Trains the variants of an ablation, and measures all of them on the same episodes."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from sp_edge import runs
from sp_edge.accuracy import Accuracy, Difference, Scores
from sp_edge.data import sets
from sp_edge.data.pictures import PictureSet
from sp_edge.errors import CheckpointError, SettingsError
from sp_edge.prompts.table import PromptTable
from sp_edge.settings.begun import Begun
from sp_edge.settings.settings import DataSettings, Settings, TextSettings
from sp_edge.tensors import load_tensors, save_tensors
from sp_edge.text import prompt_table
from sp_edge.training.checkpoint import Checkpoint
from sp_edge.training.evaluate import WITH, WITHOUT, Setting, evaluate_checkpoint, sample
from sp_edge.training.run import train
from sp_edge.training.variants import Variant, backbone_key, folder_name, to_train

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Measured:
    """One run of a variant, measured.

    Attributes:
        scores: row ('with prompts' where the network knows them, 'without prompts') -> setting -> scores of the episodes.
        strength: of the prompts.
        folder: of the run.
    """

    scores: dict[str, dict[Setting, Scores]]
    strength: float
    folder: Path

    @property
    def own(self) -> dict[Setting, Scores]:
        """With prompts where there are any."""
        return self.scores.get(WITH, self.scores[WITHOUT])


@dataclass(frozen=True, eq=False)
class Row:
    """A variant's figures over its runs, one a seed.

    Scores are averaged over the runs, episode by episode, before anything is made of them.

    Attributes:
        variant: which.
        runs: at least one.
    """

    variant: Variant
    runs: Sequence[Measured]

    @property
    def scores(self) -> dict[Setting, Scores]:
        """Setting -> mean scores."""
        return {setting: np.mean([run.own[setting] for run in self.runs], axis=0) for setting in self.runs[0].own}

    @property
    def plain(self) -> dict[Setting, Scores]:
        """The same networks without prompts."""
        return {s: np.mean([run.scores[WITHOUT][s] for run in self.runs], axis=0) for s in self.runs[0].own}

    def accuracy(self, setting: Setting) -> Accuracy:
        """With prompts where the variant has any."""
        return Accuracy.of(self.scores[setting])

    def ahead(self, reference: Row, setting: Setting) -> Difference:
        """Of another row, on the same episodes."""
        return Difference.between(self.scores[setting], reference.scores[setting])

    def spread(self, setting: Setting) -> float:
        """Standard deviation of the accuracy over the seeds; 0 for one."""
        means = [run.own[setting].mean() for run in self.runs]
        return float(np.std(means, ddof=1)) if len(means) > 1 else 0.0


class Supply:
    """Reads pictures and makes prompts once for all variants that need the same ones.

    Every seed sees the same pictures: those that the recipe's own seed draws.
    """

    def __init__(self, base: Settings) -> None:
        self._base = base
        self._split = lru_cache(maxsize=3)(self._load)  # train, val and test of one picture size
        self._prompts = lru_cache(maxsize=3)(self._encode)

    def pictures(self, settings: Settings, split: str) -> PictureSet:
        """Of a variant's 'train', 'val' or 'test' classes."""
        return self._split(settings.data, settings.model.image_size, split)

    def prompts(self, settings: Settings) -> PromptTable:
        """Of every class."""
        return self._prompts(settings.data, settings.text)

    def _load(self, data: DataSettings, image_size: int, split: str) -> PictureSet:
        model = dataclasses.replace(self._base.model, image_size=image_size)
        return sets.load_split(dataclasses.replace(self._base, data=data, model=model), split, progress=True)

    def _encode(self, data: DataSettings, text: TextSettings) -> PromptTable:
        classes = sets.class_names(dataclasses.replace(self._base, data=data))
        return prompt_table([name for names in classes.values() for name in names], text, base=classes.get("train", ()))


def ablate(
    variants: Sequence[Variant],
    base: Settings,
    folder: Path,
    *,
    seeds: int = 1,
    init: Path | None = None,
    device: str = "auto",
) -> list[Row]:
    """Trains and measures. What is in the folder from an earlier call is kept, so that one that was cut off goes on.

    Pre-training is done once for all variants whose backbone depends on the same settings.

    Args:
        variants: from `plan`.
        base: the recipe that they are variants of.
        folder: gets a folder for each run, and the scores.
        seeds: trainings of each variant, from `base.seed` on.
        init: what all variants start from, instead of pre-training; as `train` takes it.
        device: auto, cpu or cuda.

    Raises:
        SettingsError: no seed, the folder holds something else, or no test classes.
        DataError: too few pictures for the episodes.
    """
    if seeds < 1:
        raise SettingsError("seeds are out of range", expected="1 or more", got=str(seeds))
    if folder.exists() and not folder.is_dir():
        raise SettingsError(f"{folder} is no folder", expected="a folder, new or of an earlier ablation")
    if not sets.has_split(base, "test"):
        raise SettingsError("no test classes to measure on", expected="a data set with a split 'test'", got=base.data.source)
    ablation = _Ablation(base, folder, init, device)
    ablation.check(variants[0].settings)
    todo = [
        (variant, dataclasses.replace(variant.settings, seed=base.seed + number))
        for number in range(seeds)
        for variant in variants
    ]
    for _, settings in todo:  # those of an earlier call are found first, whatever the order then was
        ablation.begun(settings)
    found: dict[str, list[Measured]] = {variant.name: [] for variant in variants}
    for number, (variant, settings) in enumerate(todo, 1):
        _log.info(f"[{number}/{len(todo)}] {variant.name}" + (f", seed {settings.seed}" if seeds > 1 else ""))
        found[variant.name].append(ablation.measure(settings))
    return [Row(variant, found[variant.name]) for variant in variants]


class _Ablation:
    """The runs in a folder, and what they lend each other: pictures, prompts and pre-trained backbones."""

    def __init__(self, base: Settings, folder: Path, init: Path | None, device: str) -> None:
        self._base, self._folder, self._init = base, folder, init
        self._device = device
        self._supply = Supply(base)
        self._backbones: dict[str, Path] = {}

    def check(self, settings: Settings) -> None:
        """Finds what is too little for an episode before the first variant has trained for hours."""
        sample(self._supply.pictures(settings, "test"), dataclasses.replace(self._base.eval, episodes=2), seed=0)

    def begun(self, settings: Settings) -> tuple[bool, Path | None]:
        """Whether a run was begun, and what it starts from; one that pre-trained lends its backbone from then on."""
        run = self._run(settings)
        if not (run / runs.SETTINGS).exists():
            return False, None
        init = Begun.read(run).init
        if init is None and (run / runs.PRETRAINED).exists():
            self._backbones.setdefault(backbone_key(settings), run / runs.PRETRAINED)
        return True, None if init is None else Path(init)

    def measure(self, settings: Settings) -> Measured:
        """Trains one run to its end, and measures it; what an earlier call has done already is read."""
        run, checkpoint = self._run(settings), self._train(settings)
        own = settings.tune.choose_strength or checkpoint.network.prompt is None
        strength = checkpoint.network.strength if own else settings.model.prompt_strength
        protocol, augment = dataclasses.asdict(settings.eval), dataclasses.asdict(settings.augment)
        how = {"protocol": protocol, "strength": strength, "augment": augment}
        name = f"{run.name}.{settings.eval.classifier}.{strength}.safetensors"
        file = self._folder / "scores" / run.parent.name / name
        scores = _kept(file, how)
        if scores is None:
            pictures, asked = self._supply.pictures(settings, "test"), None if own else strength
            result = evaluate_checkpoint(
                checkpoint, pictures, settings.eval, strength=asked, device=self._device, progress=True
            )
            _log.info(str(result))
            scores = {name: dict(row) for name, row in result.scores.items()}
            _keep(file, scores, how)
        return Measured(scores, strength, run)

    def _train(self, settings: Settings) -> Checkpoint:
        run = self._run(settings)
        begun, init = self.begun(settings)
        if not begun:
            init = self._backbones.get(backbone_key(settings))
        checkpoint = train(
            to_train(settings),
            run,
            device=self._device,
            init=self._init or init,
            load=partial(self._supply.pictures, settings),
            prompts=None if (run / runs.CHECKPOINT).exists() else self._supply.prompts(settings),
        )
        self.begun(settings)
        return checkpoint

    def _run(self, settings: Settings) -> Path:
        trained = dataclasses.replace(to_train(settings), seed=self._base.seed)
        return self._folder / f"seed-{settings.seed}" / folder_name(trained, to_train(self._base))


def _keep(file: Path, scores: dict[str, dict[Setting, Scores]], how: dict[str, Any]) -> None:
    tensors = {f"{row}/{n_shot}/{group}": v for row, cells in scores.items() for (n_shot, group), v in cells.items()}
    save_tensors(file, tensors, {"kind": "scores", "how": how, "order": list(tensors)})  # a file sorts its tensors


def _kept(file: Path, how: dict[str, Any]) -> dict[str, dict[Setting, Scores]] | None:
    """The scores that `_keep` wrote, if they were measured in the same way."""
    if not file.exists():
        return None
    tensors, described = load_tensors(file, CheckpointError)
    if described.get("kind") != "scores" or described.get("how") != json.loads(json.dumps(how)):
        return None
    scores: dict[str, dict[Setting, Scores]] = {}
    for key in described["order"]:
        row, n_shot, group = key.split("/", 2)
        scores.setdefault(row, {})[int(n_shot), group] = tensors[key]
    return scores
