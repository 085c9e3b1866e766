"""A whole training run: pictures and names in, a folder with checkpoints, prompts and figures out."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from sp_edge import runs
from sp_edge.accuracy import Difference
from sp_edge.data import sets
from sp_edge.data.pictures import PictureSet
from sp_edge.errors import SettingsError
from sp_edge.files import remove_leftovers
from sp_edge.matching.metric import Background
from sp_edge.model import PromptedNetwork, PromptedPlaces, build_network
from sp_edge.prompts.table import PromptTable
from sp_edge.settings.begun import Begun
from sp_edge.settings.settings import Settings
from sp_edge.text import prompt_table
from sp_edge.training.accelerator import Share, make_accelerator
from sp_edge.training.checkpoint import NAMED, Checkpoint, familiar_names
from sp_edge.training.evaluate import WITH, WITHOUT, class_prompts, evaluate, sample
from sp_edge.training.loop import StageLog
from sp_edge.training.lower_layers import Kept, drop_kept, keep, upper_parameters
from sp_edge.training.places import fit_places
from sp_edge.training.pretrain import base_batches, pretrain
from sp_edge.training.start import Known, start_from
from sp_edge.training.strength import choose_strength
from sp_edge.training.text_prototype import BaseClasses, check_classes, fit_text_prototype
from sp_edge.training.tune import base_episodes, tune, tuning_augmentation

_log = logging.getLogger(__name__)
VALIDATION_EPISODES = 200


def train(
    settings: Settings,
    folder: Path,
    *,
    device: str = "auto",
    init: Path | None = None,
    load: Callable[[str], PictureSet] | None = None,
    prompts: PromptTable | None = None,
) -> Checkpoint:
    """Pre-trains, then tunes in episodes. A run that was cut off goes on where it stood when called again.

    Args:
        folder: of the run; it gets settings.json, pretrained.safetensors and checkpoint.safetensors.
        device: auto, cpu or cuda.
        init: what to start from instead of pre-training (`sp_edge.training.start`): a checkpoint; 'ready', 'timm/NAME' or
            another ready-made network's name; or 'timm' for the weights that timm publishes for the settings' backbone.
        load: gives the pictures of 'train' or 'val', where they may have been read already.
        prompts: of every class of the data set, where they have been made already.

    Raises:
        SettingsError: the folder holds a run with other settings.
        DataError, ImageError: the data set cannot be used.
        CheckpointError: `init` does not fit.
    """
    run = Begun(settings, None if init is None else str(init))
    lacking = _check_folder(folder, run)
    if (folder / runs.CHECKPOINT).exists():
        _drop_state(folder, "tune")
        _log.info(f"{folder} is complete already")
        return Checkpoint.load(folder / runs.CHECKPOINT)
    classes = sets.class_names(settings)
    accelerator = make_accelerator(settings.precision, device)
    main = accelerator.is_main_process  # which alone writes
    _announce(accelerator, lacking)
    every = [name for names in classes.values() for name in names]
    table = prompts or prompt_table(every, settings.text, base=classes.get("train", ()))
    load = load or partial(sets.load_split, settings, progress=main)
    pictures = load("train")
    _log.info(f"{len(pictures):,} pictures of {len(pictures.class_names)} base classes")
    torch.manual_seed(settings.seed)
    network = build_network(settings.model, table.text.dim).to(memory_format=torch.channels_last)
    _check_stages(network, pictures, settings, Share.of(accelerator), pretrains=init is None)
    known = None if init is None else start_from(network, init, settings, table)
    if known is not None:
        table = known.added_to(table)
    validation = _validation(network, settings, load)
    measure = _measure(network, validation, table, settings, accelerator)
    if main:
        _begin(folder, run)  # only now is the folder a run: nothing of what was asked for is unusable
    record: dict[str, Any] = {}
    pretrained = folder / runs.PRETRAINED
    if init is not None:
        record["init"] = init.name
    elif pretrained.exists():
        stored = Checkpoint.load(pretrained)
        network.load_state_dict(stored.network.state_dict())
        record |= stored.record
    else:
        log = pretrain(network, pictures, settings, folder=folder, accelerator=accelerator)
        record["pretrain"] = _sound(network, log, pictures)
        if main:
            Checkpoint(network, settings, table, "pretrained", classes, record).save(pretrained)
    if main:
        _drop_state(folder, "pretrain")
    kept, log = _tuned(network, pictures, table, settings, folder, accelerator, measure, known)
    record["tune"] = _sound(network, log, pictures)
    classes = {**classes, **_named(network, known)}
    if not main:
        accelerator.wait_for_everyone()  # the first process chooses and writes
        return Checkpoint.load(folder / runs.CHECKPOINT)
    settings = _weigh_prompts(network, pictures, validation, table, settings, record, kept, familiar_names(classes))
    checkpoint = Checkpoint(network.cpu().eval(), settings, table, "tuned", classes, record)
    checkpoint.save(folder / runs.CHECKPOINT)
    _drop_state(folder, "tune")
    accelerator.wait_for_everyone()
    return checkpoint


def _tuned(
    network: PromptedNetwork,
    pictures: PictureSet,
    table: PromptTable,
    settings: Settings,
    folder: Path,
    accelerator: Accelerator,
    measure: Callable[[], float] | None,
    known: Known | None,
) -> tuple[Kept | None, StageLog]:
    """Fits names to places where the network weighs these, and tunes it in episodes.

    Returns:
        What was kept of the layers before the prompt, if they stay as they are, and what the stage did.
    """
    try:
        kept = _kept(network, pictures, settings, folder, accelerator)
        _fit(network, pictures, table, kept, known)
        return kept, tune(
            network, pictures, table, settings, folder=folder, accelerator=accelerator, measure=measure, kept=kept
        )
    finally:
        if accelerator.is_main_process:
            drop_kept(folder)  # who has mapped the files goes on seeing them


def _kept(
    network: PromptedNetwork, pictures: PictureSet, settings: Settings, folder: Path, accelerator: Accelerator
) -> Kept | None:
    """What the layers before the prompt give of the base pictures, where they are to stay as they are."""
    if not settings.tune.cached_views:
        return None
    views = settings.tune.cached_views
    _log.info(f"the layers before the prompt stay as they are: pictures go through them once for each of {views} views")
    return keep(
        network,
        pictures.images,
        tuning_augmentation(settings),
        views=views,
        seed=settings.seed,
        folder=folder,
        accelerator=accelerator,
    )


def _fit(network: PromptedNetwork, pictures: PictureSet, table: PromptTable, kept: Kept | None, known: Known | None) -> None:
    """Fits names to places where the network weighs these and nothing has been fitted before."""
    if isinstance(network, PromptedPlaces) and not network.prompt.fitted:
        fit = fit_places(network, pictures, table, kept, None if known is None else known.directions())
        if fit is not None:
            _log.info(f"names explain {100 * fit.explained:.0f} % of where classes lie that they were not fitted on")


def _named(network: PromptedNetwork, known: Known | None) -> dict[str, tuple[str, ...]]:
    """The names that the network knew before it saw the base classes, under `NAMED`, where it still does."""
    if known is None:
        return {}
    if network.text_prototype is not None and not network.text_prototype.fitted:
        _log.info("an earlier version of sp-edge began this run, on the names of the base classes alone: so it ends")
        return {}
    return {NAMED: known.names}


def _check_stages(network: PromptedNetwork, pictures: PictureSet, settings: Settings, share: Share, *, pretrains: bool) -> None:
    """Finds what a later stage cannot use before the first has taken its hours.

    Raises:
        DataError: no such group, or too few classes or pictures.
        SettingsError: the processes cannot share a batch or the episodes of a step, or nothing would be trained.
    """
    if pretrains:
        base_batches(pictures, settings, share)
    base_episodes(pictures, settings, share)
    if settings.tune.cached_views:
        upper_parameters(network)
    if network.text_prototype is not None or isinstance(network, PromptedPlaces):
        check_classes(len(np.unique(pictures.labels)))


def _validation(network: PromptedNetwork, settings: Settings, load: Callable[[str], PictureSet]) -> PictureSet | None:
    """Pictures of the validation classes, where the network or its prompts' strength is chosen by them and there are any.

    Raises:
        SettingsError: the network is to be measured on them, and there are none.
    """
    if sets.has_split(settings, "val"):
        chosen = settings.tune.validate_every or _chooses_strength(network, settings)
        return load("val") if chosen else None
    if settings.tune.validate_every:
        raise SettingsError("no validation classes to measure on", expected="a split 'val', or tune.validate_every=0")
    return None


def _chooses_strength(network: PromptedNetwork, settings: Settings) -> bool:
    return network.prompt is not None and settings.tune.choose_strength


def _measure(
    network: PromptedNetwork, pictures: PictureSet | None, table: PromptTable, settings: Settings, accelerator: Accelerator
) -> Callable[[], float] | None:
    """The network's mean accuracy on the validation classes, over numbers of shots and groups; None where none is asked for.

    Raises:
        DataError: there are too few of them, or of their pictures.
    """
    if pictures is None or not settings.tune.validate_every:
        return None
    protocol = dataclasses.replace(settings.eval, episodes=VALIDATION_EPISODES, classifier="cosine")
    prompts = class_prompts(network, pictures, table)
    sample(pictures, protocol, seed=settings.seed)  # what is too little for an episode is found now

    def measure() -> float:
        scores = evaluate(network, pictures, prompts, protocol, seed=settings.seed, accelerator=accelerator).scores
        return float(np.mean([found.mean() for found in scores[WITH if WITH in scores else WITHOUT].values()]))

    return measure


def _begin(folder: Path, run: Begun) -> None:
    """Removes what writers that were killed have left, and says what the run is."""
    for name in (runs.SETTINGS, runs.PRETRAINED, runs.CHECKPOINT, _state_name("pretrain"), _state_name("tune")):
        remove_leftovers(folder / name)
    run.write(folder)


def _announce(accelerator: Accelerator, lacking: str) -> None:
    together = f", {accelerator.num_processes} processes" if accelerator.num_processes > 1 else ""
    arithmetic = "bf16" if accelerator.mixed_precision == "bf16" else "fp32"
    _log.info(f"training on {accelerator.device.type} in {arithmetic}{together}")
    if lacking:
        _log.info(f"an earlier version of sp-edge began this run; settings that it did not have take their defaults: {lacking}")


def _weigh_prompts(
    network: PromptedNetwork,
    pictures: PictureSet,
    validation: PictureSet | None,
    table: PromptTable,
    settings: Settings,
    record: dict[str, Any],
    kept: Kept | None,
    familiar: tuple[str, ...],
) -> Settings:
    """Fits the text prototype where there is one, and sets the prompts' strength where it is to be chosen."""
    chooses = _chooses_strength(network, settings)
    needed = network.text_prototype is not None or (chooses and validation is not None)
    base = BaseClasses.of(network, pictures, table, kept) if needed else None
    if base is not None and network.text_prototype is not None:
        fit = fit_text_prototype(network, base, table.select(familiar))
        network.text_share = settings.model.text_share
        record["text_prototype"] = dataclasses.asdict(fit)
        _log.info(f"text alone explains {100 * fit.explained:.0f} % of the features of classes that it was not fitted on")
        if fit.factor == 0:
            _log.warning("what the network knew by name before does not tell these classes apart: it no longer counts")
    if not chooses:
        return settings
    found = None
    if base is not None and validation is not None:
        background = Background.of(base.features, pictures.labels[base.rows])
        found = choose_strength(network, validation, table, settings.eval, background)
    if found is None:
        _log.warning("too few validation pictures to choose the prompts' strength: it stays as set")
        return settings
    record["strength"] = found
    network.strength, network.text_share = found["strength"], found["text_share"]
    ahead = Difference(**found["difference"])
    text = "" if network.text_prototype is None else f", {network.text_share} of it from text alone,"
    _log.info(f"prompt strength {network.strength}{text} is best on the validation classes: {ahead} points against no prompts")
    return dataclasses.replace(
        settings,
        model=dataclasses.replace(settings.model, prompt_strength=network.strength, text_share=network.text_share),
        tune=dataclasses.replace(settings.tune, choose_strength=False),
    )


