"""Teaches many classes into a file: one by one, and all in one step.

    python benchmarks/teach.py demo/runs/1/model.spedge

Each class has one drawn picture and one of the bundle's own prompts, so that no text encoder runs. Each way teaches into a new
file; it is timed as a whole, and both banks are compared.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from sp_edge.columns import table
from sp_edge_runtime import Recognizer

SIDE = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--classes", type=int, default=600)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    classes = {f"class {n}": [rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)] for n in range(options.classes)}
    seconds, found = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for way in ("one by one", "in one step"):
            file = Path(folder) / f"{way}.spbank"
            with Recognizer.load(options.bundle, bank=file, device="cpu") as recognizer:
                vectors = recognizer.bundle.prompts.vectors
                prompts = {name: vectors[n % len(vectors)] for n, name in enumerate(classes)}
                began = time.perf_counter()
                if way == "in one step":
                    recognizer.enroll_many(classes, prompts=prompts)
                else:
                    for name, images in classes.items():
                        recognizer.enroll(name, images, prompt=prompts[name])
                seconds[way] = time.perf_counter() - began
                found.append(recognizer.bank)
    one, other = found
    assert one.names == other.names  # noqa: S101 - a benchmark of two ways to the same bank
    assert np.array_equal(one.prototypes, other.prototypes)  # noqa: S101
    rows = [[way, f"{taken:.2f}", f"{1000 * taken / len(classes):.1f}"] for way, taken in seconds.items()]
    print(table([f"{len(classes)} classes", "seconds", "ms a class"], rows))


if __name__ == "__main__":
    main()
