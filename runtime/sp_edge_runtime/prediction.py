"""What one image was recognized as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sp_edge.matching.decide import Match


@dataclass(frozen=True)
class Prediction(Match):
    """What one image was recognized as, and what that took.

    Attributes:
        class_index: row of the class in the bank; None where the label is 'unknown'.
        speed: milliseconds of 'preprocess', 'inference' and 'postprocess'; of a batch, each image's share.
        bank_version: of the bank that decided.
    """

    class_index: int | None
    speed: Mapping[str, float]
    bank_version: int

    def to_json(self) -> dict[str, Any]:
        """The same under the names that other tools use: `name` is the best class, `label` what is believed.

        Where the label is 'unknown', `class` is null.
        """
        return {
            "name": self.name,
            "label": self.label,
            "class": self.class_index,
            "confidence": self.confidence,
            "unknown": self.unknown,
            "margin": self.margin,
            "similarity": self.similarity,
            "topk": [{"name": name, "confidence": confidence} for name, confidence in self.top],
            "speed": dict(self.speed),
            "bank_version": self.bank_version,
        }
