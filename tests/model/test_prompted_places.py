from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sp_edge.errors import SettingsError
from sp_edge.model import NamedPlaces, PromptedPlaces, build_network
from sp_edge.settings.settings import ModelSettings

T = 6
PROMPTS = torch.randn(2, T, generator=torch.Generator().manual_seed(3))


def placed(backbone: str, size: int, **changes: Any) -> PromptedPlaces:
    torch.manual_seed(0)
    settings = ModelSettings(backbone, size, "spatial", "last", **changes)
    network = build_network(settings, T).eval()
    assert isinstance(network, PromptedPlaces)
    assert isinstance(network.prompt, NamedPlaces)
    return network


def pictures(network: PromptedPlaces) -> Tensor:
    size = network.image_size
    shown = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return network.normalise(shown)


# Average pooling; after it, a layer; a map of other widths before; channels last; class tokens; registers; attention pooling.
NETWORKS = [
    ("visformer_mini", 64),
    ("resnet12", 64),
    ("timm:tf_efficientnet_lite0", 64),
    ("timm:convnext_atto", 64),
    ("timm:mobilenetv3_small_050", 64),
    ("timm:swin_tiny_patch4_window7_224", 56),
    ("timm:vit_tiny_patch16_224", 64),
    ("timm:vit_small_patch14_dinov2", 56),
    ("timm:vit_small_patch14_reg4_dinov2", 56),
    ("timm:vit_small_patch16_dinov3", 64),
    ("timm:vit_pe_core_tiny_patch16_384", 64),
    ("timm:vit_base_patch32_clip_224", 64),
    ("timm:mixer_s32_224", 224),
    ("timm:resnet50_clip", 64),
]


@pytest.mark.parametrize(("backbone", "size"), NETWORKS)
@torch.no_grad()
def test_any_feature_map_is_weighed_by_names(backbone: str, size: int) -> None:
    network = placed(backbone, size, place_threshold=0, place_softness=3, place_evidence=0)
    tokens = network.begin(pictures(network))
    places, scores = network.places(tokens), network.scores(tokens, PROMPTS)
    assert places.shape == (2, network.feature_dim, *scores.shape[1:])
    plain, prompted = network.finish(tokens), network.finish(tokens, PROMPTS)
    assert plain.shape == prompted.shape == (2, network.feature_dim)
    torch.testing.assert_close(plain, network.backbone.forward_head(tokens, pre_logits=True))
    weights = torch.sigmoid(scores / 3) + 0.02
    weights = weights / weights.sum(dim=(1, 2), keepdim=True)
    shift = (places * weights[:, None]).sum(dim=(2, 3)) - places.mean(dim=(2, 3))
    evidence = scores.flatten(1).sort(dim=1, descending=True).values[:, :5].mean(dim=1, keepdim=True)
    torch.testing.assert_close(prompted, plain + torch.sigmoid(evidence) * shift, rtol=1e-4, atol=1e-5)
    assert not torch.equal(prompted, plain)


