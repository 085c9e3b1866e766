"""Builds the network that settings describe."""

from __future__ import annotations

from typing import Any

from timm.models.visformer import Visformer
from torch import nn

from sp_edge.errors import SettingsError
from sp_edge.model.backbone import build_backbone, feature_map_of
from sp_edge.model.network import PromptedFeatureMap, PromptedNetwork, PromptedVisformer
from sp_edge.model.normalization import Normalization
from sp_edge.model.places import NamedPlaces
from sp_edge.model.prompt import SemanticPrompt
from sp_edge.model.prompted_places import PromptedPlaces
from sp_edge.model.text_map import TextMap
from sp_edge.settings.settings import ModelSettings


def build_network(settings: ModelSettings, text_dim: int) -> PromptedNetwork:
    """A network with fresh weights as the settings describe it, for text embeddings of length `text_dim`.

    Its text prototype, where there is one, is to be fitted; until then it has no share in anything.

    Raises:
        SettingsError: the backbone cannot be built so, or cannot be prompted so.
    """
    backbone: Any = build_backbone(settings.backbone, settings.image_size, settings.drop_path)
    others: dict[str, Any] = {
        "strength": settings.prompt_strength,
        "normalise": Normalization(settings.mean, settings.std),
        "image_size": settings.image_size,
    }
    at = settings.prompt_at
    in_place = settings.interaction == "spatial" and at is None
    dim = int(backbone.head_hidden_size)
    if settings.text_prototype and settings.interaction != "none":
        others["text_prototype"] = TextMap(text_dim, dim, directional=in_place)
    if isinstance(backbone, Visformer) and at is not None:
        width = int((backbone.pos_embed2 if at[0] == 2 else backbone.pos_embed3).shape[1])
        return PromptedVisformer(backbone, _prompt(settings, text_dim, width), at=at, pooling=settings.pooling, **others)
    if settings.interaction != "none":
        _check_last(settings)
    if in_place:
        return PromptedPlaces(backbone, _places(settings, text_dim, dim), evidence_needed=settings.place_evidence, **others)
    if settings.interaction == "channel":
        _check_feature_map(settings, backbone)
    return PromptedFeatureMap(backbone, _prompt(settings, text_dim, int(backbone.num_features)), **others)


def _places(settings: ModelSettings, text_dim: int, dim: int) -> NamedPlaces:
    a, b, c = settings.place_threshold, settings.place_softness, settings.place_floor
    return NamedPlaces(text_dim, dim, threshold=a, softness=b, floor=c)


def _prompt(settings: ModelSettings, text_dim: int, dim: int) -> SemanticPrompt | None:
    if settings.interaction == "none":
        return None
    return SemanticPrompt(
        text_dim,
        dim,
        spatial=settings.interaction in ("spatial", "both"),
        channel=settings.interaction in ("channel", "both"),
        projector=settings.projector,
        zero_mean=settings.zero_mean,
    )


def _check_last(settings: ModelSettings) -> None:
    """Refuses prompts that no last feature map can take."""
    if settings.interaction == "both" or settings.layer != "last" or settings.pooling == "head":
        raise SettingsError(
            f"{settings.backbone} cannot be prompted so",
            expected="model.layer = last, model.interaction = channel or spatial, and model.pooling = all; or "
            "model.interaction = none",
            got=f"{settings.interaction}, {settings.layer} and {settings.pooling}",
        )


def _check_feature_map(settings: ModelSettings, backbone: nn.Module) -> None:
    """Refuses a channel prompt where there is no such map."""
    shape = tuple(feature_map_of(backbone, settings.image_size).shape)
    if len(shape) != 4 or shape[1] != backbone.num_features:
        raise SettingsError(
            f"{settings.backbone} has no feature map for a prompt to enter",
            expected=f"(B, {backbone.num_features}, h, w) from its forward_features; or model.interaction = none",
            got=str(shape),
        )
