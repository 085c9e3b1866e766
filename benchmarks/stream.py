"""Measures a stream on the CPU: camera to label, what the network takes of it, teaching, and banks of many classes.

    python benchmarks/stream.py model.spedge --json stream.json

The video (1280x720, the moving scenes of test://) is written first and read through OpenCV, as any other. Times are taken one
after the other on one machine; each goal is a ratio of two of them, so that it hangs on the machine as little as can be.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sp_edge.bank import Bank
from sp_edge.cli.common import table
from sp_edge.files import write_json
from sp_edge.matching import unit
from sp_edge_runtime.camera import open_source
from sp_edge_runtime.opencv import opencv
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.scenes import scene
from sp_edge_runtime.stream import results

SIZE_WH = (1280, 720)
NETWORK = ("preprocess", "inference", "postprocess")
CLASSES = (10, 100, 1000, 10_000, 100_000)


def write_video(path: Path, frames: int) -> None:
    cv2 = opencv("a benchmark")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25.0, SIZE_WH)
    for number in range(frames):
        writer.write(cv2.cvtColor(scene(number, SIZE_WH), cv2.COLOR_RGB2BGR))
    writer.release()


def median_ms(action: Callable[[], object], runs: int) -> float:
    action()  # the first time is another
    taken = []
    for _ in range(runs):
        started = time.perf_counter()
        action()
        taken.append((time.perf_counter() - started) * 1000)
    return statistics.median(taken)


def streaming(recognizer: Recognizer, video: Path) -> dict[str, float]:
    ages, stages, began = [], [], time.perf_counter()
    with open_source(str(video)) as source, closing(results(recognizer, source)) as found:
        for result in found:
            ages.append(result.age_ms)
            stages.append(
                [result.capture_ms, *(result.prediction.speed[name] for name in ("preprocess", "inference", "postprocess"))]
            )
    seconds = time.perf_counter() - began
    capture, preprocess, inference, postprocess = np.median(stages, axis=0)
    p50, p95, p99 = np.percentile(ages, [50, 95, 99])
    return {
        "frames": len(ages),
        "fps": len(ages) / seconds,
        "p50_ms": float(p50),
        "p95_ms": float(p95),
        "p99_ms": float(p99),
        "capture_ms": float(capture),
        "preprocess_ms": float(preprocess),
        "inference_ms": float(inference),
        "postprocess_ms": float(postprocess),
        "network_share": float(np.sum([row[2] for row in stages]) / np.sum(ages)),
    }


def teaching(recognizer: Recognizer, runs: int) -> dict[str, float]:
    names, image = itertools.cycle(recognizer.bundle.prompts.names[:3]), scene(0, SIZE_WH)
    prepared = recognizer.bundle.manifest.preprocess(image)[None]
    network = median_ms(lambda: recognizer.backend.run("query", {"image": prepared}), runs)

    taken = []
    for _ in range(runs):
        recognizer.bank = Bank.empty(recognizer.bundle)
        started = time.perf_counter()
        recognizer.enroll(next(names), [image])
        taken.append((time.perf_counter() - started) * 1000)
    each = statistics.median(taken)
    recognizer.bank = Bank.empty(recognizer.bundle)
    return {"network_ms": network, "enroll_ms": each, "enroll_over_network": each / network}


def until_labelled(recognizer: Recognizer, video: Path) -> int:
    """Frames from the return of 'enrol' to the first that is labelled so; 1 is the next."""
    name = recognizer.bundle.prompts.names[0]
    recognizer.bank = Bank.empty(recognizer.bundle)
    waited = 0
    with open_source(str(video)) as source, closing(results(recognizer, source)) as found:
        for number, result in enumerate(found):
            if waited:
                if result.prediction.label == name:
                    return waited
                waited += 1
            elif number == 10:
                teacher = threading.Thread(target=recognizer.enroll, args=[name, [result.frame.image_rgb]])
                teacher.start()
                teacher.join()
                waited = 1
    return -1


def matching(recognizer: Recognizer, runs: int) -> dict[int, float]:
    """Milliseconds to match one feature with so many classes."""
    random, dim = np.random.default_rng(0), recognizer.bundle.manifest.feature_dim
    feature = random.normal(size=(1, dim)).astype(np.float32)
    taken = {}
    for count in CLASSES:
        head = replace(
            recognizer.head,
            names=tuple(map(str, range(count))),
            prototypes=unit(random.normal(size=(count, dim)).astype(np.float32)),
            thresholds=np.full(count, 0.5, np.float32),
        )
        taken[count] = median_ms(partial(head.matches, feature), runs)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--precision", choices=["fp32", "fp16", "int8"])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.mp4"
        write_video(video, arguments.frames)
        with Recognizer.load(arguments.bundle, device="cpu", precision=arguments.precision) as recognizer:
            taught = teaching(recognizer, arguments.runs)
            next_frame = until_labelled(recognizer, video)
            stream = streaming(recognizer, video)
            matched = matching(recognizer, arguments.runs)
    share = {count: taken / taught["network_ms"] for count, taken in matched.items()}
    goals: list[tuple[str, str, str, bool]] = [
        ("share of the network", ">= 85 %", f"{stream['network_share']:.1%}", stream["network_share"] >= 0.85),
        ("preprocessing", "<= 1 ms", f"{stream['preprocess_ms']:.2f} ms", stream["preprocess_ms"] <= 1),
        ("enrolment a shot", "< 2x the network", f"{taught['enroll_over_network']:.2f}x", taught["enroll_over_network"] < 2),
        ("first frame labelled so", "the next", str(next_frame), next_frame == 1),
        *((f"matching {n:,} classes", "<= 10 %", f"{share[n]:.1%}", share[n] <= 0.1) for n in CLASSES if n <= 10_000),
    ]
    print(f"{recognizer.bundle.manifest.preprocess.image_size} px, {recognizer.backend.description}")
    print(table(["stream", ""], [[name, f"{value:.2f}"] for name, value in stream.items()]))
    print(table(["teaching", ""], [[name, f"{value:.2f}"] for name, value in taught.items()]))
    print(
        table(
            ["classes", "matching ms", "of the network"], [[f"{n:,}", f"{matched[n]:.3f}", f"{share[n]:.1%}"] for n in CLASSES]
        )
    )
    print(table(["goal", "", "measured", ""], [[*row[:3], "met" if row[3] else "missed"] for row in goals]))
    if arguments.json:
        figures: dict[str, Any] = {"stream": stream, "teaching": taught, "matching_ms": matched, "first_labelled": next_frame}
        write_json(arguments.json, {**figures, "goals": {name: bool(met) for name, _, _, met in goals}})


if __name__ == "__main__":
    main()
