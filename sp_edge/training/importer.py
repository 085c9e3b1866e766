"""Turns a checkpoint of the Semantic Prompt authors, or of VT-FSL, into one of ours."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sp_edge.data import sets
from sp_edge.errors import CheckpointError, DataError, SettingsError
from sp_edge.files import sha256
from sp_edge.model import build_network, official
from sp_edge.prompts.table import PromptTable, TextSpec
from sp_edge.settings.encoders import ENCODERS, FILES, NETWORKS
from sp_edge.settings.settings import Settings, TextSettings
from sp_edge.text import whole_table
from sp_edge.training.checkpoint import Checkpoint

WIDTHS = {name: kind.dim for name, kind in ENCODERS.items() if kind.dim is not None}


def import_checkpoint(
    path: Path, settings: Settings, *, named: Collection[str] = (), prompts: Path | None = None
) -> Checkpoint:
    """Reads a file of the authors' and gives the same network as a checkpoint of ours.

    The file is the `torch.save` of a dict with `state_dict`, or of a bare state dict; it is read with `weights_only`, so
    that nothing in it is run. What its names and shapes show (backbone, picture size, interaction, the prompt's stage,
    projector, width of the text vectors) replaces what the settings say; all else (the block within the stage, pooling,
    template, data set, temperature) is theirs.

    Args:
        path: the file.
        settings: of the run that it stands for.
        named: settings that were asked for expressly, such as 'model.layer'; where the file contradicts, it is refused.
        prompts: a prompt table for the network, which then says how texts were encoded. Without it the encoder is
            recognized by its width, and the checkpoint knows no names yet; with `text.encoder = file` it knows all names of
            that file, as nothing could encode them later.

    Raises:
        CheckpointError: not such a file, or it does not fit together, or not the named settings.
        PromptError: the prompt table or the file of vectors cannot be used.
        SettingsError: the recognized network needs a setting that is missing.
    """
    content, weights = read(path)
    found = official.recognize(weights)
    model = found.settings(settings.model, [name.removeprefix("model.") for name in named if name.startswith("model.")])
    try:
        classes = sets.class_names(settings)
    except DataError:  # the pictures may be elsewhere; whatever needs them says so
        classes = {}
    text, table = _text(settings.text, found.text_dim, named, prompts, classes.get("train", ()))
    network = build_network(model, table.text.dim)
    official.load(network, weights)
    settings = replace(settings, model=model, text=text)
    stage = "pretrained" if network.prompt is None else "tuned"
    record: dict[str, Any] = _record(path, content, weights)
    if found.stage is not None:  # what the file does not show
        record["assumed"] = {name: getattr(model, name) for name in ("layer", "pooling", "zero_mean")}
        if len(found.interactions) > 1:
            record["assumed"]["interaction"] = model.interaction
        if model.projector != "linear":
            record["assumed"]["activation"] = "relu"
    return Checkpoint(network.eval(), settings, table, stage, classes, {"imported": record})


def read(path: Path) -> tuple[Mapping[str, Any], dict[str, Tensor]]:
    """The file's dict, and its state dict: plain tensors by name.

    Raises:
        CheckpointError: not a file of `torch.save`, one with more than tensors and plain values, or without a state dict.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch comments on old formats
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as cause:  # torch.load has no error type of its own
        raise CheckpointError(
            f"cannot read {path}",
            expected="a file of torch.save that holds tensors, numbers and texts alone",
            got=f"{type(cause).__name__}: {' '.join(str(cause).split())[:300]}",
        ) from cause
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} is no checkpoint", expected="a dict with 'state_dict'", got=type(content).__name__)
    weights = content.get("state_dict", content)
    strange = [
        str(name)[:80]
        for name, value in (weights.items() if isinstance(weights, Mapping) else [("state_dict", weights)])
        if not isinstance(name, str) or not _is_plain(value)
    ]
    if strange:
        raise CheckpointError(f"{path} holds no state dict", expected="tensors by name", got=f"none: {', '.join(strange[:5])}")
    return content, dict(weights)


def _is_plain(value: object) -> bool:
    if not isinstance(value, Tensor) or value.is_nested or value.is_quantized:
        return False
    return value.layout is torch.strided and value.device.type == "cpu" and not value.is_complex()


def _text(
    given: TextSettings, dim: int | None, named: Collection[str], prompts: Path | None, base: Sequence[str]
) -> tuple[TextSettings, PromptTable]:
    """Text settings that fit the file, and the table of prompts so far."""
    if prompts is not None:
        if any(name.startswith("text.") for name in named):
            raise SettingsError("the prompt table says how texts were encoded", expected="--prompts or --set text, not both")
        table = PromptTable.load(prompts)
        _check_width(prompts, table, dim)
        spec = table.text
        own = spec.encoder in NETWORKS
        encoder, file = (spec.encoder, "") if own else ("file", str(prompts))
        return replace(given, encoder=encoder, path=file, template=spec.template, norm=spec.norm, descriptions=""), table
    text = _recognized_text(given, dim, named)
    width = dim or WIDTHS.get(text.encoder)
    if width is None:
        raise SettingsError("this network knows no prompts", expected="no text.encoder = file", got=text.encoder)
    if not ENCODERS[text.encoder].encodes:
        table = whole_table(text, base=base)
        _check_width(Path(text.path), table, dim)
        return text, table
    spec = TextSpec(text.encoder, "", text.template, text.norm, width)
    return text, PromptTable(spec, (), np.empty((0, width), np.float32))


def _check_width(file: Path, table: PromptTable, dim: int | None) -> None:
    if dim is not None and table.text.dim != dim:
        raise CheckpointError(f"{file} is for another network", expected=f"vectors of {dim} numbers", got=str(table.text.dim))


def _recognized_text(given: TextSettings, dim: int | None, named: Collection[str]) -> TextSettings:
    if dim is None or given.encoder in FILES:  # vectors from files may have any width
        return given
    encoders = {width: encoder for encoder, width in WIDTHS.items()}
    if dim not in encoders or ("text.encoder" in named and WIDTHS[given.encoder] != dim):
        raise CheckpointError(
            "the checkpoint's text encoder is another one",
            expected=", ".join(f"{encoder} ({width} numbers)" for encoder, width in WIDTHS.items()),
            got=f"{dim} numbers" + (f", and text.encoder = {given.encoder}" if "text.encoder" in named else ""),
            next_step="--prompts TABLE, or --set text.encoder=file --set text.path=FILE",
        )
    encoder = encoders[dim]
    norm = given.norm if "text.norm" in named else ENCODERS[encoder].norm
    return replace(given, encoder=encoder, norm=norm)


def _record(path: Path, content: Mapping[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Any]:
    record: dict[str, Any] = {"file": path.name, "sha256": sha256(path)}
    if isinstance(content.get("epoch"), int):
        record["epoch"] = content["epoch"]
    if "head.weight" in weights:
        record["head_classes"] = len(weights["head.weight"]) if weights["head.weight"].dim() else 0
    log_tau = weights.get("log_tau")
    if log_tau is not None and log_tau.numel() == 1 and math.isfinite(log_tau.item()):
        record["log_tau"] = float(log_tau.item())
    return record
