"""Plans an ablation: which settings vary, and which runs that takes."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from timm.models.visformer import Visformer

from sp_edge.errors import SettingsError
from sp_edge.model import build_backbone, build_network
from sp_edge.settings.settings import EvalSettings, ExpectedSettings, Settings

# What the paper ablates on one data set: at full strength, without a text prototype. `--paper` adds the backbone's layers.
PAPER_BASE = ("tune.choose_strength=false", "model.text_prototype=false")
_PAPER = (
    "model.interaction=none,spatial,channel,both",
    "model.layer={layers}",
    "model.pooling=all,patch,head",
    "model.projector=linear,mlp,mlp3",
    "model.zero_mean=true,false",
    "eval.classifier=cosine,lr",
)
# A comma that neither a list nor a quoted text holds.
_COMMA = re.compile(r""",(?![^\[]*\])(?=(?:[^"]*"[^"]*")*[^"]*$)""")


@dataclass(frozen=True)
class Variant:
    """One row of an ablation.

    Attributes:
        name: what it changes, such as 'model.layer=3-2'; 'recipe' where it changes nothing.
        settings: all of it.
    """

    name: str
    settings: Settings


def paper_rows(settings: Settings) -> list[str]:
    """The `--vary` texts of the paper's ablations, with every layer of stages 2 and 3 that the backbone has.

    Raises:
        SettingsError: the backbone is not a Visformer.
    """
    backbone = build_backbone(settings.model.backbone, settings.model.image_size)
    if not isinstance(backbone, Visformer):
        raise SettingsError("the paper's ablations are of a Visformer", expected="visformer_...", got=settings.model.backbone)
    layers = [f"{stage}-{block}" for stage in (2, 3) for block in range(len(getattr(backbone, f"stage{stage}")))]
    return [row.format(layers=",".join(layers)) for row in _PAPER]


def plan(recipe: str, overrides: Sequence[str], vary: Sequence[str], *, grid: bool = False) -> list[Variant]:
    """The variants, in the order given; the first one is what the others are compared with.

    Args:
        recipe, overrides: as `Settings.load` takes them.
        vary: 'section.name=value,value' texts.
        grid: all combinations; by default one setting varies at a time and the others stay the recipe's.

    Raises:
        SettingsError: not such texts, values that cannot be, networks that cannot be built, or variants that would not see
            the same episodes.
    """
    options = [_values(text) for text in vary]
    if not options:
        raise SettingsError("nothing varies", expected="--vary section.name=value,value or --paper")
    names = [values[0].partition("=")[0] for values in options]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise SettingsError("a setting varies twice", expected="all its values in one --vary", got=", ".join(sorted(twice)))
    chosen = list(itertools.product(*options)) if grid else [(value,) for values in options for value in values]
    variants = [Variant(", ".join(values), Settings.load(recipe, [*overrides, *values])) for values in chosen]
    episodes = {json.dumps(_episodes(variant.settings)) for variant in variants}
    if len(episodes) > 1:
        raise SettingsError(
            "the variants would not be measured on the same episodes",
            expected="settings that leave the test pictures and the episodes as they are",
            got=", ".join(names),
        )
    for model in {variant.settings.model for variant in variants}:
        build_network(model, 8)  # what cannot be built is found before the first has trained for hours
    return variants


def _values(text: str) -> list[str]:
    name, equals, values = text.partition("=")
    parts = [part.strip() for part in _COMMA.split(values)]
    if not equals or not name.strip() or not all(parts):
        raise SettingsError("not a setting that varies", expected="section.name=value,value", got=text)
    return [f"{name.strip()}={part}" for part in dict.fromkeys(parts)]


def _episodes(settings: Settings) -> list[Any]:
    data, protocol = settings.data, settings.eval
    return [
        *(data.source, data.root, data.split, data.names, data.test_per_class, settings.seed),
        *(protocol.n_way, protocol.n_shot, protocol.n_query, protocol.episodes),
    ]


def to_train(settings: Settings) -> Settings:
    """The settings to train with: what only measuring needs is left at its default, so that such variants share a run."""
    model, usual = settings.model, EvalSettings()
    if not settings.tune.choose_strength and not settings.tune.validate_every:  # else training measures with it
        model = dataclasses.replace(model, prompt_strength=1.0)
    protocol = dataclasses.replace(
        settings.eval, episodes=usual.episodes, classifier=usual.classifier, views=usual.views
    )  # the rest is also what training validates with
    return dataclasses.replace(settings, model=model, eval=protocol, expected=ExpectedSettings())


def backbone_key(settings: Settings) -> str:
    """What pre-training depends on: runs with the same key can start from one pre-trained backbone."""
    model = settings.model
    parts = [dataclasses.asdict(part) for part in (settings.data, settings.augment, settings.pretrain)]
    return json.dumps([*parts, settings.seed, settings.precision, model.backbone, model.image_size, model.drop_path])


def folder_name(settings: Settings, base: Settings) -> str:
    """A run's folder, called after what it changes of the recipe; the same however the ablation is ordered."""
    theirs, ours = _flat(base.to_json()), _flat(settings.to_json())
    changes = ",".join(f"{name}={value}" for name, value in ours.items() if value != theirs[name]) or "recipe"
    name = re.sub(r"[^\w.,=+-]+", "-", changes)
    return name if len(name) <= 120 else f"{name[:100]}-{hashlib.sha256(changes.encode()).hexdigest()[:8]}"


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
