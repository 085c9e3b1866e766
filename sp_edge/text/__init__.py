"""From class names and descriptions to prompt vectors."""

from sp_edge.text.clip import CLIP
from sp_edge.text.encoder import TextEncoder
from sp_edge.text.glove import GloVe
from sp_edge.text.minilm import MiniLM
from sp_edge.text.sentence import SBERT
from sp_edge.text.table import encoded_table, extend_table, open_encoder, prompt_table, whole_table

__all__ = [
    "CLIP", "SBERT", "GloVe", "MiniLM", "TextEncoder", "encoded_table", "extend_table", "open_encoder", "prompt_table",
    "whole_table",
]  # fmt: skip
