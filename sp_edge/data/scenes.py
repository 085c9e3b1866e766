"""Draws the scenes set: a named object ('striped red star') on a busy background, alone or beside a distractor.

The set exists to pose the question that Semantic Prompt answers. One support picture that holds two objects does not say
which of them is meant; the class name does. Every picture is a pure function of (seed, class, index, cluttered), so the
set is the same everywhere and any part of it can be drawn in any order, by any number of processes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import trange

from sp_edge.data.pictures import PictureSet
from sp_edge.errors import SettingsError

COLOURS = {
    "red": (214, 40, 40),
    "orange": (245, 140, 30),
    "yellow": (245, 220, 60),
    "green": (50, 160, 70),
    "cyan": (40, 190, 200),
    "blue": (45, 90, 210),
    "purple": (140, 60, 180),
    "pink": (245, 150, 190),
    "white": (245, 245, 245),
    "black": (25, 25, 28),
}
PATTERNS = ("plain", "striped", "dotted", "checked", "ringed")
SPLIT_SIZES = {"train": 456, "val": 48, "test": 96}
GROUPS = ("clutter", "clean")
_SPLIT_SEED = 20230313

Array = NDArray[np.float32]


def _polygon(u: Array, v: Array, corners: list[tuple[float, float]]) -> Array:
    """Signed distance to a polygon, negative inside (exact, any simple polygon)."""
    points = np.asarray(corners, dtype=np.float32)
    squared = np.full_like(u, np.inf)
    inside = np.zeros(u.shape, dtype=bool)
    for (ax, ay), (bx, by) in zip(points, np.roll(points, -1, axis=0), strict=True):
        ex, ey = bx - ax, by - ay
        wx, wy = u - ax, v - ay
        along = np.clip((wx * ex + wy * ey) / (ex * ex + ey * ey), 0, 1)
        squared = np.minimum(squared, (wx - along * ex) ** 2 + (wy - along * ey) ** 2)
        if by != ay:
            inside ^= ((ay > v) != (by > v)) & (u < ex * (v - ay) / ey + ax)
    distance = np.sqrt(squared)
    return np.where(inside, -distance, distance)


def _regular(count: int, radius: float = 1.0, inner: float | None = None) -> list[tuple[float, float]]:
    """Corners of a regular polygon, or of a star where `inner` is given; the first corner points up."""
    radii = [radius] * count if inner is None else [radius, inner] * count
    step = 2 * np.pi / len(radii)
    return [(r * np.sin(i * step), -r * np.cos(i * step)) for i, r in enumerate(radii)]


def _heart(u: Array, v: Array) -> Array:
    lobes = np.minimum(np.hypot(u - 0.45, v + 0.35), np.hypot(u + 0.45, v + 0.35)) - 0.5
    return np.minimum(lobes, _polygon(u, v, [(-0.9, -0.13), (0, -0.5), (0.9, -0.13), (0, 0.95)]))


SHAPES: dict[str, Callable[[Array, Array], Any]] = {
    "circle": lambda u, v: np.hypot(u, v) - 0.9,
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) - 0.78,
    "triangle": lambda u, v: _polygon(u, v, _regular(3)),
    "star": lambda u, v: _polygon(u, v, _regular(5, inner=0.42)),
    "ring": lambda u, v: np.abs(np.hypot(u, v) - 0.68) - 0.25,
    "cross": lambda u, v: np.minimum(
        np.maximum(np.abs(u) - 0.9, np.abs(v) - 0.3), np.maximum(np.abs(u) - 0.3, np.abs(v) - 0.9)
    ),
    "heart": _heart,
    "diamond": lambda u, v: (np.abs(u) * 1.5 + np.abs(v) - 0.95) / 1.8,
    "crescent": lambda u, v: np.maximum(np.hypot(u, v) - 0.92, 0.72 - np.hypot(u - 0.42, v)),
    "hexagon": lambda u, v: _polygon(u, v, _regular(6, 0.95)),
    "bolt": lambda u, v: _polygon(
        u, v, [(0.25, -0.95), (-0.65, 0.15), (-0.1, 0.15), (-0.3, 0.95), (0.65, -0.2), (0.1, -0.2), (0.55, -0.95)]
    ),
    "arrow": lambda u, v: _polygon(
        u, v, [(0, -0.95), (0.85, -0.05), (0.3, -0.05), (0.3, 0.9), (-0.3, 0.9), (-0.3, -0.05), (-0.85, -0.05)]
    ),
}


@dataclass(frozen=True)
class SceneClass:
    """What a class of the set looks like; its `name` is all that a text encoder is told."""

    pattern: str
    colour: str
    shape: str

    @property
    def name(self) -> str:
        """Such as 'striped red star'."""
        return f"{self.pattern} {self.colour} {self.shape}"


def split_classes() -> dict[str, tuple[SceneClass, ...]]:
    """The 600 classes divided into base (`train`), validation (`val`) and novel (`test`) classes; fixed for good."""
    every = [SceneClass(*parts) for parts in product(PATTERNS, COLOURS, SHAPES)]
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(every))
    splits, start = {}, 0
    for split, count in SPLIT_SIZES.items():
        splits[split] = tuple(every[i] for i in sorted(order[start : start + count]))
        start += count
    return splits


def draw_object(canvas: Array, what: SceneClass, centre: tuple[float, float], radius: float, angle: float) -> None:
    """Paints an object onto `canvas` in place.

    Args:
        canvas: float32 (H, W, 3) RGB in 0..255.
        centre: (x, y) in pixels; parts outside the canvas are cut off.
        radius: half the object's extent in pixels.
        angle: rotation in radians, clockwise.
    """
    height, width = canvas.shape[:2]
    left, right = max(0, int(centre[0] - radius - 2)), min(width, int(centre[0] + radius + 3))
    top, bottom = max(0, int(centre[1] - radius - 2)), min(height, int(centre[1] + radius + 3))
    if left >= right or top >= bottom:
        return
    x = (np.arange(left, right, dtype=np.float32) - np.float32(centre[0])) / np.float32(radius)
    y = ((np.arange(top, bottom, dtype=np.float32) - np.float32(centre[1])) / np.float32(radius))[:, None]
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = cos * x + sin * y, cos * y - sin * x
    mask = np.clip(0.5 - SHAPES[what.shape](u, v) * radius, 0, 1)[..., None]
    colour = np.asarray(COLOURS[what.colour], dtype=np.float32)
    ink = np.float32(230) if what.colour == "black" else np.float32(0)
    paint = colour + (_ink(what.pattern, u, v, radius) * np.float32(0.72))[..., None] * (ink - colour)
    region = canvas[top:bottom, left:right]
    region += mask * (paint - region)


def _ink(pattern: str, u: Array, v: Array, radius: float) -> Array:
    """How dark the pattern is at each point, 0 to 1, with edges one pixel soft."""
    if pattern == "plain":
        return np.zeros_like(u)
    if pattern == "striped":
        return np.clip(0.5 + (np.abs((v * 2.0) % 1 - 0.5) - 0.25) * radius * 0.5, 0, 1)
    if pattern == "dotted":
        return np.clip(0.5 + (0.15 - np.hypot((u + 0.2) % 0.4 - 0.2, (v + 0.2) % 0.4 - 0.2)) * radius, 0, 1)
    if pattern == "ringed":
        return np.clip(0.5 + (np.abs((np.hypot(u, v) * 2.2) % 1 - 0.5) - 0.25) * radius * 0.45, 0, 1)
    same = np.sin(u * np.float32(2.2 * np.pi)) * np.sin(v * np.float32(2.2 * np.pi))
    return np.clip(0.5 + same * radius * 0.15, 0, 1)


def draw_background(rng: np.random.Generator, height: int, width: int) -> Array:
    """A busy ground: smooth random colours, a few soft strokes and grain. Float32 (height, width, 3) RGB in 0..255."""
    coarse = (rng.uniform(50, 190, (5, 5, 1)) + rng.uniform(-45, 45, (5, 5, 3))).astype(np.float32)
    columns = np.matmul(_stretch(width), coarse)
    ground = (_stretch(height) @ columns.reshape(5, -1)).reshape(height, width, 3)
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
    for _ in range(3):
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-0.4, 0.4)
        across = (x - width / 2) * np.float32(np.cos(angle)) + (y - height / 2) * np.float32(np.sin(angle))
        stroke = np.clip(1.6 - np.abs(across - np.float32(offset * height)) / (0.012 * height), 0, 1)
        ground += (stroke * np.float32(rng.uniform(-45, 45)))[..., None]
    grain = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    ground += grain * np.float32(24 / 255) - 12
    return np.asarray(ground, dtype=np.float32)


@lru_cache(maxsize=8)
def _stretch(length: int) -> Array:
    """Matrix (length, 5) that interpolates five values linearly over `length` pixels."""
    at = np.linspace(0, 4, length, dtype=np.float32)[:, None]
    return np.clip(1 - np.abs(at - np.arange(5, dtype=np.float32)), 0, 1)


def draw_scene(
    what: SceneClass, rng: np.random.Generator, size: int, distractor: SceneClass | None = None
) -> NDArray[np.uint8]:
    """One picture of `what`, in a random quarter; a `distractor` of about the same size stands in another quarter.

    Returns:
        uint8 (size, size, 3) RGB.
    """
    canvas = draw_background(rng, size, size)
    quarters = rng.permutation(4)
    for content, quarter in zip((what, distractor), quarters[:2], strict=True):
        across, down = 0.27 + 0.46 * (quarter % 2), 0.27 + 0.46 * (quarter // 2)
        jitter = rng.uniform(-0.04, 0.04, 2)
        radius, angle = rng.uniform(0.18, 0.25) * size, rng.uniform(-0.3, 0.3)
        if content is not None:
            draw_object(canvas, content, ((across + jitter[0]) * size, (down + jitter[1]) * size), radius, angle)
    return np.clip(canvas * np.float32(rng.uniform(0.8, 1.1)), 0, 255).astype(np.uint8)


def draw_split(
    split: str, *, size: int, per_class: int, groups: tuple[str, ...] = GROUPS, seed: int = 0, progress: bool = False
) -> PictureSet:
    """Draws `per_class` pictures of every class of a split for each group ('clutter': with a distractor; 'clean': without).

    Raises:
        SettingsError: unknown split or group, or a size under 32 pixels.
    """
    if split not in SPLIT_SIZES:
        raise SettingsError("unknown split", expected=", ".join(SPLIT_SIZES), got=split)
    if not set(groups) <= set(GROUPS):
        raise SettingsError("unknown group of scenes", expected=", ".join(GROUPS), got=", ".join(groups))
    if size < 32:
        raise SettingsError("the picture size is too small for scenes", expected="32 pixels or more", got=str(size))
    classes = split_classes()[split]
    count = len(classes) * per_class
    images = np.empty((count * len(groups), size, size, 3), dtype=np.uint8)
    for g, group in enumerate(groups):
        for i in trange(count, desc=f"drawing {split}, {group}", disable=not progress or None, leave=False, mininterval=1.0):
            label = i // per_class
            rng = np.random.default_rng([seed, list(SPLIT_SIZES).index(split), GROUPS.index(group), i % per_class, label])
            other = None
            if group == "clutter":
                other = classes[(label + int(rng.integers(1, len(classes)))) % len(classes)]
            images[g * count + i] = draw_scene(classes[label], rng, size, other)
    labels = np.tile(np.repeat(np.arange(len(classes)), per_class), len(groups))
    return PictureSet(
        images=images,
        labels=labels,
        class_names=tuple(c.name for c in classes),
        groups={group: np.arange(g * count, (g + 1) * count) for g, group in enumerate(groups)},
    )
