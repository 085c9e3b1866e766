"""Composes labelled pictures from drawings of named things, alone ('clean') or beside a distractor ('clutter').

The sets of this folder share it: each gathers drawings of many classes, several of each class by different hands, and says
in a `Style` how a drawing is painted. Every picture is a pure function of (seed, split, group, class, index).
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from sp_edge.data.pictures import PictureSet
from sp_edge.data.scenes import draw_background
from sp_edge.errors import DataError, SettingsError, SpEdgeError
from sp_edge.files import locked, sha256
from sp_edge.folders import atomic_folder
from sp_edge.tensors import load_tensors, save_tensors

GROUPS = ("clutter", "clean")
SPLITS = ("train", "val", "test")
SHARES = (0.7, 0.1)
CACHE = Path.home() / ".cache" / "sp-edge" / "sets"
_SPLIT_SEED = 20230313

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Drawings:
    """Drawings of named classes.

    Attributes:
        pixels: uint8, (n, S, S, 4) RGBA in colour or (n, S, S) coverage of ink; each but for a narrow margin fills its square.
        labels: int64 (n,), index into `names`; a class's drawings stand together.
        names: one a class, sorted.
    """

    pixels: Pixels
    labels: NDArray[np.int64]
    names: tuple[str, ...]

    @classmethod
    def stack(cls, found: Mapping[str, Sequence[Pixels]]) -> Drawings:
        """Joins the drawings of each class name."""
        names = tuple(sorted(found))
        labels = np.repeat(np.arange(len(names)), [len(found[name]) for name in names])
        return cls(np.stack([pixels for name in names for pixels in found[name]]), labels, names)

    def of(self, label: int) -> range:
        """The rows that show a class."""
        return range(*np.searchsorted(self.labels, [label, label + 1]).tolist())


@dataclass(frozen=True)
class Style:
    """How a set turns drawings into pictures.

    Attributes:
        paint: (a drawing at its final size, as a row of `Drawings.pixels`, rng) -> uint8 (H, W, 4) RGBA.
        ground: (rng, height, width) -> float32 (height, width, 3) RGB in 0..255.
        angle: largest rotation either way, degrees.
        mirror: whether half of the drawings are mirrored.
    """

    paint: Callable[[Pixels, np.random.Generator], Pixels]
    ground: Callable[[np.random.Generator, int, int], NDArray[np.float32]] = draw_background
    angle: float = 20.0
    mirror: bool = True


def split_labels(count: int) -> dict[str, NDArray[np.int64]]:
    """Divides classes 0 to count - 1 at random into base (70 %), validation (10 %) and novel classes; fixed for good."""
    order = np.random.default_rng(_SPLIT_SEED).permutation(count)
    ends = [round(SHARES[0] * count), round(sum(SHARES) * count)]
    return {split: np.sort(part) for split, part in zip(SPLITS, np.split(order, ends), strict=True)}


def draw_set(
    drawings: Drawings,
    style: Style,
    split: str,
    size: int,
    per_class: int,
    seed: int,
    groups: tuple[str, ...] = GROUPS,
) -> PictureSet:
    """Draws `per_class` pictures of every class of a split for each group; a class's drawings take turns.

    Raises:
        SettingsError: unknown split or group, a size under 32 pixels, no pictures asked for.
    """
    if split not in SPLITS:
        raise SettingsError("unknown split", expected=", ".join(SPLITS), got=split)
    if not groups or not set(groups) <= set(GROUPS):
        raise SettingsError("unknown group of pictures", expected=", ".join(GROUPS), got=", ".join(groups) or "none")
    if size < 32:
        raise SettingsError("the picture size is too small", expected="32 pixels or more", got=str(size))
    if per_class < 1 or seed < 0:
        raise SettingsError("nothing to draw", expected="per_class 1 or more, seed 0 or more", got=f"{per_class}, {seed}")
    classes = split_labels(len(drawings.names))[split]
    count = len(classes) * per_class
    images = np.empty((count * len(groups), size, size, 3), np.uint8)
    for row in tqdm(range(len(images)), f"drawing {split}", disable=None, leave=False):
        group, (label, index) = groups[row // count], divmod(row % count, per_class)
        rng = np.random.default_rng([seed, SPLITS.index(split), GROUPS.index(group), index, int(classes[label])])
        mine = drawings.of(classes[label])
        shown = [drawings.pixels[mine[(index + label) % len(mine)]]]
        if group == "clutter":
            other = drawings.of(classes[(label + rng.integers(1, len(classes))) % len(classes)])
            shown.append(drawings.pixels[other[rng.integers(len(other))]])
        images[row] = draw_picture(shown, style, rng, size)
    return PictureSet(
        images=images,
        labels=np.tile(np.repeat(np.arange(len(classes)), per_class), len(groups)),
        class_names=tuple(drawings.names[i] for i in classes),
        groups={group: np.arange(g * count, (g + 1) * count) for g, group in enumerate(groups)},
    )


def draw_picture(shown: list[Pixels], style: Style, rng: np.random.Generator, size: int) -> Pixels:
    """One drawing anywhere, or two of about the same size, each in a quarter of its own.

    Returns:
        uint8 (size, size, 3) RGB.
    """
    canvas = Image.fromarray(np.clip(style.ground(rng, size, size), 0, 255).astype(np.uint8))
    quarters = rng.permutation(4)
    for pixels, quarter in zip(shown, quarters, strict=False):
        if len(shown) == 1:
            side = rng.uniform(0.4, 0.65) * size
            centre = rng.uniform(0.55 * side, size - 0.55 * side, 2)
        else:
            side = rng.uniform(0.38, 0.48) * size
            middle = 0.27 + 0.46 * np.array([quarter % 2, quarter // 2])
            centre = (middle + rng.uniform(-0.03, 0.03, 2)) * size
        small = np.asarray(Image.fromarray(pixels).resize((round(side), round(side)), Image.Resampling.BILINEAR))
        drawing = Image.fromarray(style.paint(small, rng))
        if style.mirror and rng.random() < 0.5:
            drawing = drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        turned = drawing.rotate(rng.uniform(-style.angle, style.angle), Image.Resampling.BICUBIC, expand=True)
        corner = [round(c - s / 2) for c, s in zip(centre, turned.size, strict=True)]
        canvas.paste(turned, corner, turned)
    light = rng.uniform(0.8, 1.1) * rng.uniform(0.94, 1.06, 3)
    return np.clip(np.asarray(canvas) * light, 0, 255).astype(np.uint8)


def cut_margin(pixels: Pixels) -> Pixels:
    """Crops the empty margin of a drawing: uint8 (H, W, 4) RGBA or (H, W) coverage.

    Raises:
        DataError: an empty drawing.
    """
    covered = (pixels if pixels.ndim == 2 else pixels[..., 3]) > 8
    if not covered.any():
        raise DataError("an empty drawing", expected="something drawn", got="nothing")
    rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def fill_square(pixels: Pixels, side: int) -> Pixels:
    """Crops the empty margin of a drawing and centres the rest in a square, with a narrow margin that keeps turned edges soft.

    Args:
        pixels: uint8 (H, W, 4) RGBA or (H, W) coverage.
        side: of the result, pixels.

    Raises:
        DataError: an empty drawing.
    """
    image = Image.fromarray(cut_margin(pixels))
    scale = (side - side // 12) / max(image.size)
    image = image.resize([max(1, round(scale * s)) for s in image.size], Image.Resampling.BICUBIC)
    square = Image.new(image.mode, (side, side))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return np.asarray(square)


def cached(cache: Path, builder: str, gather: Callable[[], Drawings]) -> Drawings:
    """Gathers drawings once and keeps them in the folder `cache`, for as long as the scripts that make them stay the same."""
    scripts = [Path(builder), *(Path(__file__).with_name(name) for name in ("compose.py", "iconify.py"))]
    digest = hashlib.sha256("".join(map(sha256, scripts)).encode()).hexdigest()
    path = cache / f"{Path(builder).stem}-{digest[:16]}.safetensors"
    with locked(path):
        if not path.exists():
            drawings = gather()
            save_tensors(path, {"pixels": drawings.pixels, "labels": drawings.labels}, {"names": drawings.names})
    tensors, metadata = load_tensors(path, DataError)
    return Drawings(tensors["pixels"], tensors["labels"], tuple(metadata["names"]))


def write_set(
    build: Callable[..., PictureSet], out: Path, groups: tuple[str, ...], *, size: int, per_class: int, seed: int
) -> None:
    """Writes `out`/train|val|test/<class>/<group>-<index>.png, all or nothing.

    Raises:
        DataError: `out` exists or cannot be created.
    """
    if out.exists():
        raise DataError(f"{out} exists", expected="a folder to create", next_step="remove it or name another")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise DataError(f"cannot create {out}", expected="a folder that can be written", got=str(cause)) from cause
    with atomic_folder(out) as folder:
        for split in SPLITS:
            pictures = build(split, size=size, per_class=per_class, seed=seed, groups=groups)
            for group in groups:
                for row in tqdm(pictures.groups[group], f"writing {split}, {group}", disable=None, leave=False):
                    home = folder / split / pictures.class_names[pictures.labels[row]].replace(" ", "_")
                    home.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(pictures.images[row]).save(home / f"{group}-{row % per_class:03}.png")
            print(f"{split}: {len(pictures.class_names)} classes, {len(pictures)} pictures")


def main(build: Callable[..., PictureSet], what: str | None) -> None:
    """The command of a set: builds it into a folder that sp-edge trains on."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("out", type=Path, help="folder to create")
    parser.add_argument("--group", choices=(*GROUPS, "both"), default="both", help="which pictures")
    parser.add_argument("--size", type=int, default=96, help="side of a picture, pixels")
    parser.add_argument("--per-class", type=int, default=24, help="pictures a class and group")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    groups = GROUPS if chosen.group == "both" else (chosen.group,)
    try:
        write_set(build, chosen.out, groups, size=chosen.size, per_class=chosen.per_class, seed=chosen.seed)
    except SpEdgeError as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from error
