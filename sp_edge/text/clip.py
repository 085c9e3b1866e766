"""CLIP's text tower, the paper's encoder (512 numbers a sentence; arXiv 2103.00020)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from sp_edge.errors import MissingExtraError
from sp_edge.prompts.descriptions import check_length
from sp_edge.text.encoder import digest, no_weights

MODEL = "ViT-B-32"
WEIGHTS = "openai"


class CLIP:
    """Encodes sentences with the text tower of OpenAI's ViT-B/32 through open_clip.

    Attributes:
        model: open_clip's, without the image tower.
        tokenize: open_clip's tokenizer.
    """

    name = "clip"
    dim = 512

    def __init__(self) -> None:
        try:
            import open_clip
        except ImportError as cause:
            raise MissingExtraError("cannot load the text encoder clip", package="open_clip_torch", extra="train") from cause
        try:
            # OpenAI's weights were trained with QuickGELU, which open_clip's 'ViT-B-32' has not.
            model, _, _ = open_clip.create_model_and_transforms(MODEL, pretrained=WEIGHTS, device="cpu", force_quick_gelu=True)
        except Exception as cause:  # the hub's client raises what its HTTP library does
            raise no_weights(self.name, f"open_clip's {MODEL} {WEIGHTS}", cause) from cause
        del model.visual
        self.model = model.eval()
        self.tokenize = open_clip.get_tokenizer(MODEL)
        self.revision = digest({n: v for n, v in model.state_dict().items() if n != "logit_scale"})

    @torch.no_grad()
    def encode(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """As the tower gives them, of lengths around 10: n texts -> float32 (n, 512)."""
        limit = self.model.context_length
        vectors = []
        for sentence in sentences:  # one at a time, so that a vector does not depend on its neighbours, not even by rounding
            check_length(sentence, len(self.tokenize.encode(sentence)) + 2, limit)  # with the marks of beginning and end
            vectors.append(self.model.encode_text(self.tokenize([sentence]))[0].float().numpy())
        return np.array(vectors, np.float32).reshape(len(sentences), self.dim)
