"""Compares what an annotated video's frames take by the ways that there are to write them, in turn.

    python benchmarks/encode.py

Frames are 1280x720, and the same is drawn on them each way.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from sp_edge.columns import table
from sp_edge.data.scenes import draw_background, draw_object, split_classes
from sp_edge.matching.decide import match
from sp_edge_runtime.bench.timing import medians_ms
from sp_edge_runtime.prediction import Prediction
from sp_edge_runtime.sinks.overlay import annotate
from sp_edge_runtime.sinks.video import VideoSink
from sp_edge_runtime.sources.frames import VideoFrame
from sp_edge_runtime.streams.result import FrameResult

FRAMES, FPS, SIZE_WH = 50, 25.0, (1280, 720)


def filmed() -> list[FrameResult]:
    """A thing that passes before a wall, with a camera's noise."""
    rng, shown = np.random.default_rng(0), split_classes()["test"][0]
    found = match(np.array([0.8], np.float32), [shown.name], np.zeros(1, np.float32), temperature=0.2, sharpness=4)
    prediction = Prediction(**vars(found), class_index=0, speed={}, bank_version=1)
    wall, results = draw_background(rng, SIZE_WH[1], SIZE_WH[0]), []
    for number in range(FRAMES):
        scene = wall.copy()
        draw_object(scene, shown, (200 + 16 * number, 360), 120, 0.1 * number)
        image_rgb = np.clip(scene + rng.normal(0, 2, scene.shape), 0, 255).astype(np.uint8)
        results.append(FrameResult(VideoFrame(image_rgb, number, 0.0), prediction, 0.0, clock=number / FPS))
    return results


def by_opencv(path: Path, codec: str, results: Sequence[FrameResult]) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), FPS, SIZE_WH)
    for result in results:
        writer.write(cv2.cvtColor(annotate(result.frame.image_rgb, result.prediction), cv2.COLOR_RGB2BGR))
    writer.release()


def by_sink(path: Path, results: Sequence[FrameResult]) -> None:
    sink = VideoSink(path, FPS)
    for result in results:
        sink.write(result)
    sink.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="of each way; the median counts")
    asked = parser.parse_args()
    results = filmed()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ways: dict[str, tuple[Path, Callable[[], None]]] = {
            "OpenCV, MPEG-4": (a := folder / "a.mp4", partial(by_opencv, a, "mp4v", results)),
            "sp-edge, H.264": (b := folder / "b.mp4", partial(by_sink, b, results)),
            "OpenCV, VP8": (c := folder / "c.webm", partial(by_opencv, c, "VP80", results)),
            "sp-edge, VP9": (d := folder / "d.webm", partial(by_sink, d, results)),
        }
        taken = medians_ms({way: write for way, (_, write) in ways.items()}, asked.runs)
        rows = [[way, f"{taken[way] / FRAMES:.1f}", f"{path.stat().st_size / 1e6:.2f}"] for way, (path, _) in ways.items()]
    print(table(["way", "ms a frame", "MB"], rows))


if __name__ == "__main__":
    main()
