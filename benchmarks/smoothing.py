"""How much less a label flickers when it is smoothed, and how much later it comes.

    python benchmarks/smoothing.py demo/runs/1/model.spedge demo/camera.mp4

Recognizes a video with coarse noise on its frames, as from a camera in the dark whose picture was then compressed, and shows
what a person would see: label changes a minute, the share of frames that show what the video shows without noise and
smoothing, and the delay after which they do when that changes. Each row smooths the same labels.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from sp_edge.cli.arguments import bank_beside
from sp_edge.cli.shared import PATH
from sp_edge.columns import table
from sp_edge.files import write_json
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.sources.frames import VideoFrame
from sp_edge_runtime.streams.smoothing import Smoother, Smoothing

ROWS = {
    "each frame": Smoothing(0.0),
    "0.2 s": Smoothing(0.2),
    "0.3 s (default)": Smoothing(),
    "0.5 s": Smoothing(0.5),
    "0.5 s, no hysteresis": Smoothing(0.5, hysteresis=0.0),
    "1 s": Smoothing(1.0),
}


SQUARE = 8  # pixels: finer noise is gone when the frame has been made as small as the network wants it


def noisy(frame: VideoFrame, sigma: float, chance: np.random.Generator) -> NDArray[np.uint8]:
    """The frame, uint8 (H, W, 3) RGB, with Gaussian noise of so many grey levels in squares, other ones in each frame."""
    height, width = frame.image_rgb.shape[:2]
    coarse = chance.normal(0, sigma, (-(-height // SQUARE), -(-width // SQUARE), 3))
    fine = coarse.repeat(SQUARE, axis=0).repeat(SQUARE, axis=1)[:height, :width]
    return np.clip(frame.image_rgb + fine, 0, 255).astype(np.uint8)


def shown(frames: Sequence[VideoFrame], found: Sequence[tuple[str, float]], smoothing: Smoothing, stride: int) -> list[str]:
    """The smoothed label at each `stride`-th frame."""
    smoother, labels = Smoother(smoothing), []
    for frame, (label, confidence) in list(zip(frames, found, strict=True))[::stride]:
        smoothed = smoother.update(label, confidence, clock=frame.timestamp, timestamp=frame.timestamp, frame_id=frame.frame_id)
        labels.append(smoothed.label)
    return labels


def changes(labels: Sequence[str]) -> int:
    """How often a label follows another."""
    return sum(one != other for one, other in itertools.pairwise(labels))


def delays(times: Sequence[float], truth: Sequence[str], labels: Sequence[str]) -> list[float]:
    """Seconds from each change of the truth until it is shown; a truth that never is counts until its end."""
    found = []
    starts = [n for n in range(1, len(truth)) if truth[n] != truth[n - 1]]
    for start, end in itertools.pairwise([*starts, len(truth)]):
        at = next((n for n in range(start, end) if labels[n] == truth[start]), end - 1)
        found.append(times[at] - times[start])
    return found


@click.command()
@click.argument("bundle", type=PATH)
@click.argument("video")
@click.option("--bank", "bank_file", type=PATH, help="[default: classes.spbank beside the bundle]")
@click.option("--noise", default=(0.0, 30.0, 40.0), multiple=True, show_default=True, help="Standard deviation, of 255.")
@click.option("--stride", default=(1, 2), multiple=True, show_default=True, help="Every n-th frame, for the frame rate's part.")
@click.option("--json", "json_file", type=PATH, help="Write the figures to a file, too.")
def smoothing(
    bundle: Path, video: str, bank_file: Path | None, noise: Sequence[float], stride: Sequence[int], json_file: Path | None
) -> None:
    """Compare what is shown with and without smoothing."""
    with open_source(video) as source:
        frames = list(source)
    minutes = (frames[-1].timestamp - frames[0].timestamp) / 60
    with Recognizer.load(bundle, bank=bank_file or bank_beside(bundle)) as recognizer:
        truth = [recognizer.classify(frame.image_rgb).label for frame in frames]
        chance, rows = np.random.default_rng(0), []
        for sigma in noise:
            predictions = [recognizer.classify(noisy(frame, sigma, chance)) for frame in frames]
            found = [(prediction.label, prediction.confidence) for prediction in predictions]
            for every in stride:
                times, goal = [frame.timestamp for frame in frames[::every]], truth[::every]
                for name, options in ROWS.items():
                    labels = shown(frames, found, options, every)
                    row: dict[str, Any] = {
                        "noise": sigma,
                        "stride": every,
                        "smoothing": name,
                        "changes_a_minute": changes(labels) / minutes,
                        "right": float(np.mean([label == wanted for label, wanted in zip(labels, goal, strict=True)])),
                        "delay_s": statistics.median(delays(times, goal, labels) or [0.0]),
                    }
                    rows.append(row)
    click.echo(f"{len(frames)} frames, {changes(truth) / minutes:.0f} changes a minute without noise and smoothing")
    header = ["noise", "every", "smoothing", "changes a minute", "right %", "median delay s"]
    cells = [
        [
            *(f"{row['noise']:g}", row["stride"], row["smoothing"], f"{row['changes_a_minute']:.0f}"),
            *(f"{100 * row['right']:.1f}", f"{row['delay_s']:.2f}"),
        ]
        for row in rows
    ]
    click.echo(table(header, cells))
    if json_file:
        write_json(json_file, rows)


if __name__ == "__main__":
    smoothing()
