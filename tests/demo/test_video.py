from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from sp_edge.data.scenes import split_classes
from sp_edge.demo.video import SIDE, Pan, Shot, write_video
from sp_edge.photographs import photograph


def drawn(photo: np.ndarray, frames: int = 6, seed: int = 0) -> np.ndarray:
    return np.stack(list(Pan("it", photo, frames).drawn(np.random.default_rng(seed))))


def test_a_camera_moves_over_a_photograph() -> None:
    ramp = np.tile(np.linspace(40, 160, 384, dtype=np.float32)[None, :, None], (256, 1, 3)).astype(np.uint8)
    frames = drawn(ramp)
    assert frames.shape == (6, SIDE, SIDE, 3)
    assert frames.dtype == np.uint8
    profiles = frames.mean(axis=(1, 3))  # light across the picture
    assert np.abs(profiles[0] - profiles[5]).max() > 5  # it pans or adjusts to the light
    assert np.array_equal(frames, drawn(ramp))


def test_a_camera_never_looks_beyond_the_photograph() -> None:
    white = np.full((256, 300, 3), 200, np.uint8)
    for seed in range(20):
        frames = drawn(white, seed=seed)
        edge = np.concatenate([frames[:, 2].ravel(), frames[:, -3].ravel(), frames[:, :, 2].ravel(), frames[:, :, -3].ravel()])
        assert np.percentile(edge, 1) > 100  # what lies beyond would be black


def test_a_video_shows_one_shot_after_another(tmp_path: Path) -> None:
    look = split_classes()["test"][0]
    truth = write_video(tmp_path / "a.mp4", [Pan("cat", photograph("cat").read(), 3), Shot(look, 2)], fps=25.0)
    assert truth == ["cat"] * 3 + [look.name] * 2
    capture = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    read = 0
    while capture.read()[0]:
        read += 1
    capture.release()
    assert read == 5
