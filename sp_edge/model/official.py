"""The parameter names of the Semantic Prompt authors' checkpoints, and what they show of the network that they belong to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sp_edge.errors import CheckpointError
from sp_edge.model.network import PromptedNetwork
from sp_edge.settings.settings import ModelSettings

# Theirs: h_s, h_c and the channel interaction's MLP.
PROMPT = {"spatial": "t2i", "channel": "t2i2", "channel_mlp": "se_block"}
# In some files besides: the pre-training's classifier, and a temperature that VT-FSL learns.
OPTIONAL = ("head.weight", "head.bias", "log_tau")
SHOWN = 6

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Recognized:
    """What names and shapes show; where several settings fit, the release's default comes first.

    Attributes:
        backbone: name in `BACKBONES`.
        grids: sides of the three stages' token grids.
        interactions: settings that fit. A file for the channel interaction alone has the other's parameters, too.
        stage: that the prompt enters, 2 or 3; None without prompts.
        projector: h_s.
        text_dim: T; None without prompts.
    """

    backbone: str
    grids: tuple[int, ...]
    interactions: tuple[str, ...]
    stage: int | None
    projector: str
    text_dim: int | None

    def settings(self, given: ModelSettings, named: Collection[str]) -> ModelSettings:
        """The given settings where they fit; else those that do.

        Args:
            given: all settings of the network.
            named: those that were asked for expressly, such as 'layer'; they are not changed.

        Raises:
            CheckpointError: one of these does not fit.
        """
        layers = [given.layer] if self.stage is None else [f"{self.stage}-{block}" for block in (2, 0, 1, 3)]
        fitting: dict[str, list[Any]] = {
            "backbone": [self.backbone],
            "image_size": _sizes(self.backbone, self.grids),
            "interaction": list(self.interactions),
            "layer": layers,
            "projector": [self.projector] if self.stage is not None else [given.projector],
            "text_prototype": [False],  # theirs have none
        }
        changes = {name: values[0] for name, values in fitting.items() if getattr(given, name) not in values}
        for name in changes:
            if name in named:
                raise CheckpointError(
                    f"the checkpoint does not fit model.{name}",
                    expected=" or ".join(map(str, fitting[name][:4])),
                    got=str(getattr(given, name)),
                )
        return replace(given, **changes)


def _sizes(backbone: str, grids: tuple[int, ...]) -> list[int]:
    """Sides of pictures that have these grids, with those of the release first."""
    patch, step = (4, 1) if backbone == "visformer_tiny_84" else (8, 2)
    sizes = [
        size
        for size in range(patch * grids[0], patch * (grids[0] + 1), step)
        if (size // patch, size // patch // 2, size // patch // 4) == grids
    ]
    return sorted(sizes, key=lambda size: (size not in (224, 84), size))


def recognize(weights: Weights) -> Recognized:
    """Reads a network's form off its parameters.

    Raises:
        CheckpointError: not the parameters of a Visformer as the authors name them.
    """
    embeddings = [_shape(weights, f"pos_embed{stage}") for stage in (1, 2, 3)]
    if any(len(shape) != 4 or shape[2] != shape[3] for shape in embeddings):
        raise CheckpointError("not a Visformer for square pictures", expected="pos_embed (1, C, s, s)", got=str(embeddings))
    width = embeddings[0][1]
    backbones = {96: "visformer_tiny", 192: "visformer_small"}
    if width not in backbones:
        raise CheckpointError("a Visformer of unknown size", expected="width 96 (tiny) or 192 (small)", got=str(width))
    small_stem = "stem.3.weight" in weights and width == 96
    backbone = "visformer_tiny_84" if small_stem else backbones[width]
    grids = tuple(shape[2] for shape in embeddings)
    if not _sizes(backbone, grids):
        raise CheckpointError("the position embeddings fit no picture", expected="grids such as 28, 14, 7", got=str(grids))
    if not any(name.startswith("t2i") for name in weights):
        return Recognized(backbone, grids, ("none",), None, "linear", None)
    last = next((f"t2i.{end}weight" for end in ("4.", "2.") if f"t2i.{end}weight" in weights), "t2i.weight")
    rows, text_dim = _matrix(weights, last)
    stages = {embeddings[1][1]: 2, embeddings[2][1]: 3}
    if rows not in stages:
        raise CheckpointError(
            "the prompt's projector fits neither stage",
            expected=f"{last} of {' or '.join(map(str, stages))} rows",
            got=str(rows),
        )
    channel = any(name.startswith(("t2i2.", "se_block.")) for name in weights)
    projector = {"t2i.weight": "linear", "t2i.2.weight": "mlp", "t2i.4.weight": "mlp3"}[last]
    return Recognized(backbone, grids, ("both", "channel") if channel else ("spatial",), stages[rows], projector, text_dim)


def load(network: PromptedNetwork, weights: Weights) -> None:
    """Copies weights under the authors' names into a network of the form that `recognize` found.

    Raises:
        CheckpointError: parameters are missing, too many, of another shape or kind, or not finite; all are listed.
    """
    names = official_names(network)
    own = network.state_dict()
    unused = (
        set() if network.prompt is None or network.prompt.spatial is not None else {n for n in weights if n.startswith("t2i.")}
    )
    troubles = {
        "missing": [name for name in names if name not in weights],
        "unexpected": [name for name in weights if name not in names and name not in unused and name not in OPTIONAL],
        "wrong shape": [
            f"{name} {tuple(weights[name].shape)} instead of {tuple(own[ours].shape)}"
            for name, ours in names.items()
            if name in weights and weights[name].shape != own[ours].shape
        ],
    }
    if not any(troubles.values()):
        fitting = {name: (weights[name], own[ours]) for name, ours in names.items()}
        troubles["of another kind"] = [n for n, (w, o) in fitting.items() if w.is_floating_point() != o.is_floating_point()]
        troubles["not finite"] = [n for n, (w, _) in fitting.items() if not torch.isfinite(w.float()).all()]
    if any(troubles.values()):
        raise CheckpointError(
            "the checkpoint does not fit its network",
            expected=f"{len(names)} parameters of {type(network).__name__}",
            got="; ".join(f"{len(found)} {what}: {_list(found)}" for what, found in troubles.items() if found),
        )
    network.load_state_dict({ours: weights[name] for name, ours in names.items()})


def official_names(network: PromptedNetwork) -> dict[str, str]:
    """The authors' name of every parameter and buffer -> ours; in theirs, a BatchNorm is a child called 'bn'."""
    norms = {name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    names = {}
    for ours in network.state_dict():
        part, _, rest = ours.partition(".")
        if part == "prompt":
            form, _, rest = rest.partition(".")
            names[f"{PROMPT[form]}.{rest}"] = ours
        else:
            module, _, leaf = ours.rpartition(".")
            names[f"{module.removeprefix('backbone.')}.bn.{leaf}" if module in norms else rest] = ours
    return names


def _list(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _shape(weights: Weights, name: str) -> tuple[int, ...]:
    if name not in weights:
        raise CheckpointError(
            f"not a Visformer as the authors name it: {name} is missing",
            expected="pos_embed1, stem.0.weight, stage1.0.norm2.bn.weight, ...",
            got=_list(sorted(weights)) or "nothing",
        )
    return tuple(weights[name].shape)


def _matrix(weights: Weights, name: str) -> tuple[int, int]:
    shape = _shape(weights, name)
    if len(shape) != 2:
        raise CheckpointError("the prompt's projector is no matrix", expected=f"{name} (C, T)", got=str(shape))
    return shape[0], shape[1]
