"""The library sentence-transformers: all-mpnet-base-v2, the paper's 'SBERT' (arXiv 1908.10084)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sp_edge.errors import MissingExtraError
from sp_edge.prompts.descriptions import check_length
from sp_edge.prompts.reading import Reading, read
from sp_edge.text.encoder import digest, no_weights

SBERT_REPOSITORY = "sentence-transformers/all-mpnet-base-v2"


class SBERT:
    """all-mpnet-base-v2 (768 numbers a sentence), from the hub's cache or downloaded.

    Attributes:
        model: the library's.
    """

    name = "sbert"
    dim = 768

    def __init__(self) -> None:
        try:
            from sentence_transformers import SentenceTransformer
            from transformers.utils import logging
        except ImportError as cause:
            raise MissingExtraError(
                f"cannot load the text encoder {self.name}", package="sentence-transformers", extra="train"
            ) from cause
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            try:
                self.model = SentenceTransformer(SBERT_REPOSITORY, device="cpu", local_files_only=True)
            except OSError:
                self.model = SentenceTransformer(SBERT_REPOSITORY, device="cpu", local_files_only=False)
        except Exception as cause:  # the hub's client raises what its HTTP library does
            raise no_weights(self.name, SBERT_REPOSITORY, cause) from cause
        self.revision = digest(self.model.state_dict())

    def encode(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of length one: n texts -> float32 (n, T)."""
        for sentence in sentences:
            tokens = self.model.tokenizer(sentence, truncation=False, verbose=False)["input_ids"]
            check_length(sentence, len(tokens), self.model.max_seq_length)
        vectors = self.model.encode(list(sentences), normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32).reshape(len(sentences), self.dim)

    def reading(self, text: str) -> Reading:
        """What of a text the tokenizer knows."""
        return read(self.model.tokenizer.backend_tokenizer, text)
