"""What training starts from instead of pre-training: a checkpoint, a ready-made network, or timm's weights."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sp_edge.errors import CheckpointError, PromptError
from sp_edge.model import PromptedNetwork, PromptedPlaces
from sp_edge.model.pretrained import load_timm_weights, seen_classes, timm_normalization
from sp_edge.model.ready.google import PACKAGES
from sp_edge.model.ready.hub import PREFIX
from sp_edge.model.ready.registry import DEFAULT, find_weights
from sp_edge.model.ready.weights import PROMPT_LR, Head, check_fit
from sp_edge.prompts.table import PromptTable
from sp_edge.settings.settings import Settings, TuneSettings
from sp_edge.text import extend_table
from sp_edge.training.checkpoint import Checkpoint, familiar_names
from sp_edge.training.directions import fit_directions

READY, TIMM = "ready", "timm"
# Settings that belong to a ready-made network, and so come with its checkpoint.
_OWN = (
    "backbone", "image_size", "interaction", "layer", "mean", "std", "place_threshold", "place_softness", "place_floor",
    "place_evidence",
)  # fmt: skip
_log = logging.getLogger(__name__)


def ready_model(init: Path) -> str | None:
    """The ready-made network that `init` names, as `find_weights` takes it; None where it is something else."""
    name = init.as_posix()
    if name == READY:
        return DEFAULT
    return name if name.startswith(PREFIX) or (name in PACKAGES and not init.exists()) else None


def settings_of(init: Path, backbone: Callable[[], str]) -> list[str]:
    """The settings that come with what training starts from, as 'section.name=value'.

    A ready-made network, and a checkpoint of one, brings its backbone, its picture size, how pictures are resized and
    normalized, the spatial interaction at its last feature map, that only what follows this map is tuned, and the steps in
    which names are, where it knows any. timm's weights bring how pictures are normalized. Other starts bring nothing.

    Args:
        init: what training starts from.
        backbone: gives the one that the other settings name, for which timm's weights are wanted.

    Raises:
        SettingsError: there is no such ready-made network.
        CheckpointError, MissingExtraError: the weights, or the checkpoint, cannot be had or used.
    """
    model = ready_model(init)
    if model is not None:
        found = find_weights(model).settings()
    elif init == Path(TIMM):
        published = timm_normalization(backbone())
        found = {"model": dataclasses.asdict(published)} if published else {}
    else:
        checkpoint = Checkpoint.load(init)
        if not isinstance(checkpoint.network, PromptedPlaces):
            return []
        data = checkpoint.settings.data
        found = {
            "model": {name: getattr(checkpoint.settings.model, name) for name in _OWN},
            "data": {"resize_ratio": data.resize_ratio, "interpolation": data.interpolation},
            "tune": {"cached_views": checkpoint.settings.tune.cached_views, "prompt_lr": _steps(checkpoint)},
        }
    # JSON's texts, numbers and lists are TOML's, too.
    return [f"{section}.{name}={json.dumps(value)}" for section, own in found.items() for name, value in own.items()]


@dataclass(frozen=True, eq=False)
class Known:
    """What names tell a network before it has seen a picture of the user's.

    Attributes:
        names: of n classes; a name may stand twice.
        prompts: of each of them.
        rows: float32 (n, D), of the classifier whose classes they are; None where they are fitted in the network already.
    """

    names: tuple[str, ...]
    prompts: PromptTable
    rows: NDArray[np.float32] | None

    def directions(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """As `fit_places` takes them."""
        return None if self.rows is None else fit_directions(self.prompts.select(self.names), self.rows)

    def added_to(self, table: PromptTable) -> PromptTable:
        """The table with these names where it has none, as they are described."""
        return table.with_table(self.prompts.only([name for name in self.names if name not in table]))


def _steps(checkpoint: Checkpoint) -> float:
    """Names that only many classes have told are tuned in small steps, as those of a classifier are."""
    return PROMPT_LR if checkpoint.stage == "ready" else checkpoint.settings.tune.prompt_lr


def start_from(network: PromptedNetwork, init: Path, settings: Settings, table: PromptTable) -> Known | None:
    """Takes over a backbone; of a checkpoint also the prompt, where both have one of the same form.

    Returns:
        The names that the network knows then, or can be fitted to; None where there are none.

    Raises:
        CheckpointError: what `init` names cannot be had, or has another backbone.
    """
    model = ready_model(init)
    if model is not None:
        weights = find_weights(model)
        check_fit(model, weights.weights, network.backbone.state_dict())
        network.backbone.load_state_dict(weights.weights)
        _log.info(f"starting from {weights.source}")
        _warn(settings)
        return _of_classifier(weights.head, settings, table) if isinstance(network, PromptedPlaces) else None
    if init == Path(TIMM):
        _log.info(f"starting from timm's {load_timm_weights(network.backbone, settings.model.backbone)}")
        published = timm_normalization(settings.model.backbone)
        if published not in (None, network.normalise):
            _log.warning(f"these weights have seen pictures of another normalization: {published}")
        _warn(settings)
    else:
        return _take(network, init, table)
    return None


def _of_classifier(head: Head | None, settings: Settings, table: PromptTable) -> Known | None:
    """The classes of a ready-made network's classifier, where the text encoder of this run can read them."""
    if head is None:
        return None
    try:
        wide = extend_table(table, head.names, settings.text, given=head.names)
    except PromptError as error:
        _log.warning(
            f"names are fitted on the base classes alone, as the classifier's cannot be encoded ({error.what}), and tuned in "
            f"steps of {settings.tune.prompt_lr:g}: --set tune.prompt_lr={TuneSettings().prompt_lr:g} suits them more"
        )
        return None
    return Known(head.names, wide.only(head.names), head.rows)


def _warn(settings: Settings) -> None:
    if warning := seen_classes(settings.data.source):
        _log.warning(warning)


def _take(network: PromptedNetwork, init: Path, table: PromptTable) -> Known | None:
    checkpoint = Checkpoint.load(init)
    weights, own = checkpoint.network.state_dict(), network.state_dict()
    unfit = [n for n in own if n.startswith("backbone.") and (n not in weights or weights[n].shape != own[n].shape)]
    if unfit:
        raise CheckpointError(
            f"{init} has another backbone",
            expected="the network of these settings",
            got=f"{len(unfit)} tensors differ, such as {unfit[0]}",
        )
    if isinstance(network, PromptedPlaces) and checkpoint.prompts.text != table.text:  # fitted to other text vectors
        weights = {name: value for name, value in weights.items() if name.startswith("backbone.")}
    fitting = {n: weights[n] if n in weights and weights[n].shape == v.shape else v for n, v in own.items()}
    with torch.no_grad():
        network.load_state_dict(fitting)
    if not (isinstance(network, PromptedPlaces) and network.text_prototype is not None and network.text_prototype.fitted):
        return None
    names = familiar_names(checkpoint.classes)
    return Known(names, checkpoint.prompts, None)
