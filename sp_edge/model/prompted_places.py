"""A network whose last feature map is weighed by names."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sp_edge.errors import SettingsError
from sp_edge.model.backbone import feature_map_of
from sp_edge.model.network import PromptedNetwork
from sp_edge.model.places import NamedPlaces, evidence


class PromptedPlaces(PromptedNetwork):
    """Any image model whose last feature map is weighed by what looks like the name (`NamedPlaces`).

    A place is brought to where features lie by the network's own head, which is applied to it alone, as if the place were
    the whole picture. Of average pooling, and of a class token, that is the place itself. The feature with a prompt is

        f(x | g) = f(x) + gamma (weighted mean of the places - their even mean), gamma = sigmoid(e - e0),

    with e the picture's `evidence`: a name that nothing in the picture bears out moves nothing. With average pooling and
    gamma = 1 it is the weighted mean itself. The text prototype gets gamma of its share.

    Args:
        backbone: gives a map (B, C, h, w) or (B, h, w, C), or tokens (B, P + h w, C), P of which stand before the patches.
        prompt: the fitted names, for features of the backbone's length.
        evidence_needed: e0.
        others: as in `PromptedNetwork`.

    Raises:
        SettingsError: the backbone has no such map, or its head cannot be applied to one place.
    """

    prompt: NamedPlaces

    def __init__(self, backbone: Any, prompt: NamedPlaces, *, evidence_needed: float = 3.0, **others: Any) -> None:
        super().__init__(backbone, prompt, **others)
        self.evidence_needed = evidence_needed
        tokens = feature_map_of(backbone, self.image_size)
        self._layout, self._grid = _layout(backbone, tokens)
        self._lies_there = self._check_head(tokens)

    @torch.no_grad()
    def _check_head(self, tokens: Tensor) -> bool:
        """Whether places are features as they stand, which is found by trying noise."""
        noise = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(0))
        training = self.backbone.training
        self.backbone.eval()
        try:
            raw, places = self._raw(noise), self._headed(self._raw(noise))
        except Exception as cause:  # each head says in its own way what it cannot do
            raise SettingsError(
                f"the head of {type(self.backbone).__name__} cannot be applied to one place of its feature map",
                expected="a pooling that takes a map of any size; or model.interaction = channel or none",
                got=f"{type(cause).__name__}: {str(cause)[:200]}",
            ) from cause
        finally:
            self.backbone.train(training)
        if places.shape[1] != self.feature_dim:
            raise SettingsError(
                "the network's head gives no feature", expected=f"{self.feature_dim} numbers", got=str(places.shape)
            )
        return raw.shape == places.shape and torch.allclose(raw, places, rtol=1e-5, atol=1e-6)

    def begin(self, image: Tensor) -> Tensor:
        """The whole model but its head: (B, 3, H, W) -> what its `forward_features` gives."""
        features: Tensor = self.backbone.forward_features(image)
        return features

    def places(self, tokens: Tensor) -> Tensor:
        """What `begin` gave -> the places where features lie: float (B, D, h, w)."""
        raw = self._raw(tokens)
        return raw if self._lies_there else self._headed(raw)

    def scores(self, tokens: Tensor, prompt: Tensor) -> Tensor:
        """What `begin` gave, and text (B, T) -> how much more than usual each place looks like the name: z, (B, h, w)."""
        return self.prompt.scores(self.places(tokens), prompt)

    def _encode(self, tokens: Tensor, prompt: Tensor | None) -> Tensor:
        if prompt is not None:
            return self._prompted(tokens, prompt)[0]
        plain: Tensor = self.backbone.forward_head(tokens, pre_logits=True)
        return plain

    def _prompted(self, tokens: Tensor, prompt: Tensor) -> tuple[Tensor, Tensor]:
        places = self.places(tokens)
        scores = self.prompt.scores(places, prompt)
        gamma = torch.sigmoid(evidence(scores) - self.evidence_needed)
        return self._encode(tokens, None) + gamma * self.prompt(places, scores), gamma

    def _raw(self, tokens: Tensor) -> Tensor:
        """The patches as a map, float (B, C, h, w)."""
        if self._layout == "NCHW":
            return tokens
        if self._layout == "NHWC":
            return tokens.permute(0, 3, 1, 2)
        height, width = self._grid
        return tokens[:, tokens.shape[1] - height * width :].transpose(1, 2).reshape(-1, tokens.shape[2], height, width)

    def _headed(self, raw: Tensor) -> Tensor:
        """Each place through the head alone: float (B, C, h, w) -> (B, D, h, w)."""
        height, width = self._grid
        alone = raw.flatten(2).transpose(1, 2).reshape(-1, raw.shape[1])
        if self._layout == "NCHW":
            alone = alone[:, :, None, None]
        elif self._layout == "NHWC":
            alone = alone[:, None, None, :]
        else:  # a head may take the first token, or leave out those before the patches
            alone = alone[:, None].expand(-1, 1 + _prefix(self.backbone), -1)
        features: Tensor = self.backbone.forward_head(alone, pre_logits=True)
        return features.reshape(-1, height, width, features.shape[1]).permute(0, 3, 1, 2)


def _prefix(backbone: Any) -> int:
    """How many tokens stand before the patches."""
    return int(getattr(backbone, "num_prefix_tokens", 0))


def _layout(backbone: Any, tokens: Tensor) -> tuple[str, tuple[int, int]]:
    """How `forward_features` lays out its patches, NCHW, NHWC or NLC, and their grid."""
    shape = tuple(tokens.shape)
    channels = int(backbone.num_features)
    if len(shape) == 4 and getattr(backbone, "output_fmt", "NCHW") == "NHWC" and shape[3] == channels:
        return "NHWC", (shape[1], shape[2])
    if len(shape) == 4 and shape[1] == channels:
        return "NCHW", (shape[2], shape[3])
    if len(shape) == 3 and shape[2] == channels:
        patches = shape[1] - _prefix(backbone)
        side = math.isqrt(max(patches, 0))
        if side and side * side == patches:
            return "NLC", (side, side)
    raise SettingsError(
        f"{type(backbone).__name__} has no feature map that a name could weigh",
        expected=f"(B, {channels}, h, w), (B, h, w, {channels}) or (B, P + h h, {channels}) from its forward_features",
        got=str(shape),
        next_step="model.interaction = none",
    )
