"""Whether a picture can teach anything: finds dark, overexposed, empty and blurred ones, and copies of one that is known.

`benchmarks/quality.py` measures how often, and what it would cost to teach them: docs/measurements/teaching.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sp_edge.bank.crops import encode_crop, thumbnails
from sp_edge.pictures import check_picture

SIDE = 64  # pixels at which pictures are judged, like the thumbnails
DARK = 60.0  # the brightest hundredth of a dark picture stays below, of 255
BRIGHT = 245.0  # the darkest hundredth of an overexposed one stays above
FLAT = 2.0  # standard deviation below which nothing is to be seen, of 255
BLURRED = 0.065  # what is finer than one pixel, as a share of what is finer than four, below which a picture is blurred
WINDOW = 32  # pixels, of which the sharpest count: what is before and behind the thing may be out of focus
FEW = 0.1  # of the most details, below which a direction or a window says nothing about blur: blinds are not blurred
ROUNDING = 1 / 6  # variance that two roundings to whole grey levels leave, in a picture that has no details either
COPY = 0.3  # difference of two thumbnails below which they are one picture
REACH = 4  # pixels by which a copy may be shifted
BLOCK = 64  # thumbnails that are compared at once: what is computed of them, 32 MB, grows no further with a class's shots


def _smoothing(sigma: float) -> NDArray[np.float64]:
    """A Gaussian along the first axis of a picture, as a matrix to multiply it by: float64 (64, 64)."""
    distance = np.subtract.outer(np.arange(SIDE), np.arange(SIDE))
    weights = np.exp(-(distance**2) / (2 * sigma**2))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


_FINE, _COARSE = _smoothing(1), _smoothing(4)


@dataclass(frozen=True)
class Problem:
    """Why a shot is refused.

    Attributes:
        shot: which of those that were given, from 0.
        what: dark, overexposed, empty, blurred or copy.
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
    """What is wrong with a picture, uint8 (H, W, 3) RGB of any size; None if nothing is.

    Raises:
        ImageError: not such an array.
    """
    check_picture(image_rgb)
    small = Image.fromarray(image_rgb).resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=2)
    values = np.asarray(small.convert("L"), np.float64)
    light = float(np.quantile(np.asarray(small).max(axis=2), 0.99))  # of a channel: a deep blue is not dark
    low, contrast = float(np.quantile(values, 0.01)), float(values.std())
    if light < DARK:
        return Problem(0, "dark", light, DARK)
    if low > BRIGHT:
        return Problem(0, "overexposed", low, BRIGHT)
    if contrast < FLAT:
        return Problem(0, "empty", contrast, FLAT)
    detail = sharpness(values)
    return Problem(0, "blurred", detail, BLURRED) if detail < BLURRED else None


def sharpness(grey: NDArray[np.float64]) -> float:
    """How much of the small details of a picture's sharpest part are its smallest: float64 (64, 64) -> 0 to 1.

    Blurring what is blurred already changes little (Crete et al., The blur effect, SPIE 2007): compared are what a Gaussian
    of one pixel takes away, and what one of four pixels does. A sharp edge has a quarter or a little less, whatever its
    contrast and however many edges there are; a wide blur leaves a 256th. Motion blurs one direction alone, so that the one
    with less counts. Parts are windows of 32 pixels that overlap by half.
    """
    found = []
    for view in (grey, grey.T):
        fine, coarse = ((_windows(view - smooth @ view)).var(axis=(2, 3)) for smooth in (_FINE, _COARSE))
        telling = coarse > FEW * coarse.max()
        found.append((float(coarse.max()), float(((fine - ROUNDING) / np.maximum(coarse, 1e-9))[telling].max(initial=0))))
    most = max(details for details, _ in found)
    return max(min((share for details, share in found if details > FEW * most), default=0.0), 0.0)


def _windows(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Its windows that overlap by half: float64 (64, 64) -> (3, 3, 32, 32)."""
    return np.lib.stride_tricks.sliding_window_view(values, (WINDOW, WINDOW))[:: WINDOW // 2, :: WINDOW // 2]


def difference(one: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float64]:
    """How far thumbnails differ but for a small shift, brightness and contrast: uint8 (64, 64, 3), (n, 64, 64, 3) -> (n,).

    It is sqrt(1 - r^2 + c^2), float64: r is the largest correlation over shifts of up to four pixels either way, so that
    1 - r^2 is the share of the one's variance that the other does not explain; c is how far their mean colours are apart at
    the same brightness, in standard deviations of the one. 0 of a copy, 1 or more of what has nothing in common.
    """
    if len(others) > BLOCK:
        return np.concatenate([difference(one, others[i : i + BLOCK]) for i in range(0, len(others), BLOCK)])
    inner = one[REACH:-REACH, REACH:-REACH].astype(np.float64)
    inner -= inner.mean(axis=(0, 1))  # of each channel: a colour is no contrast
    size, known = inner.shape[0], others.astype(np.float64)
    shifts = slice(2 * REACH + 1)
    spectrum = np.fft.rfft2(inner, (SIDE, SIDE), axes=(0, 1)).conj() * np.fft.rfft2(known, axes=(1, 2))
    products = np.fft.irfft2(spectrum.sum(axis=-1), (SIDE, SIDE))[:, shifts, shifts]
    spread = (_window_sums(known**2, size) - _window_sums(known, size) ** 2 / size**2).sum(axis=-1)
    least = inner.size  # a contrast of one grey level, which counts as none: flat ones are alike
    variance = (inner**2).sum() + least
    correlation = (products + least) / np.sqrt((spread + least) * variance)
    colour, colours = one.mean(axis=(0, 1)), known.mean(axis=(1, 2))
    apart = colours * (colour.sum() + 1) / (colours.sum(axis=1, keepdims=True) + 1) - colour
    unexplained = 1 - np.clip(correlation.max(axis=(1, 2)), 0, 1) ** 2
    return np.asarray(np.sqrt(unexplained + (apart**2).sum(axis=1) * size**2 / variance))


def _window_sums(images: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Sums over every square window: (n, H, W, 3) -> (n, H - size + 1, W - size + 1, 3)."""
    for axis in (1, 2):
        before = np.insert(np.cumsum(images, axis=axis), 0, 0, axis=axis)
        count = images.shape[axis] - size + 1
        images = np.take(before, np.arange(size, size + count), axis) - np.take(before, np.arange(count), axis)
    return images


def problems(
    images: Sequence[NDArray[np.uint8]], preprocess: Callable[[NDArray[np.uint8]], NDArray[np.uint8]], known: NDArray[np.uint8]
) -> list[Problem]:
    """What speaks against shots of a class, at most one problem each. They are judged by what the network sees of them.

    Args:
        images: uint8 (H, W, 3) RGB each, of any size.
        preprocess: gives what the network sees of them.
        known: uint8 (n, 64, 64, 3) RGB thumbnails of the shots that the class has, as `bank.crops.thumbnails` gives them.

    Raises:
        ImageError: one is no such array.
    """
    found = []
    seen, places = list(known), [f"shot {number} of the class" for number in range(len(known))]
    for shot, image in enumerate(images):
        crop = preprocess(image)
        problem = judge(crop)
        (small,) = thumbnails([encode_crop(crop)])  # as the bank would have it
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
