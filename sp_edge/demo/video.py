"""Writes the videos that the demo's streams watch: drawn objects that pass, and photographs that a camera moves over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sp_edge.data.scenes import SceneClass, draw_background, draw_object
from sp_edge.files import atomic_file
from sp_edge_runtime.sources.pyav import pyav

SIDE = 320
BIT_RATE = 2_000_000
ZOOM = (0.6, 0.95)  # side of what the camera sees, of the photograph's shorter side
TILT = 0.12  # largest, radians
LIGHT = (0.65, 1.25)

Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Shot:
    """A stretch of the video, in which one object drifts and turns over a busy ground.

    Attributes:
        what: the object that is shown.
        frames: how long.
    """

    what: SceneClass
    frames: int

    @property
    def name(self) -> str:
        """What each frame shows."""
        return self.what.name

    def drawn(self, rng: np.random.Generator) -> Iterator[Frame]:
        """The frames: uint8 (SIDE, SIDE, 3) RGB."""
        ground = draw_background(rng, SIDE, SIDE)
        start, end = rng.uniform(0.35, 0.65, (2, 2)) * SIDE
        angle, turn = rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.3)
        radius = rng.uniform(0.2, 0.25) * SIDE
        for frame in range(self.frames):
            t = frame / max(1, self.frames - 1)
            canvas = ground + rng.normal(0, 3, (SIDE, SIDE, 1)).astype(np.float32)
            x, y = start + (end - start) * t
            draw_object(canvas, self.what, (float(x), float(y)), radius, angle + turn * t)
            yield np.clip(canvas, 0, 255).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Pan:
    """A stretch of the video, in which a camera moves over a photograph: it pans, zooms, tilts and adjusts to the light.

    Attributes:
        name: what each frame shows.
        photo: uint8 (H, W, 3) RGB.
        frames: how long.
    """

    name: str
    photo: Frame
    frames: int

    def drawn(self, rng: np.random.Generator) -> Iterator[Frame]:
        """The frames: uint8 (SIDE, SIDE, 3) RGB."""
        size = np.array(self.photo.shape[1::-1])
        zoom, tilt, light = (rng.uniform(*span, 2) for span in (ZOOM, (-TILT, TILT), LIGHT))
        start, end = rng.uniform(0.35, 0.65, (2, 2)) * size
        photo = Image.fromarray(self.photo)
        for frame in range(self.frames):
            t = frame / max(1, self.frames - 1)
            side, angle, bright = (float(a + (b - a) * t) for a, b in (zoom, tilt, light))
            step = side * size.min() / SIDE * np.array([np.cos(angle), np.sin(angle)])  # in the photograph, of one pixel
            reach = np.minimum(np.abs(step).sum() * SIDE / 2, size / 2)
            middle = np.clip(start + (end - start) * t + rng.normal(0, 0.4, 2), reach, size - reach)  # the hand shakes
            (cos, sin), (x, y) = step.tolist(), middle.tolist()
            to_photo = (cos, -sin, x - (cos - sin) * SIDE / 2, sin, cos, y - (sin + cos) * SIDE / 2)
            seen = photo.transform((SIDE, SIDE), Image.Transform.AFFINE, to_photo, Image.Resampling.BICUBIC)
            lit = np.asarray(seen, dtype=np.float32) * bright + rng.normal(0, 3, (SIDE, SIDE, 1))
            yield np.clip(lit, 0, 255).astype(np.uint8)


def write_video(path: Path, shots: Iterable[Shot | Pan], *, fps: float, seed: int = 0) -> list[str]:
    """Writes a video (MPEG-4 part 2, which every FFmpeg encodes) of one shot after another.

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
            for image_rgb in shot.drawn(np.random.default_rng([seed, number])):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image_rgb, "rgb24")))
                truth.append(shot.name)
        container.mux(stream.encode(None))
    return truth
