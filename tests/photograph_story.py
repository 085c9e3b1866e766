"""What a demo might have done with photographs, invented, for tests of its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.demo.elements import FilmFrame
from sp_edge.demo.report_photographs import Asked, NamedPlace, PhotographStory
from sp_edge.photographs import photograph
from sp_edge_runtime.looking import Look

FIGURES = {"frames": 350, "fps": 61.2, "right": 242, "shown": 250, "unknown_right": 93, "unknown_shown": 100}
NAMES = ("cat", "coffee cup", "flower", "rocket", "temple")


def square(file: str) -> NDArray[np.uint8]:
    """The middle of a photograph: uint8 (256, 256, 3) RGB."""
    pixels = photograph(file).read()
    left = (pixels.shape[1] - 256) // 2
    return pixels[:, left : left + 256]


def photograph_story(names: tuple[str, ...] = NAMES, video: Path | None = None) -> PhotographStory:
    """A story of five names, and of one photograph under the first two."""
    scores = np.random.default_rng(0).normal(0, 2, (len(names), 7, 7)).astype(np.float32)
    taught = [NamedPlace(name, Look(square("cat"), one, 1.5)) for name, one in zip(names, scores, strict=True)]
    first, second = names[:2]
    share: dict[str, Any] = {first: 0.7, second: 0.2}
    return PhotographStory(
        model="toynet",
        taught=taught,
        pair=[NamedPlace(name, Look(square("astronaut"), one, 3.25)) for name, one in zip(names[:2], scores, strict=False)],
        asked=[Asked(square("rocket"), first, first, share), Asked(square("coins"), second, first, share)],
        figures=FIGURES,
        film=[FilmFrame(square("grass"), 0.5 + i, names[i % 5]) for i in range(7)],
        video=video,
        shown=[photograph(file) for file in ("cat", "temple")],
    )