@pytest.mark.parametrize("backbone", ["visformer_mini", "resnet12", "timm:tf_efficientnet_lite0"])
@torch.no_grad()
def test_where_pooling_is_even_a_name_that_is_borne_out_gives_the_weighted_mean(backbone: str) -> None:
    network = placed(backbone, 64, place_evidence=-30)
    tokens = network.begin(pictures(network))
    assert network.places(tokens) is tokens
    weights = torch.sigmoid((network.scores(tokens, PROMPTS) - 2) / 0.5) + 0.02
    weights = weights / weights.sum(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(network.finish(tokens, PROMPTS), (tokens * weights[:, None]).sum(dim=(2, 3)))


@torch.no_grad()
def test_a_name_that_nothing_bears_out_moves_nothing() -> None:
    network = placed("visformer_mini", 64, text_prototype=True, place_evidence=30)
    network.text_share = 0.4
    tokens = network.begin(pictures(network))
    torch.testing.assert_close(network.finish(tokens, PROMPTS), network.finish(tokens))


@torch.no_grad()
def test_places_of_a_transformer_are_its_patches_in_their_order() -> None:
    network = placed("timm:vit_small_patch14_reg4_dinov2", 56)
    tokens = network.begin(pictures(network))
    assert tokens.shape == (2, 5 + 16, 384), "a class token and four registers stand before"
    torch.testing.assert_close(network.places(tokens)[1, :, 2, 3], tokens[1, 5 + 2 * 4 + 3])


@pytest.mark.parametrize(("backbone", "size"), [("timm:mobilenetv3_small_050", 64), ("timm:vit_pe_core_tiny_patch16_384", 64)])
@torch.no_grad()
def test_a_place_goes_through_the_head_as_if_it_were_the_whole_picture(backbone: str, size: int) -> None:
    network = placed(backbone, size)
    tokens = network.begin(pictures(network))
    same = tokens.clone()
    if tokens.ndim == 4:
        same[:] = tokens[:, :, 1:2, 0:1]
        place = network.places(tokens)[:, :, 1, 0]
    else:
        same[:] = tokens[:, 1 + 4 : 1 + 5]
        place = network.places(tokens)[:, :, 1, 0]
    torch.testing.assert_close(place, network.finish(same), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_text_prototype_gets_its_share_where_the_picture_bears_the_name_out() -> None:
    network = placed("visformer_mini", 64, text_prototype=True, place_evidence=0.3)
    tokens = network.begin(pictures(network))
    alone = network.finish(tokens, PROMPTS)
    network.text_share = 0.4
    top = network.scores(tokens, PROMPTS).flatten(1).sort(dim=1, descending=True).values[:, :5].mean(dim=1)
    share = 0.4 / (1 + torch.exp(-(top - 0.3)))[:, None]
    assert network.text_prototype is not None
    assert network.text_prototype.mean is not None, "around the mean of features"
    expected = (1 - share) * alone + share * network.text_prototype(PROMPTS)
    torch.testing.assert_close(network.finish(tokens, PROMPTS), expected)
    half = network.finish(tokens, PROMPTS, strength=0.5)
    torch.testing.assert_close(half, (expected + network.finish(tokens)) / 2)


def test_constants_are_settings() -> None:
    network = placed("resnet12", 64, place_threshold=0.2, place_softness=0.7, place_floor=0.01, place_evidence=2.5)
    assert (network.prompt.threshold, network.prompt.softness, network.prompt.floor) == (0.2, 0.7, 0.01)
    assert network.evidence_needed == 2.5


class Backbone(nn.Module):
    """Gives what it is told to, and has a head that takes whole maps of 3 x 3 only, or none."""

    num_features = head_hidden_size = 4

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward_features(self, image: Tensor) -> Tensor:
        return image.new_zeros(len(image), *self.shape)

    def forward_head(self, features: Tensor, pre_logits: bool = True) -> Tensor:
        return nn.functional.conv2d(features, torch.ones(4, 4, 3, 3)).flatten(1)


@pytest.mark.parametrize(
    ("shape", "what"),
    [
        ((4, 3, 3), "head of Backbone cannot be applied to one place"),
        ((5, 3, 3), "no feature map that a name could weigh"),
        ((7, 4), "no feature map that a name could weigh"),
        ((4,), "no feature map that a name could weigh"),
    ],
)
def test_a_network_whose_places_cannot_be_weighed_is_refused(shape: tuple[int, ...], what: str) -> None:
    with pytest.raises(SettingsError, match=what):
        PromptedPlaces(Backbone(*shape), NamedPlaces(T, 4), image_size=32)


def test_both_interactions_cannot_enter_the_last_map() -> None:
    with pytest.raises(SettingsError, match="cannot be prompted so") as raised:
        build_network(ModelSettings("resnet12", 64, "both", "last"), T)
    assert "channel or spatial" in str(raised.value.expected)
