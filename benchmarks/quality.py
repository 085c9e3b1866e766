"""How often does enrollment refuse a good picture, and how often one that is blurred, dark, black or a copy?

    pip install --group study
    python benchmarks/quality.py --taught scenes runs/1/checkpoint.safetensors --taught emoji emoji.safetensors
    python benchmarks/quality.py --photographs grocery/train

Pictures of every set are judged as they are, and after they were spoilt: what is refused by `sp_edge.bank.quality.judge`, in %.
Copies are pairs of pictures of one class: of a picture and the same changed a little, or of two different ones. With
`--taught`, a network's novel classes are taught from one spoilt picture each and asked whole ones, 5-way, without prompts: what
spoilt pictures cost says which ones ought to be refused. With `--photographs`, those of a folder alone are judged, as a
ready-made network of 224 pixels sees them.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent / "sets"))

import compose
import emoji
from digits import digits
from load import SETS, load_set
from sp_edge.accuracy import Accuracy, Difference
from sp_edge.bank.crops import thumbnail
from sp_edge.bank.quality import COPY, difference, judge
from sp_edge.columns import table
from sp_edge.data.episodes import Episode, Features
from sp_edge.data.folder import labelled
from sp_edge.files import write_json
from sp_edge.pictures import load_image
from sp_edge.preprocess import Preprocess
from sp_edge.settings.settings import Settings
from sp_edge.training.checkpoint import Checkpoint
from sp_edge.training.classifier import episode_scores
from sp_edge.training.evaluate import encode
from windows import windows

CLASSES, PER_CLASS = 40, 5  # of each set
WINDOWS, PHOTO = 20, 224  # of each photograph, and their side
PHOTOGRAPHS, RATIO = 12, 1 / 0.875  # of each class of a folder, and how ready-made networks cut them
SIZE = 96  # of drawn pictures
ASKED, EPISODES = 10, 600  # pictures of a class that are asked about, beside those that are taught
Pixels = NDArray[np.uint8]
Spoil = Callable[[Pixels, np.random.Generator], Pixels]


def blur(image: Pixels, _rng: np.random.Generator, *, share: float) -> Pixels:
    """Out of focus: a Gaussian whose standard deviation is a share of the picture's side."""
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(share * min(image.shape[:2]))))


