"""The text encoder that a bundle may carry, as its manifest describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sp_edge.errors import BundleError

FOLDER = "text"
# Least cosine between a prompt of the graph and one of the encoder that it was made from.
COSINES = {"fp32": 0.9999, "int8": 0.99}
_AGAIN = "export it again with this version of sp-edge"
_COUNTS = ("max_tokens", "names")
_TEXTS = ("precision", "graph", "tokenizer", "golden")


@dataclass(frozen=True)
class TextPart:
    """What lets a device turn any name or sentence into a prompt.

    Attributes:
        precision: of the graph's weights: fp32 or int8.
        graph: file of the graph: `ids` and `mask` int64 (N, L) -> `vector` float32 (N, T), before lengths are made equal.
        tokenizer: file of the library tokenizers.
        golden: file with names and the prompts that the encoder itself gave for them.
        max_tokens: that the encoder reads of a sentence, its marks of beginning and end included.
        names: how many names export compared.
        cosine_mean, cosine_min: of the graph's vectors for them to those of the encoder itself.
    """

    precision: str
    graph: str
    tokenizer: str
    golden: str
    max_tokens: int
    names: int
    cosine_mean: float
    cosine_min: float

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of it."""
        return self.graph, self.tokenizer, self.golden

    def to_json(self) -> dict[str, Any]:
        """As the manifest records it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> TextPart:
        """Reads `to_json`.

        Raises:
            BundleError: a field is missing or impossible.
        """
        if not isinstance(value, Mapping):
            raise BundleError(
                "the manifest's text encoder is incomplete", expected="an object", got=repr(value)[:80], next_step=_AGAIN
            )
        cosines: list[Any] = [value.get(key) for key in ("cosine_mean", "cosine_min")]
        if (
            not all(isinstance(value.get(key), str) for key in _TEXTS)
            or not all(type(value.get(key)) is int and value[key] > 0 for key in _COUNTS)
            or not all(type(cosine) in (int, float) and -1.001 <= cosine <= 1.001 for cosine in cosines)
            or value["precision"] not in COSINES
        ):
            raise BundleError(
                "the manifest's text encoder is incomplete",
                expected=f"{', '.join(_TEXTS)}; positive {' and '.join(_COUNTS)}; cosine_mean and cosine_min; "
                f"precision {' or '.join(COSINES)}",
                got=repr(dict(value))[:200],
                next_step=_AGAIN,
            )
        return cls(**{key: value[key] for key in cls.__dataclass_fields__})
