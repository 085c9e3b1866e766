"""What one image was recognized as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.matching.decide import Match
from sp_edge.view import Box


@dataclass(frozen=True)
class Prediction(Match):
    """What one image was recognized as, and what that took.

    Attributes:
        class_index: row of the class in the bank; None where the label is 'unknown'.
        speed: milliseconds of 'preprocess', 'inference' and 'postprocess'; of a batch, each image's share.
        bank_version: of the bank that decided.
        crop_rgb: uint8 (S, S, 3) RGB, what the network saw of the image; not to be changed.
        feature: float32 (D,), raw, what it made of that.
        view: what the network saw of the image: x, y, width and height in the image's pixels; None where nobody knows.
        gray: whether the image has no color, as in infrared, though some class was taught in color alone: what differs by
            color is not told apart.
    """

    class_index: int | None
    speed: Mapping[str, float]
    bank_version: int
    crop_rgb: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)
    feature: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    view: Box | None = None
    gray: bool = False

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
            "view": None if self.view is None else list(self.view),
            "gray": self.gray,
        }