def motion(image: Pixels, _rng: np.random.Generator, *, share: float) -> Pixels:
    """Moved sideways by a share of the picture's side while the shutter was open; what left the picture's edge comes back."""
    steps = max(1, round(share * image.shape[1]))
    moved = np.pad(image.astype(np.float32), ((0, 0), (steps // 2, steps - steps // 2 - 1), (0, 0)), "edge")
    sums = np.cumsum(np.pad(moved, ((0, 0), (1, 0), (0, 0))), axis=1)
    return np.round((sums[:, steps:] - sums[:, :-steps]) / steps).astype(np.uint8)


def expose(image: Pixels, rng: np.random.Generator, *, gain: float) -> Pixels:
    """Too little or too much light, with a sensor's noise of two grey levels."""
    return np.clip(image * gain + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8)


def compress(image: Pixels, _rng: np.random.Generator, *, quality: int) -> Pixels:
    """As JPEG."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def shift(image: Pixels, rng: np.random.Generator, *, share: float) -> Pixels:
    """The camera turned by a share of the picture's side, in any direction; the edge is repeated."""
    angle = rng.uniform(0, 2 * np.pi)
    down, right = np.round(share * np.array(image.shape[:2]) * [np.sin(angle), np.cos(angle)]).astype(int).tolist()
    rows = np.clip(np.arange(len(image)) + down, 0, len(image) - 1)
    columns = np.clip(np.arange(image.shape[1]) + right, 0, image.shape[1] - 1)
    return image[rows][:, columns]


def nearer(image: Pixels, _rng: np.random.Generator, *, share: float) -> Pixels:
    """The middle of the picture, without a share of each side."""
    height, width = image.shape[:2]
    box = (share * width / 2, share * height / 2, width * (1 - share / 2), height * (1 - share / 2))
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box=box))


SPOILT: Mapping[str, Spoil] = {
    "as it is": lambda image, _rng: image,
    **{
        f"blurred, {100 * s:g} % of the side": partial(blur, share=s)
        for s in (0.01, 0.0134, 0.02, 0.0223, 0.03, 0.04, 0.06, 0.08, 0.1)
    },
    **{f"moved by {100 * s:g} %": partial(motion, share=s) for s in (0.03, 0.05, 0.067, 0.1, 0.2, 0.3)},
    **{f"light x {g:g}": partial(expose, gain=g) for g in (0.5, 0.3, 0.2, 0.1, 0.0, 2.0, 4.0, 16.0)},
}
COPIED: Mapping[str, Spoil] = {
    "the same": lambda image, _rng: image,
    "JPEG, quality 50": partial(compress, quality=50),
    "a tenth brighter": partial(expose, gain=1.1),
    **{f"shifted by {100 * s:g} %": partial(shift, share=s) for s in (0.01, 0.02, 0.05, 0.1, 0.2)},
    "shifted by 2 %, a tenth brighter, noise": lambda image, rng: expose(shift(image, rng, share=0.02), rng, gain=1.1),
    **{f"nearer by {100 * s:g} %": partial(nearer, share=s) for s in (0.02, 0.05, 0.1, 0.2)},
}


def pictures() -> dict[str, list[list[Pixels]]]:
    """Set -> class -> pictures, uint8 (H, W, 3) RGB."""
    settings = Settings.load("scenes", [f"model.image_size={SIZE}"])
    found = {}
    for name in SETS:
        drawn = load_set(name, "test", settings, PER_CLASS)
        for group, rows in drawn.groups.items():
            found[f"{name}, {group}" if len(drawn.groups) > 1 else name] = few(drawn.images[rows], drawn.labels[rows])
    found["emoji, still camera"] = still_camera()
    found["photographs"] = windows(WINDOWS, PHOTO)
    found["digits"] = few(*digits(SIZE), per_class=30)
    return found


def photographs(folder: Path) -> dict[str, list[list[Pixels]]]:
    """Some photographs of each class in a folder of one folder a class, as a network sees them."""
    preprocess, listing = Preprocess(PHOTO, RATIO, "bicubic"), labelled(folder)
    rng = np.random.default_rng(0)
    found = []
    for label in range(len(listing.class_names)):
        rows = rng.permutation(np.flatnonzero(listing.labels == label))[:PHOTOGRAPHS]
        found.append([preprocess(load_image(Path(listing.pictures[row]))) for row in rows])
    return {"photographs": found}


def still_camera() -> list[list[Pixels]]:
    """Drawn things, each in several places and turned a little, before one background: different shots that differ least."""
    drawings = compose.cached(compose.CACHE, emoji.__file__, lambda: emoji.gather(compose.CACHE))
    rng = np.random.default_rng(0)
    found = []
    for row in rng.permutation(len(drawings.pixels))[:CLASSES]:
        ground = compose.draw_background(rng, SIZE, SIZE)
        style = compose.Style(emoji.paint, lambda *_, fixed=ground: fixed)
        found.append([compose.draw_picture([drawings.pixels[row]], style, rng, SIZE) for _ in range(PER_CLASS)])
    return found


def few(images: Pixels, labels: NDArray[Any], per_class: int = PER_CLASS) -> list[list[Pixels]]:
    """Some pictures of some classes."""
    classes = np.random.default_rng(0).permutation(np.unique(labels))[:CLASSES]
    return [list(images[labels == label][:per_class]) for label in classes]


def refused(classes: Sequence[Sequence[Pixels]], spoil: Spoil) -> float:
    """Share of the pictures that are refused once they are spoilt."""
    rng = np.random.default_rng(0)
    return float(np.mean([judge(spoil(image, rng)) is not None for own in classes for image in own]))


def copies(classes: Sequence[Sequence[Pixels]], change: Spoil | None) -> float:
    """Share of pairs that count as copies: of pictures and the same changed, or without `change` of two of one class."""
    rng = np.random.default_rng(0)
    found: list[bool] = []
    for own in (each[:PER_CLASS] for each in classes):
        small = np.stack([thumbnail(image) for image in own])
        if change is None:
            found += [bool((difference(one, small[:number]) < COPY).any()) for number, one in enumerate(small) if number]
        else:
            changed = [thumbnail(change(image, rng)) for image in own]
            pairs = zip(changed, small, strict=True)
            found += [bool(difference(one, other[None])[0] < COPY) for one, other in pairs]
    return float(np.mean(found))


def taught(name: str, file: Path) -> dict[str, dict[str, str]]:
    """Accuracy after one picture a class: group -> how the pictures were spoilt -> as text."""
    checkpoint = Checkpoint.load(file)
    test = load_set(name, "test", checkpoint.settings)
    found: dict[str, dict[str, str]] = {}
    for group, rows in test.groups.items():
        some = few(test.images[rows], test.labels[rows], PER_CLASS + ASKED)
        images = np.concatenate([np.stack(own) for own in some])
        rng = np.random.default_rng(0)
        classes = np.stack([rng.choice(len(some), 5, replace=False) for _ in range(EPISODES)])
        first = classes[..., None] * (PER_CLASS + ASKED)
        support = first + rng.integers(0, PER_CLASS, first.shape)
        episodes = Episode(classes, support, first + np.arange(PER_CLASS, PER_CLASS + ASKED))
        shots = np.unique(support)
        query = encode(checkpoint.network, images, None).query
        plain = None
        for how, spoil in tqdm(SPOILT.items(), f"{name}, {group}", leave=False, disable=None):
            rng = np.random.default_rng(0)
            spoilt = query.copy()
            spoilt[shots] = encode(checkpoint.network, np.stack([spoil(images[i], rng) for i in shots]), None).query
            scores = episode_scores(Features(query, spoilt), episodes)
            plain = scores if plain is None else plain
            value = Accuracy.of(scores) if scores is plain else Difference.between(scores, plain)
            found.setdefault(f"{name}, {group}", {})[how] = str(value)
    return found


@click.command()
@click.option("--taught", "networks", nargs=2, multiple=True, metavar="SET CHECKPOINT", help="Teach this network, too.")
@click.option("--photographs", "folder", type=click.Path(path_type=Path), help="Judge these alone: FOLDER/<class>/.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures to a file, too.")
def main(networks: tuple[tuple[str, str], ...], folder: Path | None, json_file: Path | None) -> None:
    """Print what is refused."""
    for name, _ in networks:
        if name not in SETS:
            raise click.BadParameter(f"'{name}' is none of {', '.join(SETS)}", param_hint="--taught")
    sets = pictures() if folder is None else photographs(folder)
    judged = {how: {name: refused(classes, spoil) for name, classes in sets.items()} for how, spoil in SPOILT.items()}
    pairs: dict[str, Spoil | None] = {"two pictures of a class": None, **COPIED}
    same = {how: {name: copies(classes, change) for name, classes in sets.items()} for how, change in pairs.items()}
    for title, rows in (("refused as dark, overexposed, empty or blurred", judged), ("refused as copies", same)):
        click.echo(f"{title}, % of {', '.join(f'{sum(map(len, c))} ({n})' for n, c in sets.items())}\n")
        lines = [[how, *(f"{100 * row[name]:.1f}" for name in sets)] for how, row in rows.items()]
        click.echo(table(["", *sets], lines) + "\n")
    columns: dict[str, dict[str, str]] = {}
    for name, file in networks:
        columns |= taught(name, Path(file))
    if columns:
        click.echo(f"taught from one spoilt picture a class: accuracy, and differences to it, %, {EPISODES} episodes\n")
        click.echo(table(["", *columns], [[how, *(column[how] for column in columns.values())] for how in SPOILT]))
    if json_file:
        write_json(json_file, {"refused": judged, "copies": same, "taught": columns})


if __name__ == "__main__":
    main()
