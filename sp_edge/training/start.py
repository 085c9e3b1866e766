"""What training starts from instead of pre-training: a checkpoint, a ready-made network, or timm's weights."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable
from pathlib import Path

import torch

from sp_edge.errors import CheckpointError
from sp_edge.model import PromptedNetwork, PromptedPlaces
from sp_edge.model.pretrained import load_timm_weights, seen_classes, timm_normalization
from sp_edge.model.ready.google import PACKAGES
from sp_edge.model.ready.hub import PREFIX
from sp_edge.model.ready.registry import DEFAULT, find_weights
from sp_edge.model.ready.weights import check_fit
from sp_edge.prompts.table import PromptTable
from sp_edge.settings.settings import Settings
from sp_edge.training.checkpoint import Checkpoint

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

    A ready-made network brings its backbone, its picture size, how pictures are resized and normalized, the spatial
    interaction at its last feature map, and that only what follows this map is tuned. timm's weights bring how pictures are
    normalized. Other starts bring nothing.

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
            "tune": {"cached_views": checkpoint.settings.tune.cached_views},
        }
    # JSON's texts, numbers and lists are TOML's, too.
    return [f"{section}.{name}={json.dumps(value)}" for section, own in found.items() for name, value in own.items()]


def start_from(network: PromptedNetwork, init: Path, settings: Settings, table: PromptTable) -> None:
    """Takes over a backbone; of a checkpoint also the prompt, where both have one of the same form.

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
    elif init == Path(TIMM):
        _log.info(f"starting from timm's {load_timm_weights(network.backbone, settings.model.backbone)}")
        published = timm_normalization(settings.model.backbone)
        if published not in (None, network.normalise):
            _log.warning(f"these weights have seen pictures of another normalization: {published}")
        _warn(settings)
    else:
        _take(network, init, table)


def _warn(settings: Settings) -> None:
    if warning := seen_classes(settings.data.source):
        _log.warning(warning)


def _take(network: PromptedNetwork, init: Path, table: PromptTable) -> None:
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
