"""CLIP's text tower, the paper's encoder (512 numbers a sentence; arXiv 2103.00020)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sp_edge.errors import MissingExtraError, PromptError
from sp_edge.prompts.descriptions import check_length
from sp_edge.prompts.reading import Reading
from sp_edge.text.encoder import digest, no_weights

MODEL = "ViT-B-32"
WEIGHTS = "openai"


class CLIP:
    """Encodes sentences with a text tower of open_clip's: OpenAI's ViT-B/32, or another one.

    Args:
        model: open_clip's name; by default OpenAI's ViT-B/32.
        weights: one of the tags that open_clip publishes for it, or a file with the weights of the whole model.

    Attributes:
        model: open_clip's, without the image tower.
        tokenize: open_clip's tokenizer.
    """

    name = "clip"
    dim = 512

    def __init__(self, model: str = "", weights: str | Path = "") -> None:
        try:
            import open_clip
        except ImportError as cause:
            raise MissingExtraError("cannot load the text encoder clip", package="open_clip_torch", extra="train") from cause
        name, tag = (model, str(weights)) if model else (MODEL, WEIGHTS)
        # OpenAI's weights were trained with QuickGELU, which open_clip's 'ViT-B-32' has not.
        try:
            whole, _, _ = open_clip.create_model_and_transforms(name, pretrained=tag, device="cpu", force_quick_gelu=not model)
        except Exception as cause:  # the hub's client raises what its HTTP library does
            raise no_weights(self.name, f"open_clip's {name} {tag}", cause) from cause
        if not hasattr(whole, "text_projection"):
            raise PromptError(f"the text tower of {name} cannot be used", expected="CLIP's own form", got=type(whole).__name__)
        del whole.visual
        self.model = whole.eval()
        self.tokenize = open_clip.get_tokenizer(name)
        if model:
            self.dim = int(whole.text_projection.shape[1])
        self.revision = digest({n: v for n, v in whole.state_dict().items() if n != "logit_scale"})

    @torch.no_grad()
    def encode(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """As the tower gives them, of lengths around 10: n texts -> float32 (n, 512)."""
        limit = self.model.context_length
        vectors = []
        for sentence in sentences:  # one at a time, so that a vector does not depend on its neighbours, not even by rounding
            check_length(sentence, len(self.tokenize.encode(sentence)) + 2, limit)  # with the marks of beginning and end
            vectors.append(self.model.encode_text(self.tokenize([sentence]))[0].float().numpy())
        return np.array(vectors, np.float32).reshape(len(sentences), self.dim)

    def reading(self, text: str) -> Reading:
        """All of it: the tokenizer takes bytes, so that no two texts are the same to it."""
        del text
        return Reading()
