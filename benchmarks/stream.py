"""Measures what is around the network: a stream from camera to label, teaching, banks of many classes, start and memory.

    OPENBLAS_NUM_THREADS=1 python benchmarks/stream.py ready.spedge --json docs/measurements/around.json

Every bundle is measured, and with `--untrained` visformer_tiny at 224 pixels, the network that users train, with random
weights: they change no time. The video (1280x720, the moving scenes of test://) is written first and read as any other. What is
compared is timed in turn, and each figure is a median. `sp-edge stream` sets OPENBLAS_NUM_THREADS itself.
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
from decode import by_opencv, by_source

from sp_edge.bank.bank import Bank
from sp_edge.columns import table
from sp_edge.files import write_json
from sp_edge.matching.decide import unit
from sp_edge_runtime.bench.figures import Figures
from sp_edge_runtime.bench.phases import TEST, Phases
from sp_edge_runtime.bench.provenance import provenance
from sp_edge_runtime.bench.timing import medians_ms
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.sources.pyav import pyav
from sp_edge_runtime.sources.scenes import scene
from sp_edge_runtime.streams.stream import results

SIZE_WH = (1280, 720)
STAGES = ("preprocess", "inference", "postprocess")
RATE = 30
CLASSES = (10, 100, 1000, 10_000, 100_000)


def write_video(path: Path, frames: int) -> None:
    """H.264 at 25 frames a second, with a camera's noise."""
    av, noise = pyav("a benchmark"), np.random.default_rng(0).normal(0, 2, (2, SIZE_WH[1], SIZE_WH[0], 1))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE_WH, "yuv420p"
        stream.options = {"preset": "veryfast"}
        for number in range(frames):
            image = np.clip(scene(number, SIZE_WH) + noise[number % 2], 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode(None))


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
    names, numbers, over = itertools.cycle(recognizer.bundle.prompts.names[:3]), itertools.count(), threading.Event()
    images = [scene(number, SIZE_WH) for number in range(3)]  # one for each class

    def teach() -> None:
        while not over.wait(0.2):
            recognizer.enroll(next(names), [images[next(numbers) % 3]])

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


def decoding(video: Path, runs: int) -> float:
    """How long reading a video takes over what OpenCV takes."""
    taken = medians_ms({"opencv": partial(by_opencv, video), "source": partial(by_source, video)}, runs)
    return taken["source"] / taken["opencv"]


def preprocessing(recognizer: Recognizer, runs: int) -> float:
    """Milliseconds from a frame to what the network takes, both in memory."""
    image = scene(0, SIZE_WH)
    return medians_ms({"preprocess": partial(recognizer.bundle.manifest.preprocess, image)}, runs)["preprocess"]


def starting(recognizer: Recognizer, device: tuple[str, str]) -> dict[str, Any]:
    """A fresh process, and a camera of 30 frames a second: `sp-edge bench`'s own turns, and the network's processor time."""
    bundle, figures = recognizer.bundle, Figures(*device, recognizer.backend.title, 1.0)
    image = {"image": bundle.golden().images[:1]}
    with tempfile.TemporaryDirectory() as folder:
        phases = Phases(
            bundle, [recognizer], [figures], folder=Path(folder), source=TEST, engines=None, meter=None
        )  # which enrolls classes of its own
        for _ in range(3):
            phases.camera(0)
            phases.fresh(0)
        recognizer.backend.run("query", image)
        before = time.process_time()
        for _ in range(RATE):
            recognizer.backend.run("query", image)
        network = time.process_time() - before  # of as many runs as a second has frames
    found = figures.to_json()
    return {
        "label_s": found["start_to_label_s"]["median"],
        "memory_mb": found["memory_mb"]["median"],
        "cpu_share": found["camera"]["cpu_share"],
        "cpu_over_network": found["camera"]["cpu_share"] / network * RATE / found["camera"]["fps"],
    }


def goals_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    """What was aimed at, what was measured, and whether it was met."""
    network, stream = found["teaching"]["network_ms"], found["stream"]
    around = (stream["p50_ms"] - stream["inference_ms"]) / stream["inference_ms"]
    matched = {count: 100 * found["matching_ms"][count] / network for count in (10_000, 100_000)}
    rows = [
        ("pipeline around the network, of its time", around, 0.35, ""),
        ("preprocessing of 1280x720", found["preprocess_ms"], 0.5, "ms"),
        ("decoding H.264, over OpenCV", found["decode_over_opencv"], 1.0, ""),
        ("enrollment of a shot, over the network", found["teaching"]["enroll_over_network"], 1.5, ""),
        ("95th percentile while taught, over that without", found["while_taught"]["p95_ms"] / stream["p95_ms"], 1.25, ""),
        ("matching 10,000 classes, of the network", matched[10_000], 5, "%"),
        ("matching 100,000 classes, of the network", matched[100_000], 25, "%"),
        ("process start to first label", found["start"]["label_s"], 0.7, "s"),
        ("memory of a stream", found["start"]["memory_mb"], 150, "MB"),
        ("processor at 30 frames a second, over the network's own", found["start"]["cpu_over_network"], 1.1, ""),
    ]
    return [
        {"what": what, "measured": float(value), "at_most": most, "unit": unit, "met": bool(value <= most)}
        for what, value, most, unit in rows
    ]


def measure(path: Path, video: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of a bundle, printed as tables."""
    with Recognizer.load(path, device=options.device, precision=options.precision) as recognizer:
        taught = teaching(recognizer, options.runs)
        next_frame = until_labelled(recognizer, video)
        stream, disturbed = streaming(recognizer, video), while_taught(recognizer, video)
        found: dict[str, Any] = {
            "title": f"{recognizer.bundle.manifest.preprocess.image_size} px, {recognizer.backend.title}",
            "stream": stream,
            "while_taught": disturbed,
            "teaching": taught,
            "matching_ms": matching(recognizer, options.runs),
            "preprocess_ms": preprocessing(recognizer, options.runs),
            "decode_over_opencv": decoding(video, 5),
            "first_labeled": next_frame,
            "start": starting(recognizer, (options.device, options.precision or "")),
        }
    found["goals"] = goals_of(found)
    rows = [[name, f"{value:.2f}", f"{disturbed[name]:.2f}"] for name, value in stream.items()]
    print(f"\n{found['title']}")
    print(table(["stream", "", "while taught"], rows))
    print(table(["teaching", ""], [[name, f"{value:.2f}"] for name, value in taught.items()]))
    print(table(["classes", "matching ms"], [[f"{n:,}", f"{ms:.3f}"] for n, ms in found["matching_ms"].items()]))
    rows = [
        [one["what"], f"{one['measured']:.3g} {one['unit']}", f"<= {one['at_most']:g}", "met" if one["met"] else "missed"]
        for one in found["goals"]
    ]
    print(table(["", "measured", "goal", ""], rows), flush=True)
    return found


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
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision")
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
        command = " ".join(["python benchmarks/stream.py", *(bundle.name for bundle in options.bundles)])
        write_json(options.json, {"schema": 1, "bundles": figures, "provenance": provenance(command)})


if __name__ == "__main__":
    main()
