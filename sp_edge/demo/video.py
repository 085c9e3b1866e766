"""Draws the video that the demo's stream watches: objects pass over a busy ground, one after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sp_edge.data.scenes import SceneClass, draw_background, draw_object
from sp_edge.files import atomic_file
from sp_edge_runtime.sources.pyav import pyav

SIDE = 320
BIT_RATE = 2_000_000


@dataclass(frozen=True)
class Shot:
    """A stretch of the video.

    Attributes:
        what: the object that is shown.
        frames: how long.
    """

    what: SceneClass
    frames: int


def draw_video(path: Path, shots: list[Shot], *, fps: float, seed: int = 0) -> list[str]:
    """Writes a video (MPEG-4 part 2, which every FFmpeg encodes) in which each shot's object drifts and turns.

    Returns:
        The name of what each frame shows.

    Raises:
        MissingExtraError: PyAV is not installed.
    """
    av = pyav("drawing a video")
    truth: list[str] = []
    with atomic_file(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(fps).limit_denominator(1000))
        stream.width = stream.height = SIDE
        stream.pix_fmt, stream.bit_rate = "yuv420p", BIT_RATE
        for number, shot in enumerate(shots):
            for image_rgb in _drawn(shot, np.random.default_rng([seed, number])):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image_rgb, "rgb24")))
                truth.append(shot.what.name)
        container.mux(stream.encode(None))
    return truth


def _drawn(shot: Shot, rng: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    """The frames of a shot: uint8 (SIDE, SIDE, 3) RGB."""
    ground = draw_background(rng, SIDE, SIDE)
    start, end = rng.uniform(0.35, 0.65, (2, 2)) * SIDE
    angle, turn = rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.3)
    radius = rng.uniform(0.2, 0.25) * SIDE
    for frame in range(shot.frames):
        t = frame / max(1, shot.frames - 1)
        canvas = ground + rng.normal(0, 3, (SIDE, SIDE, 1)).astype(np.float32)
        x, y = start + (end - start) * t
        draw_object(canvas, shot.what, (float(x), float(y)), radius, angle + turn * t)
        yield np.clip(canvas, 0, 255).astype(np.uint8)
