"""The network that encodes support pictures with their class's prompt and query pictures without."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from timm.models.visformer import Visformer
from torch import Tensor, nn

from sp_edge.errors import SettingsError
from sp_edge.model.normalization import PAPERS, Normalization
from sp_edge.model.places import NamedPlaces
from sp_edge.model.prompt import SemanticPrompt
from sp_edge.model.text_map import TextMap
from sp_edge.prompts.familiarity import Familiarity


class PromptedNetwork(nn.Module):
    """f(x | g(y)): one forward serves both, the prompted support picture and the plain query picture.

    It has two halves, `begin` and `finish`, parted where the prompt enters: what is encoded both ways, or with several
    prompts, needs the first but once. `PromptedVisformer`, `PromptedFeatureMap` and `PromptedPlaces` say where that is.

    In eval mode the support feature is s ((1 - w) f(x | g(y)) + w r(g(y))) + (1 - s) f(x), with s the prompt's strength, r
    the text prototype where there is one, and w its share. That s is for a class taught with one picture: the more there
    are, the less a prompt can add (`sp_edge.matching.decide.share`), and the less familiar a prompt is, the less it may
    (`familiarity_of`). Training sees f(x | g(y)) alone.

    Args:
        backbone: a timm model, or one with its `forward_features` and `forward_head`; its parameters keep their names
            under `backbone.`.
        prompt: the semantic prompt, or None for a network that knows no prompts.
        text_prototype: r, from text (B, T) to feature (B, D).
        strength: s, 0 to 1, of a network that knows prompts; 0 of one that knows none.
        normalise: from uint8 pictures (B, H, W, 3) to what `forward` takes; Semantic Prompt's own by default.
        image_size: side of the pictures, pixels.

    Attributes:
        text_share: w, 0 to 1, once the text prototype has been fitted; 0 before, and where there is none.
        familiarity: of prompts, likewise; None before, and where there is none.
    """

    def __init__(
        self,
        backbone: Any,
        prompt: SemanticPrompt | NamedPlaces | None,
        *,
        text_prototype: TextMap | None = None,
        strength: float = 1.0,
        normalise: Normalization = PAPERS,
        image_size: int = 224,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.normalise, self.image_size = normalise, image_size
        self.prompt = prompt
        self.text_prototype = text_prototype
        self.strength = 0.0 if prompt is None else strength
        self.text_share = 0.0
        self.familiarity: Familiarity | None = None

    def familiarity_of(self, prompts: NDArray[np.float32]) -> NDArray[np.float64]:
        """How much of its strength each prompt gets: float32 (..., T) -> float64 (...), 0 to 1; 1 where nothing tells."""
        return np.ones(prompts.shape[:-1]) if self.familiarity is None else self.familiarity(prompts)

    @property
    def feature_dim(self) -> int:
        """D, the length of a feature."""
        return int(self.backbone.head_hidden_size)

    def forward(self, image: Tensor, prompt: Tensor | None = None, strength: Tensor | float | None = None) -> Tensor:
        """Encodes pictures.

        Args:
            image: float (B, 3, H, W) RGB, as `normalise` gives it.
            prompt: float (B, T) text embedding of each picture's class; None encodes queries.
            strength: s, or one for each picture, (B, 1); the network's own by default.

        Returns:
            float (B, D) features, not normalised.
        """
        return self.finish(self.begin(image), prompt, strength)

    def begin(self, image: Tensor) -> Tensor:
        """The part before the prompt, the same for support and query: (B, 3, H, W) -> tokens (B, C, h, w)."""
        raise NotImplementedError

    def finish(
        self,
        tokens: Tensor,
        prompt: Tensor | None = None,
        strength: Tensor | float | None = None,
        *,
        plain: Tensor | None = None,
    ) -> Tensor:
        """The part from the prompt on: tokens (B, C, h, w) and, for support, prompts (B, T) -> features (B, D).

        Args:
            plain: what it gives of the tokens without a prompt, (B, D), where that is known; else it is computed if needed.
        """
        if prompt is not None and self.prompt is None:
            raise SettingsError("this network was built without prompts", expected="prompt=None", got="a prompt")
        if prompt is None:
            return self._encode(tokens, None)
        feature, believed = self._prompted(tokens, prompt)
        if self.training:
            return feature
        if self.text_prototype is not None and self.text_share > 0:
            share = self.text_share * believed
            feature = (1 - share) * feature + share * self.text_prototype(prompt)
        strength = self.strength if strength is None else strength
        if isinstance(strength, float | int) and strength == 1:
            return feature
        return strength * feature + (1 - strength) * (self._encode(tokens, None) if plain is None else plain)

    def _encode(self, tokens: Tensor, prompt: Tensor | None) -> Tensor:
        """As `finish`, at full strength."""
        raise NotImplementedError

    def _prompted(self, tokens: Tensor, prompt: Tensor) -> tuple[Tensor, Tensor | float]:
        """What `_encode` gives, and how much of its share the text prototype gets beside it, 0 to 1: one number, or (B, 1)."""
        return self._encode(tokens, prompt), 1.0


class PromptedVisformer(PromptedNetwork):
    """A Visformer whose prompt enters before a block of its stages 2 or 3, the ones with attention.

    The spatial interaction's token goes through the following blocks beside the patches. At the end of stage 2 it is
    dropped, since stage 3 begins with a convolution over the grid. In training, BatchNorm counts it as one token; the
    authors' release counts it as many times as the grid is wide, which in eval mode is the same.

    Args:
        backbone: timm's Visformer.
        at: stage, 2 or 3, and its block, from 0, before which the prompt enters.
        pooling: 'all' averages the last layer's tokens with the prompt's, 'patch' without it, 'head' takes it alone.
        prompt, others: as in `PromptedNetwork`.
    """

    def __init__(
        self,
        backbone: Visformer,
        prompt: SemanticPrompt | None,
        *,
        at: tuple[int, int],
        pooling: str = "all",
        **others: Any,
    ) -> None:
        super().__init__(backbone, prompt, **others)
        blocks = {2: len(backbone.stage2), 3: len(backbone.stage3)}
        self.stage, self.block = at
        if not 0 <= self.block < blocks.get(self.stage, 0):
            raise SettingsError(
                "the prompt's layer does not exist",
                expected=" or ".join(f"{stage}-0 to {stage}-{count - 1}" for stage, count in blocks.items()),
                got=f"{self.stage}-{self.block}",
            )
        self._token_pooled = prompt is not None and prompt.spatial is not None and self.stage == 3
        if pooling == "head" and prompt is not None and not self._token_pooled:
            raise SettingsError(
                "model.pooling takes the prompt's token, and the last layer has none",
                expected="all or patch; or the spatial interaction, in stage 3",
                got="head",
            )
        self.pooling = pooling

    def begin(self, image: Tensor) -> Tensor:
        """The part before the prompt, the same for support and query: (B, 3, H, W) -> tokens (B, C, h, w)."""
        net = self.backbone
        x = net.stage1(net.pos_drop(net.patch_embed1(net.stem(image)) + net.pos_embed1))
        x = net.pos_drop(net.patch_embed2(x) + net.pos_embed2)
        tokens: Tensor = (
            net.stage2[: self.block](x) if self.stage == 2 else net.stage3[: self.block](self._to_stage3(net.stage2(x)))
        )
        return tokens

    def _to_stage3(self, x: Tensor) -> Tensor:
        net = self.backbone
        tokens: Tensor = net.pos_drop(net.patch_embed3(x) + net.pos_embed3)
        return tokens

    def _encode(self, tokens: Tensor, prompt: Tensor | None) -> Tensor:
        net = self.backbone
        height, width = tokens.shape[2:]
        x = tokens if prompt is None or self.prompt is None else self.prompt(tokens, prompt)
        if self.stage == 2:
            x = net.stage2[self.block :](x)
            if prompt is not None:
                x = x[:, :, -height * width :, 0].unflatten(2, (height, width))
            x = net.stage3(self._to_stage3(x))
        else:
            x = net.stage3[self.block :](x)
        x = net.norm(x)
        if prompt is not None and self._token_pooled:
            if self.pooling == "head":
                return x[:, :, 0, 0]
            if self.pooling == "patch":
                x = x[:, :, 1:]
        return x.mean(dim=(2, 3))


class PromptedFeatureMap(PromptedNetwork):
    """Any image model, prompted on its last feature map or not at all.

    The channel interaction makes sense there: no attention follows that could mix a token in. For the spatial one in its
    closed form see `PromptedPlaces`.
    """

    def begin(self, image: Tensor) -> Tensor:
        """The whole model but its pooling: (B, 3, H, W) -> what its `forward_features` gives, (B, C, h, w) where prompted."""
        features: Tensor = self.backbone.forward_features(image)
        return features

    def _encode(self, tokens: Tensor, prompt: Tensor | None) -> Tensor:
        if prompt is not None and self.prompt is not None:
            tokens = self.prompt(tokens, prompt).squeeze(3).unflatten(2, tokens.shape[2:])
        feature: Tensor = self.backbone.forward_head(tokens, pre_logits=True)
        return feature
