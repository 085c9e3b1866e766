"""Every setting of a training run, in frozen dataclasses that refuse what cannot be."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

from sp_edge.errors import SettingsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


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
        prompt_strength: share of the prompted feature in a support feature, the rest being the unprompted one; 1 as in the
            paper, 0 without prompts. Training may choose it (`tune.choose_strength`).
    """

    backbone: str = "visformer_tiny"
    image_size: int = 224
    interaction: str = "both"
    layer: str = "3-2"
    pooling: str = "all"
    prompt_strength: float = 1.0

    def __post_init__(self) -> None:
        _choice("model.interaction", self.interaction, ("both", "spatial", "channel", "none"))
        _choice("model.pooling", self.pooling, ("all", "patch", "head"))
        _require(0 <= self.prompt_strength <= 1, "model.prompt_strength", "0 to 1", self.prompt_strength)
        _require(bool(re.fullmatch(r"3-[0-9]{1,3}", self.layer)), "model.layer", "3-0, 3-1, ...", self.layer)

    @property
    def layer_index(self) -> int:
        """The block of stage 3 before which the prompt enters."""
        return int(self.layer.split("-")[1])


@dataclass(frozen=True)
class TextSettings:
    """How a class name becomes a prompt vector.

    Attributes:
        encoder: the text encoder; minilm works without a download.
        template: sentence about the class; must hold `{name}`.
        norm: length to which every vector is rescaled (the release's choice for sentence encoders is 9).
    """

    encoder: str = "minilm"
    template: str = "A photo of {name}"
    norm: float = 9.0

    def __post_init__(self) -> None:
        _choice("text.encoder", self.encoder, ("minilm",))
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
        _require(self.weight_decay >= 0, "pretrain.weight_decay", "0 or more", self.weight_decay)


@dataclass(frozen=True)
class TuneSettings:
    """The second stage: episodes with prompted support and plain queries.

    Attributes:
        steps: episodes, one an optimiser step.
        n_way, n_query: of an episode.
        n_shot: of an episode; several numbers are taken in turn, so that the network learns to be taught with each.
        lr: for the network.
        prompt_lr: for the prompt's projectors and channel MLP.
        temperature: tau that divides the cosine in the loss and in the confidence.
        group: as in `PretrainSettings`.
        choose_strength: set `model.prompt_strength` at the end, by what serves the validation classes best.
    """

    steps: int = 5_000
    n_way: int = 5
    n_shot: tuple[int, ...] = (1,)
    n_query: int = 15
    lr: float = 1e-6
    prompt_lr: float = 5e-4
    weight_decay: float = 0.05
    temperature: float = 0.2
    group: str = "all"
    choose_strength: bool = True

    def __post_init__(self) -> None:
        _require(self.steps >= 1, "tune.steps", "1 or more", self.steps)
        _require(self.n_way >= 2, "tune.n_way", "2 or more", self.n_way)
        _require(bool(self.n_shot) and min(self.n_shot) >= 1, "tune.n_shot", "1 or more", list(self.n_shot))
        _require(self.n_query >= 1, "tune.n_query", "1 or more", self.n_query)
        _require(self.lr >= 0, "tune.lr", "0 or more", self.lr)
        _require(self.prompt_lr > 0, "tune.prompt_lr", "a positive number", self.prompt_lr)
        _require(self.weight_decay >= 0, "tune.weight_decay", "0 or more", self.weight_decay)
        _require(self.temperature > 0, "tune.temperature", "a positive number", self.temperature)


@dataclass(frozen=True)
class DataSettings:
    """Where the pictures come from.

    Attributes:
        source: 'scenes' for the drawn set, else a folder that holds train/, val/ and test/ with one folder a class.
        resize_ratio: see `sp_edge.preprocess.Preprocess`; of no effect on scenes, which are drawn at the network's size.
        per_class: scenes to draw for each class and group of the training split.
        test_per_class: the same for the validation and test splits.
    """

    source: str = "scenes"
    resize_ratio: float = 1.1
    per_class: int = 20
    test_per_class: int = 20

    def __post_init__(self) -> None:
        _require(bool(self.source), "data.source", "scenes or a folder", self.source)
        _require(1 <= self.resize_ratio <= 4, "data.resize_ratio", "1 to 4", self.resize_ratio)
        _require(self.per_class >= 1, "data.per_class", "1 or more", self.per_class)
        _require(self.test_per_class >= 2, "data.test_per_class", "2 or more", self.test_per_class)


