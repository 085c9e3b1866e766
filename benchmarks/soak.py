"""Streams for a long time at full speed while cameras fail, classes are taught and forgotten, and a web address is away.

    OPENBLAS_NUM_THREADS=1 python benchmarks/soak.py model.spedge --minutes 25 --json soak.json

Three cameras stand in by test://: one is lost after some hundred frames, again and again, one hangs, so that its process has
to be killed, and one is lost seldom. A webhook leads nowhere. Where mosquitto is installed, results go to a broker that is
there for half a minute and away for half a minute. Every few seconds a class is taught from the frame that is shown, and the
oldest one forgotten. Memory, threads, file descriptors and processes of this program are sampled, and a line is fitted to each
after the first fifth of the time; its slope is printed with a 95 % interval over blocks of samples, which are less dependent on
one another than the samples. Below stands in which kind of memory the program grew since then. Samples lie in an array that is
there from the start, so that they are no growth themselves.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import socket
import statistics
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from sp_edge.columns import table
from sp_edge.files import write_json
from sp_edge.processes import lasting
from sp_edge_runtime.bench.fresh import children
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.sinks.mqtt import MqttSink
from sp_edge_runtime.sinks.publisher import Publisher
from sp_edge_runtime.sinks.webhook import WebhookSink
from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.sources.options import SourceOptions
from sp_edge_runtime.streams.options import StreamOptions
from sp_edge_runtime.streams.result import StreamEvent
from sp_edge_runtime.streams.stream import results

SOURCES = ("test://?fail=400", "test://?hang=700", "test://?fail=1500")
AWAY = 30.0  # seconds that the broker is there, and away
KEPT = 8  # classes that the bank holds at most
BLOCKS = 10  # of samples, to which the line is fitted
QUANTITIES = ("memory_mib", "threads", "descriptors", "processes")
STEADY = 1 / 5  # of the time, before which nothing is fitted


@dataclass(frozen=True)
class Sample:
    """The program at one moment; memory is its own, processes are its children."""

    seconds: float
    memory_mib: float
    threads: int
    descriptors: int
    processes: int
    frames: int
    restarts: int
    enrolled: int


def sample(seconds: float) -> Sample:
    def told(file: str) -> dict[str, str]:
        return dict(line.split(":", 1) for line in Path("/proc/self", file).read_text().splitlines() if ":" in line)

    # VmRSS of `status` is a quarter of a MiB off: each core counts for itself.
    memory = int(told("smaps_rollup")["Rss"].split()[0]) / 1024
    threads = int(told("status")["Threads"])
    return Sample(seconds, memory, threads, len(os.listdir("/proc/self/fd")), len(children()), 0, 0, 0)  # noqa: PTH208


def memory_by_kind() -> Counter[str]:
    """Resident bytes of this program: the heap that grows at one end, other memory of its own, and files."""
    found: Counter[str] = Counter()
    kind = ""
    with Path("/proc/self/smaps").open(encoding="utf-8") as lines:
        for line in lines:
            first, *rest = line.split()
            if "-" in first:  # a range of addresses: rights, offset, device, inode, and what is there
                what = rest[4] if len(rest) > 4 else "anonymous"
                kind = what.strip("[]") if what.startswith("[") else "anonymous" if what == "anonymous" else "files"
            elif first == "Rss:":
                found[kind] += 1024 * int(rest[0])
    return found


class Broker:
    """mosquitto on loopback, which is killed and started again every AWAY seconds."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"mqtt://127.0.0.1:{port}/soak"
        self._command = ["mosquitto", "-p", str(port)]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._come_and_go)
        self._thread.start()

    def _come_and_go(self) -> None:
        while not self._over.wait(AWAY):
            with subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as broker:  # noqa: S603
                self._over.wait(AWAY)
                broker.kill()

    def close(self) -> None:
        self._over.set()
        self._thread.join()


