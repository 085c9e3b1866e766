"""The image towers of open_clip's image-and-text models, with the weights that their authors published."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from sp_edge.errors import SettingsError
from sp_edge.files import sha256
from sp_edge.model.clip import PREFIX as BACKBONE
from sp_edge.model.clip import open_clip_with
from sp_edge.model.ready.hub import read_weights
from sp_edge.model.ready.weights import ReadyWeights, check_fit, not_fetched, rgb

PREFIX = "open_clip/"
_QUICK = "-quickgelu"
_log = logging.getLogger(__name__)


def load_tower(model: str, file: Path | None = None) -> ReadyWeights:
    """The image tower of 'open_clip/NAME/TAG'.

    Args:
        model: NAME is one of open_clip's models, TAG one of its published weights.
        file: .safetensors, or what torch.save wrote, with the weights of the whole model; by default they come from the
            hub's cache, or are downloaded.

    Raises:
        MissingExtraError: open_clip is not installed.
        SettingsError: open_clip has no such model or weights.
        CheckpointError: the weights cannot be had, or belong to another model.
    """
    name, tag = name_and_tag(model)
    open_clip = open_clip_with(name, model)
    tags = open_clip.list_pretrained_tags_by_model(name)
    if file is None and tag not in tags:
        expected = ", ".join(f"{PREFIX}{name}/{other}" for other in tags) or f"--weights FILE: none are published for {name}"
        raise SettingsError("open_clip has no such weights", expected=expected, got=model)
    config: dict[str, Any] = open_clip.get_pretrained_cfg(name, tag) or {}
    if config.get("quick_gelu") and not name.endswith(_QUICK):
        raise SettingsError(
            f"{tag} was trained with another activation than {name} has", expected=f"{PREFIX}{name}{_QUICK}/{tag}", got=model
        )
    place = f"https://huggingface.co/{str(config.get('hf_hub') or '').rstrip('/')}"
    _log.warning(f"open_clip does not say under which license the weights of {model} are: read {place} before you use them")
    whole = _of_file(name, file) if file is not None else _published(model, name, tag, place)
    if config.get("resize_mode") == "squash":
        _log.warning(f"{model} has seen pictures that were squeezed to squares; sp-edge crops their center instead")
    size = whole.visual.image_size
    mean, std = open_clip.constants.OPENAI_DATASET_MEAN, open_clip.constants.OPENAI_DATASET_STD
    return ReadyWeights(
        model=model,
        architecture=name,
        family=BACKBONE,
        weights={f"visual.{key}": value for key, value in whole.visual.state_dict().items()},
        image_size=int(size[0] if isinstance(size, tuple | list) else size),
        crop=1.0,
        interpolation=str(config.get("interpolation", "bicubic")),
        mean=rgb(config.get("mean", mean)),
        std=rgb(config.get("std", std)),
        head=None,
        source=f"open_clip's {name} {tag}, {place}",
        license="unknown",
        sha256=sha256(file) if file else "",
    )


def name_and_tag(model: str) -> tuple[str, str]:
    """The two parts of 'open_clip/NAME/TAG'.

    Raises:
        SettingsError: one is missing.
    """
    name, _, tag = model.removeprefix(PREFIX).rpartition("/")
    if not name or not tag:
        raise SettingsError("not a model of open_clip", expected=f"{PREFIX}NAME/TAG", got=model)
    return name, tag


def _of_file(name: str, file: Path) -> Any:
    import open_clip

    whole: Any = open_clip.create_model(name, load_weights=False, pretrained_text=False)
    weights = read_weights(file)
    check_fit(str(file), weights, whole.state_dict())
    whole.load_state_dict(weights)
    return whole.eval()


def _published(model: str, name: str, tag: str, place: str) -> Any:
    import open_clip

    _log.info(f"taking {model} from the hub's cache, or downloading it from {place}")
    try:
        return open_clip.create_model(name, pretrained=tag).eval()
    except Exception as cause:  # the errors of open_clip, the hub and the network have no common type
        raise not_fetched(model, place, "open_clip_model.safetensors", cause) from cause