@dataclass(frozen=True)
class Settings:
    """All of a run.

    Attributes:
        seed: from which every random choice follows.
        precision: of the arithmetic in training: fp32, bf16, or auto, which takes bf16 where the processor has it.
    """

    data: DataSettings = field(default_factory=DataSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    text: TextSettings = field(default_factory=TextSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    pretrain: PretrainSettings = field(default_factory=PretrainSettings)
    tune: TuneSettings = field(default_factory=TuneSettings)
    seed: int = 0
    precision: str = "auto"

    def __post_init__(self) -> None:
        _choice("precision", self.precision, ("auto", "fp32", "bf16"))
        if self.model.prompt_strength != 1 and self.tune.choose_strength:
            raise SettingsError(
                "model.prompt_strength was set, and training is to choose it", expected="tune.choose_strength=false besides"
            )
        _require(0 <= self.seed < 2**63, "seed", "0 to 2^63 - 1", self.seed)

    def to_json(self) -> dict[str, Any]:
        """As checkpoints record it; `from_mapping` reads it."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return values

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Settings:
        """Builds settings from nested tables, as a recipe or a checkpoint holds them; what is absent keeps its default.

        Raises:
            SettingsError: unknown name, wrong kind of value, or out of range.
        """
        result: Settings = _build(cls, values, "")
        return result

    @classmethod
    def load(cls, recipe: str, overrides: Sequence[str] = ()) -> Settings:
        """Reads a recipe and applies overrides.

        Args:
            recipe: name of a shipped recipe ('scenes', 'folder'), or path of a TOML file.
            overrides: 'section.name=value' texts; values are TOML, and bare words count as text.

        Raises:
            SettingsError: no such recipe, not TOML, or a setting that does not exist or is out of range.
        """
        values = _read_recipe(recipe)
        for override in overrides:
            name, equals, text = override.partition("=")
            if not equals or not name.strip():
                raise SettingsError("not a setting", expected="section.name=value", got=override)
            *path, last = name.strip().split(".")
            table = values
            for part in path:
                table = table.setdefault(part, {})
                if not isinstance(table, dict):
                    raise SettingsError("not a setting", expected="section.name=value", got=override)
            table[last] = _parse_value(text.strip())
        return cls.from_mapping(values)


def recipes() -> list[str]:
    """Names of the shipped recipes."""
    folder = resources.files("sp_edge") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def _read_recipe(recipe: str) -> dict[str, Any]:
    try:
        if recipe in recipes():
            return tomllib.loads((resources.files("sp_edge") / "recipes" / f"{recipe}.toml").read_text("utf-8"))
        return tomllib.loads(Path(recipe).read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as cause:
        names = ", ".join(recipes())
        raise SettingsError(f"cannot read the recipe {recipe}", expected=f"{names}, or a TOML file", got=str(cause)) from cause


def _parse_value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


def _integers(name: str, value: object) -> tuple[int, ...]:
    """One number stands for a list of one."""
    numbers = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not all(type(number) is int for number in numbers):
        raise SettingsError(f"the setting {name} is of the wrong kind", expected="a number or a list of them", got=repr(value))
    return numbers


def _number(name: str, value: int | float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    _require(math.isfinite(number), name, "a finite number", number)
    return number


def _build(kind: type[Any], values: Mapping[str, Any], prefix: str) -> Any:
    if not isinstance(values, Mapping):
        name = prefix.rstrip(".") or "recipe"
        raise SettingsError(f"the setting {name} is of the wrong kind", expected="a table", got=repr(values))
    hints = get_type_hints(kind)
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        full = f"{prefix}{name}"
        if name not in hints:
            raise SettingsError(f"there is no setting {full}", expected=", ".join(f"{prefix}{n}" for n in hints), got=full)
        wanted = hints[name]
        if isinstance(wanted, type) and dataclasses.is_dataclass(wanted):
            arguments[name] = _build(wanted, value, f"{full}.")
        elif wanted is float and type(value) in (int, float):
            arguments[name] = _number(full, value)
        elif wanted == tuple[int, ...]:
            arguments[name] = _integers(full, value)
        elif type(value) is not wanted:
            raise SettingsError(f"the setting {full} is of the wrong kind", expected=wanted.__name__, got=repr(value))
        else:
            arguments[name] = value
    return kind(**arguments)
