"""Draws the video that the demo's stream watches: objects pass over a busy ground, one after another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sp_edge.data.scenes import SceneClass, draw_background, draw_object
from sp_edge.errors import SourceError
from sp_edge.files import atomic_file
from sp_edge_runtime.sources.opencv import opencv

SIDE = 320


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
    """Writes a video (H.264-free, MPEG-4 part 2 in .mp4) in which each shot's object drifts and turns.

    Returns:
        The name of what each frame shows.

    Raises:
        SourceError: this machine's OpenCV cannot write the file.
    """
    cv2 = opencv("drawing a video")
    truth: list[str] = []
    with atomic_file(path) as temporary:
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), fps, (SIDE, SIDE))
        if not writer.isOpened():
            raise SourceError(f"cannot write {path}", expected="an OpenCV that encodes mp4v", got=cv2.__version__)
        try:
            for number, shot in enumerate(shots):
                rng = np.random.default_rng([seed, number])
                ground = draw_background(rng, SIDE, SIDE)
                start, end = rng.uniform(0.35, 0.65, (2, 2)) * SIDE
                angle, turn = rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.3)
                radius = rng.uniform(0.2, 0.25) * SIDE
                for frame in range(shot.frames):
                    t = frame / max(1, shot.frames - 1)
                    canvas = ground + rng.normal(0, 3, (SIDE, SIDE, 1)).astype(np.float32)
                    x, y = start + (end - start) * t
                    draw_object(canvas, shot.what, (float(x), float(y)), radius, angle + turn * t)
                    image: NDArray[np.uint8] = np.clip(canvas, 0, 255).astype(np.uint8)
                    writer.write(np.ascontiguousarray(image[..., ::-1]))
                    truth.append(shot.what.name)
        finally:
            writer.release()
    return truth
