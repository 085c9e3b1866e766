from __future__ import annotations

import pytest
import torch

from sp_edge.errors import SettingsError
from sp_edge.model import PromptedPlaces, build_backbone, build_network
from sp_edge.settings.settings import ModelSettings


@pytest.mark.parametrize(("name", "dim"), [("ViT-S-32", 384), ("MobileCLIP-S1", 512)])
@torch.no_grad()
def test_the_two_halves_are_open_clips_own_tower(name: str, dim: int) -> None:
    """One of open_clip's own, and one of timm's with a projection."""
    backbone = build_backbone(f"open_clip:{name}", 64).eval()
    image = torch.randn(2, 3, 64, 64)
    features = backbone.forward_head(backbone.forward_features(image))  # type: ignore[operator]
    torch.testing.assert_close(features, backbone.visual(image))  # type: ignore[operator]
    assert features.shape == (2, dim)
    assert backbone.head_hidden_size == dim


@torch.no_grad()
def test_places_are_projected_to_where_texts_lie() -> None:
    network = build_network(ModelSettings("open_clip:ViT-S-32", 64, "spatial", "last"), 8).eval()
    assert isinstance(network, PromptedPlaces)
    tokens = network.begin(torch.randn(2, 3, 64, 64))
    tower = network.backbone.visual
    torch.testing.assert_close(network.places(tokens)[:, :, 1, 0], tokens[:, 1 + 2] @ tower.proj)
    assert network.finish(tokens, torch.randn(2, 8)).shape == (2, 384)


@pytest.mark.parametrize(
    ("name", "size", "drop_path", "what"),
    [
        ("ViT-B-33", 64, 0.0, "open_clip has no such model"),
        ("RN50", 64, 0.0, "an image tower that sp-edge does not know"),
        ("ViT-S-32", 64, 0.1, "no drop-path"),
    ],
)
def test_towers_that_cannot_be_used_are_refused(name: str, size: int, drop_path: float, what: str) -> None:
    with pytest.raises(SettingsError, match=what):
        build_backbone(f"open_clip:{name}", size, drop_path)
