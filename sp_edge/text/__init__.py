"""From class names and descriptions to prompt vectors."""

from sp_edge.text.clip import CLIP
from sp_edge.text.descriptions import clean_sentence, read_descriptions
from sp_edge.text.encoder import TextEncoder
from sp_edge.text.glove import GloVe
from sp_edge.text.minilm import MiniLM
from sp_edge.text.sentence import SBERT
from sp_edge.text.table import extend_table, prompt_table

__all__ = [
    "CLIP", "SBERT", "GloVe", "MiniLM", "TextEncoder", "clean_sentence", "extend_table", "prompt_table", "read_descriptions",
]  # fmt: skip
