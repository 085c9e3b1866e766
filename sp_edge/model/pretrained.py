"""Starts a backbone from the weights that timm publishes for it."""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg
from timm.models.visformer import Visformer
from torch import Tensor, nn
from torch.nn import functional

from sp_edge.errors import CheckpointError, SettingsError
from sp_edge.model.backbone import TIMM
from sp_edge.model.normalization import Normalization
from sp_edge.model.ready.weights import rgb

# How much of a benchmark's novel classes ImageNet-1k holds, on which nearly all of timm's weights were trained.
_SEEN = {"mini-imagenet": "all", "tiered-imagenet": "all", "cifar-fs": "many", "fc100": "many", "cub": "some"}


def load_timm_weights(backbone: nn.Module, name: str) -> str:
    """Loads timm's weights by name into a backbone.

    A Visformer's position embeddings are resized (bicubic) where the picture size is another. The weights have seen
    pictures normalised with a mean and deviation of their own: see `timm_normalization`.

    Args:
        backbone: as `build_backbone` made it.
        name: the one it was made by: visformer_tiny, visformer_small or timm:NAME.

    Returns:
        What was loaded, such as 'visformer_tiny.in1k'.

    Raises:
        SettingsError: timm publishes nothing for this backbone.
        CheckpointError: the weights cannot be fetched, or do not fit.
    """
    if not name.startswith(TIMM) and name not in ("visformer_tiny", "visformer_small"):
        raise SettingsError(
            "timm publishes no weights for this backbone",
            expected=f"model.backbone = visformer_tiny, visformer_small or {TIMM}NAME",
            got=name,
        )
    model = name.removeprefix(TIMM)
    try:
        published: Any = timm.create_model(model, pretrained=True, num_classes=0)
    except Exception as cause:  # the errors of timm, the hub and the network have no common type
        raise CheckpointError(
            f"timm's weights for {model} cannot be had",
            expected="a network connection to the Hugging Face hub, or its cache (HF_HOME)",
            got=f"{type(cause).__name__}: {str(cause)[:300]}",
        ) from cause
    own, weights = backbone.state_dict(), published.state_dict()
    if isinstance(backbone, Visformer):
        weights = {n: _resized(w, own[n]) if n.startswith("pos_embed") and n in own else w for n, w in weights.items()}
    unfit = [n for n in own if n not in weights or weights[n].shape != own[n].shape]
    if unfit:
        raise CheckpointError(
            f"timm's weights for {model} do not fit",
            expected="the network at the picture size that they were trained with",
            got=f"{len(unfit)} tensors differ, such as {unfit[0]}",
        )
    backbone.load_state_dict({n: weights[n] for n in own})
    config = published.pretrained_cfg
    return ".".join(filter(None, (str(config.get("architecture", model)), config.get("tag"))))


def timm_normalization(name: str) -> Normalization | None:
    """Mean and deviation of the pictures that timm's weights for a backbone have seen; None where it publishes none.

    Raises:
        SettingsError: they take no color pictures.
    """
    config: Any = get_pretrained_cfg(name.removeprefix(TIMM))
    return None if config is None else Normalization(rgb(config.mean), rgb(config.std))


def seen_classes(source: str) -> str | None:
    """What to warn of before such weights are used on a data set (`data.source`); None where there is nothing to say."""
    share = _SEEN.get(source)
    if share is None:
        return None
    return (
        f"timm's weights were trained on ImageNet, which holds {share} of {source}'s novel classes: "
        "accuracy on them is not few-shot accuracy, and stands in no table beside the paper's"
    )


def _resized(embedding: Tensor, like: Tensor) -> Tensor:
    """Position embeddings (1, C, h, w) on another grid."""
    if embedding.shape == like.shape or embedding.shape[:2] != like.shape[:2]:
        return embedding
    with torch.no_grad():
        return functional.interpolate(embedding, size=like.shape[2:], mode="bicubic", antialias=True)
