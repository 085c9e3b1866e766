"""What is told of pictures whose thing is not looked at, and of gray ones; what fits and gray copies of shots are worth.

    python benchmarks/view.py grocery/train --bundle ready.spedge

Photographs of a folder of classes are cut to usual shapes around their middle, where the thing is: how many are refused as
'outside' is the false alarms. To see what is found, the middle of one photograph is laid onto another, at the side or in the
middle of a wide picture, with the other as it is, out of focus, or as a plain wall. Gray pictures are the same ones without
color, as JPEG and as H.264, with a sensor's noise. With `--bundle`, 5-way 1-shot episodes of plain prototypes say what other
fits give, and what gray pictures lose where shots were taught in color, in gray, or as both.

Shapes, laid pictures and gray are measured on the second half of the photographs, episodes on all of them. The limits of
`sp_edge.bank.quality` were chosen on the first half, but figures of the second were seen meanwhile: only photographs of another
folder have not been looked at.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import av
import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from sp_edge.accuracy import Accuracy, Difference
from sp_edge.bank.gray import GRAY, chroma
from sp_edge.bank.quality import OUTSIDE, judge, outside
from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.manifest import OUTPUTS
from sp_edge.columns import table
from sp_edge.data.folder import labelled
from sp_edge.matching.decide import unit
from sp_edge.photographs import photographs as shipped
from sp_edge.pictures import load_image
from sp_edge.preprocess import Preprocess
from sp_edge.view import WHOLE, View
from sp_edge_export.verify import open_session, run_in_batches

Pixels = NDArray[np.uint8]
Features = NDArray[np.float32]

CUT = Preprocess(224, 1 / 0.875, "bicubic")  # as ready-made networks cut pictures
SHAPES = {"1:1": 1.0, "4:3": 4 / 3, "16:9": 16 / 9, "3:4": 3 / 4, "9:16": 9 / 16}
WIDE = (640, 360)  # pixels of the pictures that are laid together
LAID = 100  # of each kind
PER_CLASS, WAYS, EPISODES = 12, 5, 600  # pictures of a class that take part in episodes
SHRUNK, FEW = (32, 48, 64, 96), 4  # pixels of the shorter side, and pictures of a class that are shrunk


def shaped(image: Pixels, ratio: float) -> Pixels:
    """The largest middle part of a picture whose width is `ratio` times its height."""
    height, width = image.shape[:2]
    inner = min(width, round(height * ratio)), min(height, round(width / ratio))
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    return image[top : top + inner[1], left : left + inner[0]]


def beside(image: Pixels) -> float:
    """What `outside` says of a picture as a ready-made network sees it."""
    height, width = image.shape[:2]
    return outside(image, CUT.seen(height, width))


def laid(thing: Pixels, ground: Pixels, side: int, rng: np.random.Generator, *, middle: bool) -> Pixels:
    """The middle of one picture as a disc on another, in the middle or at the left or right end."""
    wide = np.asarray(Image.fromarray(ground).resize(WIDE)).copy()
    disc = np.asarray(Image.fromarray(shaped(thing, 1)).resize((side, side)))
    x = (WIDE[0] - side) // 2 if middle else int(rng.choice([10, WIDE[0] - side - 10]))
    y = (WIDE[1] - side) // 2 + int(rng.integers(-30, 31))
    rows, columns = np.mgrid[:side, :side]
    inside = np.hypot(rows - side / 2, columns - side / 2) < side / 2
    wide[y : y + side, x : x + side][inside] = disc[inside]
    return wide


def wall(image: Pixels, rng: np.random.Generator) -> Pixels:
    """A picture's mean color, a little brighter to one side, with noise."""
    ramp = np.linspace(-20, 20, image.shape[1])[None, :, None]
    return np.clip(image.mean(axis=(0, 1)) + ramp + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8)


def soft(image: Pixels, share: float) -> Pixels:
    """Out of focus: a Gaussian of a share of the shorter side."""
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(share * min(image.shape[:2]))))


GROUNDS: Mapping[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
    "a plain wall": wall,
    "blurred by 4 % of its side": lambda image, _: soft(image, 0.04),
    "blurred by 1 %": lambda image, _: soft(image, 0.01),
    "as sharp as the thing": lambda image, _: image,
}


