"""Any image model of timm, with the weights that its authors published: from a file, the hub's cache or the hub."""

from __future__ import annotations

import difflib
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import load_file
from timm.models import get_pretrained_cfg, is_model, list_pretrained
from torch import Tensor, nn

from sp_edge.errors import CheckpointError, SettingsError
from sp_edge.files import sha256
from sp_edge.model.ready.names import imagenet_names
from sp_edge.model.ready.weights import OPEN, Head, ReadyWeights, check_fit, not_fetched, rgb

PREFIX = "timm/"
_FILES = ("model.safetensors", "pytorch_model.bin")  # as the hub calls them
_FILTERS = ("bilinear", "bicubic")
_log = logging.getLogger(__name__)


def load_published(model: str, file: Path | None = None) -> ReadyWeights:
    """The weights of 'timm/NAME' or 'timm/NAME.TAG'.

    Args:
        model: NAME is one of timm's models, TAG one of its published weights, by default the first.
        file: .safetensors, or what torch.save wrote, with the weights as they are published; by default they come from the
            hub's cache, or are downloaded.

    Raises:
        SettingsError: timm has no such model or weights, or they take pictures that sp-edge cannot prepare.
        CheckpointError: the weights cannot be had or read, or belong to another network.
    """
    config = _config(model)
    warn_of_license(model, config)
    file = file or _cached(str(config.hf_hub_id or ""))
    architecture = str(config.architecture)
    network = _downloaded(model, config) if file is None else _of_file(model, config, file)
    own = timm.create_model(architecture, num_classes=0).state_dict()
    weights = {name: value for name, value in network.state_dict().items() if name in own}
    check_fit(model, weights, own)
    side, wide = config.input_size[1:]
    if side != wide or config.interpolation not in _FILTERS:
        raise SettingsError(
            f"sp-edge cannot prepare pictures for {model}",
            expected=f"square pictures, resized with {' or '.join(_FILTERS)}",
            got=f"{side} x {wide}, {config.interpolation}",
        )
    return ReadyWeights(
        model=model,
        architecture=architecture,
        weights=weights,
        image_size=int(side),
        crop=float(config.crop_pct),
        interpolation=str(config.interpolation),
        mean=rgb(config.mean),
        std=rgb(config.std),
        head=_head(network, config),
        source=f"timm's {'.'.join(filter(None, (architecture, config.tag)))}, https://huggingface.co/{config.hf_hub_id}",
        license=str(config.license or "unknown"),
        sha256=sha256(file) if file else "",
    )


def warn_of_license(model: str, config: Any) -> None:
    """Says it where the weights' license is not an open one, before anything is downloaded."""
    license_name = str(config.license or "")
    if license_name.lower() in OPEN:
        return
    known = (
        f"are under '{license_name}', which is no open license" if license_name else "come without a license that timm knows"
    )
    _log.warning(
        f"the weights of {model} {known}: read https://huggingface.co/{config.hf_hub_id} before you use or pass them on"
    )


def _config(model: str) -> Any:
    name = model.removeprefix(PREFIX)
    architecture, dot, _ = name.partition(".")
    if not is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3, cutoff=0.4)
        expected = ", ".join(PREFIX + other for other in near) or "a name from timm.list_models()"
        raise SettingsError("timm has no such model", expected=expected, got=model)
    tags = list_pretrained(f"{architecture}.*")
    if not tags or (dot and name not in tags):
        expected = ", ".join(PREFIX + other for other in tags) or "another model: timm publishes no weights for this one"
        raise SettingsError("timm publishes no such weights", expected=expected, got=model)
    config: Any = get_pretrained_cfg(name)
    return config


def _cached(repository: str) -> Path | None:
    """The file in the hub's cache, if it is there."""
    from huggingface_hub import try_to_load_from_cache

    for name in _FILES if repository else ():
        found = try_to_load_from_cache(repository, name)
        if isinstance(found, str):
            return Path(found)
    return None


def _downloaded(model: str, config: Any) -> Any:
    place = f"https://huggingface.co/{config.hf_hub_id}"
    _log.info(f"downloading {model} from {place}")
    try:
        return timm.create_model(model.removeprefix(PREFIX), pretrained=True).eval()
    except Exception as cause:  # the errors of timm, the hub and the network have no common type
        raise not_fetched(model, place, _FILES[0], cause) from cause


def _of_file(model: str, config: Any, file: Path) -> Any:
    """The network with the weights of a file, with its classifier where the file has one."""
    given = read_weights(file)
    name = model.removeprefix(PREFIX)
    network: Any = timm.create_model(name)
    bare: Any = timm.create_model(name, num_classes=0)
    for candidate in (network, bare):
        own = candidate.state_dict()
        if given.keys() == own.keys() and all(given[key].shape == own[key].shape for key in own):
            candidate.load_state_dict(given)
            return candidate.eval()
    try:  # as published, which for some models are other names that timm knows to translate
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"state_dict": dict(given)}).eval()
    except Exception as cause:
        check_fit(str(file), given, network.state_dict())
        raise CheckpointError(
            f"timm cannot load {file} into {model}", got=f"{type(cause).__name__}: {str(cause)[:200]}"
        ) from cause


def read_weights(file: Path) -> dict[str, Tensor]:
    """Tensors by name from a .safetensors file, or from what torch.save wrote; nothing in it is run.

    Raises:
        CheckpointError: neither, or other things than tensors.
    """
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch comments on old formats
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as cause:  # neither library has an error type of its own
        raise CheckpointError(
            f"cannot read {file}",
            expected="a .safetensors file, or one of torch.save that holds tensors alone",
            got=_why(cause),
        ) from cause
    if isinstance(content, Mapping):
        for key in ("state_dict", "model"):
            content = content[key] if isinstance(content.get(key), Mapping) else content
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{file} holds no weights", expected="tensors by name", got=type(content).__name__)
    return dict(content)


def _why(cause: Exception) -> str:
    """Why a file cannot be read. torch's own words advise to read it with the code that it holds."""
    if type(cause).__name__ == "UnpicklingError":
        return "no file of torch.save, or other things than tensors, which may be code and are not loaded"
    return f"{type(cause).__name__}: {' '.join(str(cause).split())[:200]}"


def _head(network: Any, config: Any) -> Head | None:
    """The classifier's rows and names, where it is one linear layer on the network's feature and its classes are known."""
    layer = network.get_classifier() if hasattr(network, "get_classifier") else None
    weight = getattr(layer, "weight", None)
    if not isinstance(layer, nn.Linear | nn.Conv2d) or not isinstance(weight, Tensor):
        return None
    rows = np.asarray(weight.detach().float().flatten(1).numpy())
    names = imagenet_names(len(rows)) if config.num_classes == len(rows) else ()
    if not names or rows.shape[1] != int(network.head_hidden_size):
        return None
    return Head(rows, names)
