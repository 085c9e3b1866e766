"""Every setting of a training run, in frozen dataclasses that refuse what cannot be."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from sp_edge.errors import SettingsError

if typing.TYPE_CHECKING:
    from _typeshed import DataclassInstance


def _require(condition: bool, name: str, expected: str, got: object) -> None:
    if not condition:
        raise SettingsError(f"the setting {name} is out of range", expected=expected, got=str(got))


def _choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    _require(value in choices, name, " | ".join(choices), value)


@dataclass(frozen=True)
class ModelSettings:
    """The network.

    Attributes:
        backbone: name in `sp_edge.model.BACKBONES`.
        image_size: side of the square input, pixels.
        interaction: which of the prompt's interactions take part: both, spatial, channel or none.
        layer: where the prompt enters, as stage-block counted from 0 within the stage; '3-2' is the paper's choice.
        pooling: tokens that make the feature: all, patch or head.
    """

    backbone: str = "visformer_tiny"
    image_size: int = 224
    interaction: str = "both"
    layer: str = "3-2"
    pooling: str = "all"

    def __post_init__(self) -> None:
        _choice("model.interaction", self.interaction, ("both", "spatial", "channel", "none"))
        _choice("model.pooling", self.pooling, ("all", "patch", "head"))
        _require(bool(re.fullmatch(r"3-\d+", self.layer)), "model.layer", "3-0, 3-1, ...", self.layer)

    @property
    def layer_index(self) -> int:
        """The block of stage 3 before which the prompt enters."""
        return int(self.layer.split("-")[1])


@dataclass(frozen=True)
class TextSettings:
    """How a class name becomes a prompt vector.

    Attributes:
        encoder: name in `sp_edge.text.ENCODERS`.
        template: sentence about the class; must hold `{name}`.
        norm: length to which every vector is rescaled (the release's choice for sentence encoders is 9).
    """

    encoder: str = "minilm"
    template: str = "A photo of {name}"
    norm: float = 9.0

    def __post_init__(self) -> None:
        _require("{name}" in self.template, "text.template", "a sentence with {name}", self.template)
        _require(self.norm > 0, "text.norm", "a positive number", self.norm)


@dataclass(frozen=True)
class AugmentSettings:
    """Random changes to training pictures.

    Attributes:
        flip: mirror half of the pictures.
        shift: move by up to this share of the side; what leaves at one edge is reflected at the other.
        brightness: scale the values by up to this share, per channel.
    """

    flip: bool = True
    shift: float = 0.1
    brightness: float = 0.2

    def __post_init__(self) -> None:
        _require(0 <= self.shift < 0.5, "augment.shift", "0 to 0.5", self.shift)
        _require(0 <= self.brightness < 1, "augment.brightness", "0 to 1", self.brightness)


@dataclass(frozen=True)
class PretrainSettings:
    """The first stage: a plain classifier on the base classes.

    Attributes:
        steps: optimiser steps.
        group: which pictures of the training split (a name in `PictureSet.groups`, or 'all').
    """

    steps: int = 20_000
    batch_size: int = 128
    lr: float = 5e-4
    weight_decay: float = 0.05
    group: str = "all"

    def __post_init__(self) -> None:
        _require(self.steps >= 1, "pretrain.steps", "1 or more", self.steps)
        _require(self.batch_size >= 2, "pretrain.batch_size", "2 or more", self.batch_size)
        _require(self.lr > 0, "pretrain.lr", "a positive number", self.lr)


@dataclass(frozen=True)
class TuneSettings:
    """The second stage: episodes with prompted support and plain queries.

    Attributes:
        steps: episodes, one an optimiser step.
        lr: for the network.
        prompt_lr: for the prompt's projectors and channel MLP.
        temperature: tau that divides the cosine in the loss and in the confidence.
        group: as in `PretrainSettings`.
    """

    steps: int = 5_000
    n_way: int = 5
    n_shot: int = 1
    n_query: int = 15
    lr: float = 1e-6
    prompt_lr: float = 5e-4
    weight_decay: float = 0.05
    temperature: float = 0.2
    group: str = "all"

    def __post_init__(self) -> None:
        _require(self.steps >= 1, "tune.steps", "1 or more", self.steps)
        _require(self.n_way >= 2, "tune.n_way", "2 or more", self.n_way)
        _require(self.n_shot >= 1, "tune.n_shot", "1 or more", self.n_shot)
        _require(self.n_query >= 1, "tune.n_query", "1 or more", self.n_query)
        _require(self.lr >= 0, "tune.lr", "0 or more", self.lr)
        _require(self.prompt_lr > 0, "tune.prompt_lr", "a positive number", self.prompt_lr)
        _require(self.temperature > 0, "tune.temperature", "a positive number", self.temperature)