def without_color(image: Pixels, noise: float = 0, rng: np.random.Generator | None = None) -> Pixels:
    """A picture in gray, with noise of its own in every channel."""
    gray = np.repeat(np.asarray(Image.fromarray(image).convert("L"))[..., None], 3, axis=2)
    return gray if rng is None else np.clip(gray + rng.normal(0, noise, gray.shape), 0, 255).astype(np.uint8)


def jpeg(image: Pixels, quality: int) -> Pixels:
    """As JPEG."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def filmed(images: Sequence[Pixels], crf: int) -> list[Pixels]:
    """As frames of an H.264 video of 320 x 240 pixels."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": str(crf)})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for image in images:
            frame = av.VideoFrame.from_ndarray(np.asarray(Image.fromarray(image).resize((320, 240))), "rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    file.seek(0)
    with av.open(file) as read:
        return [frame.to_ndarray(format="rgb24") for frame in read.decode(video=0)]


def share(found: Sequence[bool]) -> str:
    """In percent."""
    return f"{100 * np.mean(found):.1f}"


def shrunk(image: Pixels, pixels: int) -> Pixels:
    """A picture with so many pixels in its shorter side."""
    height, width = image.shape[:2]
    scale = pixels / min(height, width)
    return np.asarray(Image.fromarray(image).resize((round(width * scale), round(height * scale)), Image.Resampling.BOX))


def told_outside(images: Sequence[Pixels]) -> list[list[str]]:
    """Rows: a kind of picture, what is refused as 'outside'."""
    rows = [
        [f"photographs, {name}", share([beside(shaped(image, ratio)) > OUTSIDE for image in images])]
        for name, ratio in SHAPES.items()
    ]
    for name, ground in GROUNDS.items():
        for middle in (True, False):
            rng = np.random.default_rng(0)
            found = []
            for _ in range(LAID):
                thing, other = (images[row] for row in rng.choice(len(images), 2, replace=False))
                side = int(rng.integers(100, 181))
                found.append(beside(laid(thing, ground(other, rng), side, rng, middle=middle)) > OUTSIDE)
            rows.append([f"a thing {'in the middle' if middle else 'at the side'}, before what is {name}", share(found)])
    return rows


def told_gray(images: Sequence[Pixels]) -> list[list[str]]:
    """Rows: a kind of picture, what counts as gray, the least and the greatest chroma."""
    some, rng = images[:LAID], np.random.default_rng(0)
    grays = [without_color(image) for image in some]
    kinds = {
        "photographs": images,
        "photographs, JPEG quality 30": [jpeg(image, 30) for image in some],
        "photographs, H.264 crf 38": filmed(some, 38),
        "gray, JPEG quality 95": [jpeg(image, 95) for image in grays],
        "gray, JPEG quality 30": [jpeg(image, 30) for image in grays],
        "gray, H.264 crf 38": filmed(grays, 38),
        "gray, noise of 2 levels a channel": [without_color(image, 2, rng) for image in some],
        "gray, noise of 4 levels a channel, JPEG quality 75": [jpeg(without_color(image, 4, rng), 75) for image in some],
        "gray, red 5 levels brighter": [np.clip(image + np.array([5, 0, 0]), 0, 255).astype(np.uint8) for image in grays],
    }
    found = {kind: [chroma(image) for image in shown] for kind, shown in kinds.items()}
    return [[kind, share([each <= GRAY for each in own]), f"{min(own):.0f}", f"{max(own):.0f}"] for kind, own in found.items()]


def encode(bundle: Bundle, prepared: Sequence[Pixels]) -> Features:
    """Features of the query graph, of length one: float32 (n, D)."""
    session = open_session(bundle.read_graph("query"), "query.onnx", OUTPUTS["query"])
    (found,) = run_in_batches(session, {"image": np.stack(prepared)})
    return unit(found)


def scores(shots: Features, asked: Features, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Accuracy of each 5-way 1-shot episode by the nearest prototype; the rows of `shots` may be means of several."""
    rng = np.random.default_rng(0)
    classes = np.unique(labels)
    found = []
    for _ in range(EPISODES):
        picked = [rng.permutation(np.flatnonzero(labels == one)) for one in rng.choice(classes, WAYS, replace=False)]
        prototypes = unit(shots[[rows[0] for rows in picked]])
        queries = np.concatenate([rows[1:] for rows in picked])
        truth = np.repeat(np.arange(WAYS), [len(rows) - 1 for rows in picked])
        found.append(float(((asked[queries] @ prototypes.T).argmax(axis=1) == truth).mean()))
    return np.array(found)


def worth(bundle: Bundle, images: Sequence[Pixels], labels: NDArray[np.int64]) -> list[list[str]]:
    """Rows: how shots are taught and queries seen, the accuracy of each, or the difference to the row's first."""
    preprocess = bundle.manifest.preprocess
    views = {"crop": WHOLE, "squash": View(fit="squash"), "pad": View(fit="pad")}
    fitted = {name: encode(bundle, [preprocess(image, view) for image in images]) for name, view in views.items()}
    color = fitted["crop"]
    gray = encode(bundle, [preprocess(without_color(image)) for image in images])
    base = scores(color, color, labels)
    rows = [["crop, color", str(Accuracy.of(base))]]
    rows += [
        [f"{name}, color", str(Difference.between(scores(own, own, labels), base))]
        for name, own in fitted.items()
        if name != "crop"
    ]
    for taught, shots in (("color", color), ("gray", gray), ("both", unit(color + gray))):
        for asked, queries in (("color", color), ("gray", gray)):
            if (taught, asked) != ("color", "color"):
                rows.append(
                    [f"taught in {taught}, asked in {asked}", str(Difference.between(scores(shots, queries, labels), base))]
                )
    return rows


def small(bundle: Bundle, images: Sequence[Pixels], labels: NDArray[np.int64]) -> list[list[str]]:
    """Rows: from how small pictures was taught, the share that is refused as blurred, the difference to whole ones."""
    preprocess = bundle.manifest.preprocess
    whole = encode(bundle, [preprocess(image) for image in images])
    base = scores(whole, whole, labels)
    rows = [["all pixels", "", str(Accuracy.of(base))]]
    for pixels in SHRUNK:
        prepared = [preprocess(shrunk(image, pixels)) for image in images]
        blurred = share([judge(one) is not None for one in prepared])
        found = Difference.between(scores(encode(bundle, prepared), whole, labels), base)
        rows.append([f"{pixels} pixels", blurred, str(found)])
    return rows


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--bundle", "bundle_path", type=click.Path(path_type=Path, exists=True), help="Measure what fits and gray shots are worth."
)
def main(folder: Path, bundle_path: Path | None) -> None:
    """Print the tables."""
    listing = labelled(folder)
    rng = np.random.default_rng(0)
    rows = [rng.permutation(np.flatnonzero(listing.labels == label))[:PER_CLASS] for label in range(len(listing.class_names))]
    second = np.concatenate([own[1::2] for own in rows])
    images = [load_image(Path(listing.pictures[row])) for row in second]
    click.echo(f"refused as 'outside', %, of {len(images)} photographs or {LAID} pictures\n")
    click.echo(table(["", "refused"], told_outside(images)) + "\n")
    own = [image for image in (one.read() for one in shipped()) if chroma(image) > 0]
    click.echo(f"counted as gray, %, and the least and the greatest chroma, of {len(images) + len(own)} or {LAID} pictures\n")
    click.echo(table(["", "gray", "least", "greatest"], told_gray([*images, *own])) + "\n")
    if bundle_path is not None:
        every = np.concatenate(rows)
        shown = [load_image(Path(listing.pictures[row])) for row in every]
        click.echo(
            f"{WAYS}-way 1-shot, {EPISODES} episodes, %: of the first row the accuracy, of the others the difference to it\n"
        )
        click.echo(table(["", "accuracy"], worth(Bundle.load(bundle_path), shown, listing.labels[every])))

        first = np.concatenate([np.arange(len(own)) < FEW for own in rows])
        click.echo(f"\ntaught from small pictures, {WAYS}-way 1-shot: refused as blurred, %, and accuracy or difference\n")
        few = [image for image, kept in zip(shown, first.tolist(), strict=True) if kept]
        click.echo(table(["", "refused", "accuracy"], small(Bundle.load(bundle_path), few, listing.labels[every[first]])))


if __name__ == "__main__":
    main()
