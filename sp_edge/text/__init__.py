"""From class names to prompt vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sp_edge.errors import PromptError, SettingsError
from sp_edge.prompts import PromptTable, TextSpec, clean_name
from sp_edge.settings import TextSettings
from sp_edge.text.minilm import MiniLM

__all__ = ["MiniLM", "extend_table", "prompt_table"]


def prompt_table(names: Sequence[str], settings: TextSettings) -> PromptTable:
    """Encodes class names: the template is filled, encoded, and every vector rescaled to `settings.norm`.

    Raises:
        PromptError: a name that cannot be one.
        MissingExtraError: the encoder or its weights are not installed.
    """
    encoder = MiniLM()
    clean = tuple(dict.fromkeys(clean_name(name) for name in names))
    vectors = encoder.encode([settings.template.replace("{name}", name) for name in clean])
    vectors *= settings.norm / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return PromptTable(TextSpec(encoder.name, encoder.revision, settings.template, settings.norm, encoder.dim), clean, vectors)


def extend_table(table: PromptTable, names: Sequence[str]) -> PromptTable:
    """The table with prompts for `names` added where it has none, made in the table's own way.

    Raises:
        PromptError: the encoder here is not the one that made the table.
    """
    missing = [name for name in names if name not in table]
    if not missing:
        return table
    text = table.text
    try:
        settings = TextSettings(text.encoder, template=text.template, norm=text.norm)
    except SettingsError as cause:
        raise PromptError("the table was made in a way that is unknown here", expected=cause.expected, got=cause.got) from cause
    return table.with_table(prompt_table(missing, settings))
