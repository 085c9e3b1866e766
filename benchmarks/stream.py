"""Measures a stream on the CPU: camera to label, what the network takes of it, teaching, and banks of many classes.

    OPENBLAS_NUM_THREADS=1 python benchmarks/stream.py demo/runs/1/model.spedge --untrained --json stream.json

Every bundle is measured, and with `--untrained` visformer_tiny at 224 pixels, the network that users train, with random
weights: they change no time. The video (1280x720, the moving scenes of test://) is written first and read through OpenCV, as
any other. What is compared is timed in turn, each figure is a median, and each goal is a ratio of two of them, so that it hangs
on the machine as little as can be. `sp-edge stream` sets OPENBLAS_NUM_THREADS itself.
"""

from __future__ import annotations

import argparse
import itertools
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

from sp_edge.bank.bank import Bank
from sp_edge.columns import table
from sp_edge.files import write_json
from sp_edge.matching.decide import unit
from sp_edge_runtime.bench.timing import medians_ms
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.sources.opencv import opencv
from sp_edge_runtime.sources.scenes import scene
from sp_edge_runtime.streams.stream import results

SIZE_WH = (1280, 720)
STAGES = ("preprocess", "inference", "postprocess")
CLASSES = (10, 100, 1000, 10_000, 100_000)


def write_video(path: Path, frames: int) -> None:
    cv2 = opencv("a benchmark")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25.0, SIZE_WH)
    for number in range(frames):
        writer.write(cv2.cvtColor(scene(number, SIZE_WH), cv2.COLOR_RGB2BGR))
    writer.release()


def streaming(recognizer: Recognizer, video: Path) -> dict[str, float]:
    ages, stages, began = [], [], time.perf_counter()
    with open_source(str(video)) as source, closing(results(recognizer, source)) as found:
        for result in found:
            ages.append(result.age_ms)
            stages.append([result.capture_ms, *(result.prediction.speed[name] for name in STAGES)])
    seconds = time.perf_counter() - began
    p50, p95, p99 = np.percentile(ages, [50, 95, 99]).tolist()
    capture, *times = np.median(stages, axis=0).tolist()
    return {
        "frames": len(ages),
        "fps": len(ages) / seconds,
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "capture_ms": capture,
        **{f"{name}_ms": value for name, value in zip(STAGES, times, strict=True)},
        "network_share": float(np.sum([row[2] for row in stages]) / np.sum(ages)),
    }


def while_taught(recognizer: Recognizer, video: Path) -> dict[str, float]:
    """The same while another thread teaches a shot five times a second."""
    names, image, over = itertools.cycle(recognizer.bundle.prompts.names[:3]), scene(0, SIZE_WH), threading.Event()

    def teach() -> None:
        while not over.wait(0.2):
            recognizer.enroll(next(names), [image])

    teacher = threading.Thread(target=teach)
    teacher.start()
    try:
        return streaming(recognizer, video)
    finally:
        over.set()
        teacher.join()
        recognizer.replace_bank(Bank.empty(recognizer.bundle))


def teaching(recognizer: Recognizer, runs: int) -> dict[str, float]:
    """A shot: the query graph, the support graph, which an enrollment runs, and all of an enrollment."""
    name, image, empty = recognizer.bundle.prompts.names[0], scene(0, SIZE_WH), Bank.empty(recognizer.bundle)
    query = {"image": recognizer.bundle.manifest.preprocess(image)[None]}
    support = {**query, "prompt": recognizer.bundle.prompts.vector(name)[None]}
    actions: dict[str, Callable[[], object]] = {
        "network": lambda: recognizer.backend.run("query", query),
        "support_graph": lambda: recognizer.backend.run("support", support),
        "enroll": lambda: recognizer.enroll(name, [image]),
    }
    taken = medians_ms(actions, runs)
    recognizer.replace_bank(empty)
    ratios = {f"{name}_over_network": taken[name] / taken["network"] for name in ("support_graph", "enroll")}
    return {f"{name}_ms": value for name, value in taken.items()} | ratios


def until_labelled(recognizer: Recognizer, video: Path) -> int:
    """Frames from the return of `enroll` to the first that is labelled so; 1 is the next."""
    name = recognizer.bundle.prompts.names[0]
    recognizer.replace_bank(Bank.empty(recognizer.bundle))
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
            prototypes=np.asfortranarray(unit(random.normal(size=(count, dim)).astype(np.float32))),
            thresholds=np.full(count, 0.5, np.float32),
        )
        taken[count] = medians_ms({"matching": partial(head.matches, feature)}, runs)["matching"]
    return taken


def measure(bundle: Path, video: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of a bundle, printed as tables."""
    with Recognizer.load(bundle, device="cpu", precision=options.precision) as recognizer:
        taught = teaching(recognizer, options.runs)
        next_frame = until_labelled(recognizer, video)
        stream, disturbed = streaming(recognizer, video), while_taught(recognizer, video)
        matched = matching(recognizer, options.runs)
        title = f"{recognizer.bundle.manifest.preprocess.image_size} px, {recognizer.backend.description}"
    share = {count: taken / taught["network_ms"] for count, taken in matched.items()}
    enrollment = f"{taught['enroll_over_network']:.2f}x, its graph {taught['support_graph_over_network']:.2f}x"
    goals: list[tuple[str, str, str, bool]] = [
        ("share of the network", ">= 85 %", f"{stream['network_share']:.1%}", stream["network_share"] >= 0.85),
        ("preprocessing", "<= 1 ms", f"{stream['preprocess_ms']:.2f} ms", stream["preprocess_ms"] <= 1),
        ("enrollment of a shot", "< 2x the network", enrollment, taught["enroll_over_network"] < 2),
        ("first frame labelled so", "the next", str(next_frame), next_frame == 1),
        *((f"matching {n:,} classes", "<= 10 %", f"{share[n]:.1%}", share[n] <= 0.1) for n in CLASSES if n <= 10_000),
    ]
    rows = [[name, f"{value:.2f}", f"{disturbed[name]:.2f}"] for name, value in stream.items()]
    print(f"\n{title}")
    print(table(["stream", "", "while taught"], rows))
    print(table(["teaching", ""], [[name, f"{value:.2f}"] for name, value in taught.items()]))
    rows = [[f"{n:,}", f"{matched[n]:.3f}", f"{share[n]:.1%}"] for n in CLASSES]
    print(table(["classes", "matching ms", "of the network"], rows))
    print(table(["goal", "", "measured", ""], [[*row[:3], "met" if row[3] else "missed"] for row in goals]), flush=True)
    figures = {"stream": stream, "while_taught": disturbed, "teaching": taught, "matching_ms": matched}
    return {"network": title, **figures, "first_labelled": next_frame, "goals": {name: bool(met) for name, _, _, met in goals}}


def untrained_bundle(path: Path) -> Path:
    """visformer_tiny at 224 pixels, exported: takes minutes."""
    from untrained import untrained

    from sp_edge_export.export import ExportOptions, export

    export(untrained(), path, ExportOptions(pictures=60))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="*")
    parser.add_argument("--untrained", action="store_true", help="measure visformer_tiny with random weights, too")
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--precision", choices=["fp32", "fp16", "int8"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not options.bundles and not options.untrained:
        parser.error("nothing to measure: name a bundle, or --untrained")
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.mp4"
        write_video(video, options.frames)
        made = [untrained_bundle(Path(folder) / "untrained.spedge")] if options.untrained else []
        figures = [measure(bundle, video, options) for bundle in [*options.bundles, *made]]
    if options.json:
        write_json(options.json, figures)


if __name__ == "__main__":
    main()