def fitted(seconds: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """The slope of a line through the means of BLOCKS blocks, an hour, and half its 95 % interval."""
    x = np.array([block.mean() for block in np.array_split(seconds / 3600, BLOCKS)])
    y = np.array([block.mean() for block in np.array_split(values, BLOCKS)])
    centred = x - x.mean()
    slope = float(centred @ (y - y.mean()) / (centred @ centred))
    residual = y - y.mean() - slope * centred
    error = float(np.sqrt(residual @ residual / (BLOCKS - 2) / (centred @ centred)))
    return slope, 2.306 * error  # Student's t of 8 degrees of freedom


def soak(recognizer: Recognizer, minutes: float, every: float, rate: float) -> Iterator[Sample]:
    sources = [open_source(text, SourceOptions(rate=rate, wait=True)) for text in SOURCES]
    broker = Broker() if shutil.which("mosquitto") else None
    sinks: list[Publisher] = [WebhookSink("http://127.0.0.1:9/"), *([MqttSink(broker.address)] if broker else [])]
    names = itertools.cycle(recognizer.bundle.prompts.names[: 3 * KEPT])
    began = due = time.monotonic()
    frames = enrolled = 0
    try:

        def tell(event: StreamEvent) -> None:
            for sink in sinks:
                sink.event(event)

        with closing(results(recognizer, sources, StreamOptions(max_staleness=2.0), on_event=tell)) as found:
            for result in found:
                for sink in sinks:
                    sink.write(result)
                frames += 1
                now = time.monotonic() - began
                if time.monotonic() >= due:
                    due += every
                    if len(recognizer.bank.names) >= KEPT:
                        recognizer.forget(recognizer.bank.names[0])
                    image = result.frame.image_rgb
                    teacher = threading.Thread(target=recognizer.enroll, args=[next(names), [image]])
                    teacher.start()
                    teacher.join()
                    enrolled += 1
                    restarts = sum(source.restarts for source in sources)
                    yield replace(sample(now), frames=frames, restarts=restarts, enrolled=enrolled)
                if now > minutes * 60:
                    break
    finally:
        for sink in sinks:
            sink.close()
        if broker:
            broker.close()
        for source in sources:
            source.close()


def report(samples: list[Sample], before: Sample, after: Sample) -> dict[str, Any]:
    steady = [one for one in samples if one.seconds > samples[-1].seconds * STEADY]
    seconds = np.array([one.seconds for one in steady])
    rows, quantities = [], {}
    for name in QUANTITIES:
        values = np.array([getattr(one, name) for one in steady], float)
        slope, half = fitted(seconds, values)
        quantities[name] = {
            "before": getattr(before, name),
            "least": float(values.min()),
            "median": float(statistics.median(values)),
            "most": float(values.max()),
            "after": getattr(after, name),
            "slope_per_hour": slope,
            "half_interval": half,
            "grows": slope - half > 0,
        }
        shown = [f"{quantities[name][key]:.1f}" for key in ("before", "least", "median", "most", "after")]
        verdict = "grows" if slope - half > 0 else "flat"
        rows.append([name, *shown, f"{slope:+.2f} ± {half:.2f}", verdict])
    last = samples[-1]
    print(f"{last.seconds / 60:.1f} minutes, {last.frames} frames, {last.restarts} reconnects, {last.enrolled} enrollments")
    print(table(["", "before", "least", "median", "most", "after", "an hour", "verdict"], rows))
    return {"seconds": last.seconds, "frames": last.frames, "restarts": last.restarts, "enrolled": last.enrolled, **quantities}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between samples, and between enrollments")
    parser.add_argument("--rate", type=float, default=100.0, help="frames a second of each camera")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    lasting()  # as `sp-edge stream` does
    kept = np.zeros((int(60 * arguments.minutes / arguments.every) + 2, len(fields(Sample))))
    number, steady = 0, Counter[str]()
    with Recognizer.load(arguments.bundle, device="cpu") as recognizer:
        before = sample(0)
        for one in soak(recognizer, arguments.minutes, arguments.every, arguments.rate):
            kept[number] = astuple(one)
            number += 1
            if not steady and one.seconds > 60 * arguments.minutes * STEADY:
                steady = memory_by_kind()
            if number % 12 == 0:
                print(one, flush=True)
        grown = memory_by_kind()
        after = sample(kept[number - 1, 0])
    grown.subtract(steady)
    samples = [Sample(seconds, memory, *map(int, counts)) for seconds, memory, *counts in kept[:number].tolist()]
    figures = report(samples, before, after)
    figures["grown_mib"] = {kind: round(size / 2**20, 2) for kind, size in grown.most_common() if size}
    print("grown, MiB: " + ", ".join(f"{kind} {size:+.2f}" for kind, size in figures["grown_mib"].items()))
    if arguments.json:
        write_json(arguments.json, {**figures, "samples": [vars(one) for one in samples]})


if __name__ == "__main__":
    main()