def _check_folder(folder: Path, run: Begun) -> str:
    """Refuses a folder that holds another run, or something else.

    Returns:
        The settings that the run there does not name yet, in words.
    """
    file = folder / runs.SETTINGS
    if file.exists():
        begun = Begun.read(folder)
        if differences := begun.differences(run):
            raise SettingsError(
                f"{folder} holds a run with other settings",
                expected="the run's own settings to resume it, or another folder",
                got=", ".join(differences[:5]),
                next_step=f"sp-edge train --resume {folder}",
            )
        return begun.filled_in()
    # A run killed while it wrote its very first file has left nothing but that file's hidden beginning.
    beginning = f".{runs.SETTINGS}."
    if folder.exists() and not file.exists() and not all(entry.name.startswith(beginning) for entry in folder.iterdir()):
        raise SettingsError(f"{folder} is not a run and not empty", expected="a new or empty folder")
    return ""


def _sound(network: PromptedNetwork, log: StageLog, pictures: PictureSet) -> dict[str, Any]:
    """What a checkpoint records of a stage.

    Raises:
        SettingsError: it diverged.
    """
    if not all(torch.isfinite(value).all() for value in network.state_dict().values()) or not np.isfinite(log.loss):
        raise SettingsError(
            f"training on {len(pictures):,} pictures diverged", expected="finite weights", next_step="lower the lr"
        )
    return dataclasses.asdict(log)


def _state_name(stage: str) -> str:
    return f"{stage}.state.safetensors"


def _drop_state(folder: Path, stage: str) -> None:
    (folder / _state_name(stage)).unlink(missing_ok=True)
