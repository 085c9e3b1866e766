"""What one image was recognised as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sp_edge.matching.decide import Match


@dataclass(frozen=True)
class Prediction(Match):
    """What one image was recognised as, and what that took.

    Attributes:
        class_index: row of the best class in the bank, also where the label is 'unknown'; None when no class was taught.
        speed: milliseconds of 'preprocess', 'inference' and 'postprocess'; of a batch, each image's share.
        bank_version: of the bank that decided.
    """

    class_index: int | None
    speed: Mapping[str, float]
    bank_version: int

    def to_json(self) -> dict[str, Any]:
        """The fields under the names that other tools use; `name` is the label."""
        return {
            "name": self.label,
            "class": self.class_index,
            "confidence": self.confidence,
            "unknown": self.unknown,
            "margin": self.margin,
            "similarity": self.similarity,
            "topk": [{"name": name, "confidence": confidence} for name, confidence in self.top],
            "speed": dict(self.speed),
            "bank_version": self.bank_version,
        }
