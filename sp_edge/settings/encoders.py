"""The text encoders that a setting may name.

A new one is a class in `sp_edge/text`, a row here, and its test.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EncoderKind:
    """What is known of a text encoder before it is loaded.

    Attributes:
        dim: T, how many numbers its vectors have; None where its file decides.
        norm: `text.norm` of the Semantic Prompt authors' release.
        is_file: its vectors stand in a file, `text.path`; the others are networks.
        encodes: it makes vectors from sentences; else the file has to hold one for each class.
    """

    dim: int | None = None
    norm: float = 9.0
    is_file: bool = False
    encodes: bool = True


ENCODERS = {
    "clip": EncoderKind(512, norm=0.0),
    "sbert": EncoderKind(768),
    "minilm": EncoderKind(384),
    "glove": EncoderKind(300, is_file=True),
    "file": EncoderKind(is_file=True, encodes=False),
}
FILES = tuple(name for name, kind in ENCODERS.items() if kind.is_file)
NETWORKS = tuple(name for name, kind in ENCODERS.items() if not kind.is_file)
