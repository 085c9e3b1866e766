"""Compares what a video's frames take by the ways that there are to read them, in turn.

    ffmpeg -f lavfi -i testsrc2=size=1280x720:rate=25:duration=4,noise=alls=6:allf=t -c:v libx264 -pix_fmt yuv420p hd.mp4
    python benchmarks/decode.py hd.mp4

Each way opens the file and makes every frame uint8 RGB. The goal is a ratio of at most 1.15 to OpenCV.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2

from sp_edge.columns import table
from sp_edge_runtime.bench.timing import medians_ms
from sp_edge_runtime.sources.recorded import VideoFileSource


def by_opencv(path: Path) -> int:
    capture, frames = cv2.VideoCapture(str(path)), 0
    while capture.grab():
        cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB)
        frames += 1
    capture.release()
    return frames


def by_source(path: Path) -> int:
    with VideoFileSource(path) as source:
        return sum(1 for _ in source)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--runs", type=int, default=11, help="of each way; the median counts")
    asked = parser.parse_args()
    ways = {"OpenCV": lambda: by_opencv(asked.video), "sp-edge (PyAV)": lambda: by_source(asked.video)}
    frames = {name: way() for name, way in ways.items()}
    taken = medians_ms(ways, asked.runs)
    rows = [[name, str(frames[name]), f"{ms / frames[name]:.2f}", f"{ms / taken['OpenCV']:.2f}"] for name, ms in taken.items()]
    print(table(["way", "frames", "ms a frame", "ratio"], rows))


if __name__ == "__main__":
    main()
