"""Whether a picture can teach anything: finds small, dark, overexposed, empty, blurred ones, copies, things beside the view.

`benchmarks/quality.py` measures how often, and what it would cost to teach them: docs/measurements/teaching.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sp_edge.bank.crops import encode_crop, thumbnails
from sp_edge.pictures import check_picture
from sp_edge.preprocess import Preprocess
from sp_edge.view import WHOLE, Box, View

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
OUTSIDE = 0.7  # share of the details of two windows, the most detailed one outside of the view and that inside, above which
# the thing is outside: 0.5 where both have as many
SMALL = 0.25  # of the network's side, in pixels of the picture, below which what is looked at is too small
VIEWED = 96  # pixels of the shorter side at which the two are compared, in windows of a quarter of that
BLOCK = 64  # thumbnails that are compared at once: what is computed of them, 32 MB, grows no further with a class's shots


def _smoothing(sigma: float) -> NDArray[np.float64]:
    """A Gaussian along the first axis of a picture, as a matrix to multiply it by: float64 (64, 64)."""
    distance = np.subtract.outer(np.arange(SIDE), np.arange(SIDE))
    weights = np.exp(-(distance**2) / (2 * sigma**2))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


_FINE, _COARSE = _smoothing(1), _smoothing(4)


_WORDS = {"outside": "much of it lies outside of what is looked at", "small": "few pixels are looked at"}


@dataclass(frozen=True)
class Problem:
    """Why a shot is refused.

    Attributes:
        shot: which of those that were given, from 0.
        what: small, dark, overexposed, outside (of what is looked at), empty, blurred or copy.
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
        side = "above" if self.what in ("overexposed", "outside") else "below"
        about = f"copy of {self.of}" if self.of else _WORDS.get(self.what, self.what)
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


def outside(image_rgb: NDArray[np.uint8], box: Box) -> float:
    """How much more there is to be seen outside of a box than in it, 0 to 1; 0.5 where there is as much, 0 without an outside.

    Of windows of a quarter of the shorter side, the most detailed one that lies more than half outside is compared with the
    most detailed one inside: the outer's share of the differences between neighboring pixels in both. Details of the whole
    would say less: a background may have many small ones.

    Args:
        image_rgb: uint8 (H, W, 3) RGB.
        box: what is looked at, x, y, width and height in pixels.
    """
    height, width = image_rgb.shape[:2]
    scale = VIEWED / min(height, width)
    size = max(VIEWED, round(width * scale)), max(VIEWED, round(height * scale))
    shown = Image.fromarray(image_rgb).resize(size, Image.Resampling.BOX, reducing_gap=2)
    values = np.asarray(shown, np.float64)
    details = np.zeros(values.shape[:2])
    details[:, 1:] += np.abs(np.diff(values, axis=1)).max(axis=2)
    details[1:] += np.abs(np.diff(values, axis=0)).max(axis=2)
    x, y, across, down = box
    seen = np.zeros(details.shape)
    top, bottom = (round(edge * size[1] / height) for edge in (y, y + down))
    left, right = (round(edge * size[0] / width) for edge in (x, x + across))
    seen[top:bottom, left:right] = 1
    side = VIEWED // 4
    found, inside = (_window_sums(each[None, ..., None], side)[0, ..., 0] for each in (details, seen / side**2))
    inner, outer = (float(found[which].max(initial=0)) for which in (inside > 0.99, inside < 0.5))
    return outer / (inner + outer) if inner + outer > 0 else 0.0


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
    images: Sequence[NDArray[np.uint8]], preprocess: Preprocess | None, known: NDArray[np.uint8], view: View = WHOLE
) -> list[Problem]:
    """What speaks against shots of a class, at most one problem each. They are judged by what the network sees of them.

    Args:
        images: uint8 (H, W, 3) RGB each, of any size.
        preprocess: gives what the network sees of them; None where they are that.
        known: uint8 (n, 64, 64, 3) RGB thumbnails of the shots that the class has, as `bank.crops.thumbnails` gives them.
        view: which part of each picture counts, and how that becomes the network's square.

    Raises:
        ImageError: one is no such array.
        SettingsError: the view's region does not lie within one.
    """
    found = []
    seen, places = list(known), [f"shot {number} of the class" for number in range(len(known))]
    for shot, image in enumerate(images):
        crop = image if preprocess is None else preprocess(image, view)
        problem = judge(crop)
        if preprocess is not None:
            problem = _in_view(view.cut(image), preprocess, view, problem)
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


def _in_view(image_rgb: NDArray[np.uint8], preprocess: Preprocess, view: View, problem: Problem | None) -> Problem | None:
    """What is wrong with what is looked at of a picture, which was cut to its region, or else the problem of the crop."""
    height, width = image_rgb.shape[:2]
    box = preprocess.seen(height, width, View(fit=view.fit))
    side, least = float((max if view.fit == "pad" else min)(box[2:])), SMALL * preprocess.image_size
    if side < least:
        return Problem(0, "small", side, least)
    if problem is None or problem.what == "empty":
        beside = outside(image_rgb, box)
        return Problem(0, "outside", beside, OUTSIDE) if beside > OUTSIDE else problem
    return problem
