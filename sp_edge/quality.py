"""Whether a picture can teach anything: finds black, overexposed, empty and blurred ones, and copies of one that is known.

The limits let every picture pass of the drawn scenes, of two sets of drawn things and of scikit-learn's digits, which are
blurred themselves at this size. Of pictures blurred by a Gaussian of 10 % of their side 95 % are found, at 8 % three quarters,
at 4 % almost none: what is softly out of focus still teaches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from sp_edge.bank import thumbnail

SIDE = 64  # pixels at which pictures are judged, like the thumbnails
DARK = 25.0  # the brightest hundredth of a black picture stays below, of 255
BRIGHT = 245.0  # the darkest hundredth of an overexposed one stays above
FLAT = 2.0  # standard deviation below which nothing is to be seen, of 255
BLURRED = 0.0018  # share of the contrast in details of two pixels and less, below which a picture is blurred
COPY = 0.15  # difference of two thumbnails, as a share of their contrast, below which they are one picture


@dataclass(frozen=True)
class Problem:
    """Why a shot is refused.

    Attributes:
        shot: which of those that were given, from 0.
        what: black, overexposed, empty, blurred or copy.
        value: what was measured.
        limit: what would have passed.
        of: what it is a copy of, in words.
    """

    shot: int
    what: str
    value: float
    limit: float
    of: str = ""

    def __str__(self) -> str:
        side = "above" if self.what == "overexposed" else "below"
        about = f"copy of {self.of}" if self.of else self.what
        return f"{about} ({self.value:.3g}, {side} {self.limit:g})"


def judge(image_rgb: NDArray[np.uint8]) -> Problem | None:
    """What is wrong with a picture, uint8 (H, W, 3) RGB of any size; None if nothing is."""
    grey = Image.fromarray(image_rgb).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=2)
    values = np.asarray(grey, np.float64)
    low, high = np.quantile(values, [0.01, 0.99]).tolist()
    contrast = float(values.std())
    if high < DARK:
        return Problem(0, "black", high, DARK)
    if low > BRIGHT:
        return Problem(0, "overexposed", low, BRIGHT)
    if contrast < FLAT:
        return Problem(0, "empty", contrast, FLAT)
    smooth = np.asarray(grey.filter(ImageFilter.GaussianBlur(2)), np.float64)
    detail = float(((values - smooth) ** 2).mean() / values.var())
    return Problem(0, "blurred", detail, BLURRED) if detail < BLURRED else None


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float64]:
    """How far thumbnails differ, as a share of their contrast: uint8 (64, 64, 3) and (n, 64, 64, 3) -> float64 (n,)."""
    left, right = one.astype(np.float32), other.astype(np.float32)
    spread = np.sqrt(right.var(axis=(1, 2)).mean(axis=1))  # over the picture: a colour is no contrast
    contrast = np.maximum(spread, max(float(np.sqrt(left.var(axis=(0, 1)).mean())), 1.0))
    return np.asarray(np.sqrt(((left - right) ** 2).mean(axis=(1, 2, 3))) / contrast, np.float64)


def problems(images: Sequence[NDArray[np.uint8]], known: NDArray[np.uint8]) -> list[Problem]:
    """What speaks against shots of a class, at most one problem each.

    Args:
        images: uint8 (H, W, 3) RGB each, of any size.
        known: uint8 (n, 64, 64, 3) RGB thumbnails of the shots that the class has.
    """
    found = []
    seen, places = list(known), [f"shot {number} of the class" for number in range(len(known))]
    for shot, image in enumerate(images):
        problem = judge(image)
        small = thumbnail(image)
        if problem is None and seen:
            differences = difference(small, np.stack(seen))
            nearest = int(differences.argmin())
            if differences[nearest] < COPY:
                problem = Problem(shot, "copy", float(differences[nearest]), COPY, places[nearest])
        if problem is not None:
            found.append(replace(problem, shot=shot))
        seen.append(small)
        places.append(f"picture {shot + 1}")
    return found
