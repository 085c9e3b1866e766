"""Measures what the page costs the stream: no page, the page, four viewers, and a flood of small requests to recognize.

    OPENBLAS_NUM_THREADS=1 python benchmarks/page.py model.spedge --json page.json

The stream recognizes a looped video of the shipped photographs (640x480) at the rate of a camera (`--fps`), and as fast as it
can. The ways take turns in short runs, so that what else the machine does falls on all alike; each figure is the median of a
way's runs. `ms` is the processor time that a frame takes in the serving process, over all of its threads; other programs change
it little. Viewers and the flood run in a process of their own on the same machine: what they take counts against the page.
"""

from __future__ import annotations

import argparse
import http.client
import io
import multiprocessing
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from sp_edge.columns import table
from sp_edge.files import write_json
from sp_edge.photographs import photograph
from sp_edge_runtime.page.options import PageOptions
from sp_edge_runtime.page.server import serve
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.sources.frames import Source
from sp_edge_runtime.sources.options import SourceOptions
from sp_edge_runtime.sources.pyav import pyav
from sp_edge_runtime.streams.options import StreamOptions
from sp_edge_runtime.streams.stream import results

SCENES = ("coffee", "cat", "rocket", "flower")
SIZE_WH = (640, 480)
UNHURRIED = 10_000.0  # frames a second that nothing reaches
WAYS = ("no page", "page", "page, 4 viewers", "page, flood")


def write_video(path: Path) -> None:
    """A quarter of a minute of photographs, over which the camera wanders."""
    av = pyav("a benchmark")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = *SIZE_WH, "yuv420p", 4_000_000
        for scene in SCENES:
            image = Image.fromarray(photograph(scene).read())
            side = 0.75 * min(image.size)
            for angle in np.linspace(0, 2 * np.pi, 90, endpoint=False):
                left, top = (
                    (whole - side) * (1 + turn) / 2
                    for whole, turn in zip(image.size, (np.cos(angle), np.sin(angle)), strict=True)
                )
                seen = image.resize(SIZE_WH, box=(left, top, left + side, top + side))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(seen), "rgb24")))
        container.mux(stream.encode(None))


Rate = tuple[float, float]  # frames a second, and milliseconds of processor time a frame


def alone(recognizer: Recognizer, source: Source, options: StreamOptions, seconds: float) -> Rate:
    """Without a page."""
    count, began, used = 0, 0.0, 0.0
    with closing(results(recognizer, source, options)) as found:
        for number, _ in enumerate(found):
            now = time.perf_counter()
            if number == 5:  # the first are slower
                began, used = now, time.process_time()
            count = number - 5
            if number > 5 and now - began > seconds:
                break
    return count / (time.perf_counter() - began), (time.process_time() - used) * 1000 / count


def with_page(
    recognizer: Recognizer, source: Source, options: StreamOptions, seconds: float, beside: Callable[[str, float], Any] | None
) -> tuple[Rate, Any]:
    """With the page, while a process beside it does something; and what that one tells."""
    ready, found = threading.Event(), {}

    def opened(address: str, stop: Callable[[], None]) -> None:
        found.update(address=address, stop=stop)
        ready.set()

    thread = threading.Thread(
        target=serve, args=(recognizer, [source], PageOptions(port=0)), kwargs={"stream": options, "ready": opened}
    )
    thread.start()
    ready.wait()
    host = urlsplit(found["address"]).netloc
    told = None
    try:
        while frames(host) < 5:
            time.sleep(0.05)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            pool.apply(abs, (1,))  # it has started, which takes the machine for a while
            told = pool.apply_async(beside, (host, seconds + 1)) if beside else None
            time.sleep(0.5)
            first, began, used = frames(host), time.perf_counter(), time.process_time()
            time.sleep(seconds)
            count = frames(host) - first
            rate = count / (time.perf_counter() - began), (time.process_time() - used) * 1000 / max(count, 1)
            return rate, told and told.get()
    finally:
        found["stop"]()
        thread.join()


def frames(host: str) -> int:
    """How many the page has seen recognized."""
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    line = next((line for line in text.splitlines() if line.startswith("sp_edge_frames_total{")), "0 0")
    return int(float(line.rsplit(" ", 1)[1]))


def viewing(host: str, seconds: float) -> float:
    """Four viewers read the live view and the events, as a browser does; frames a second of one."""
    seen = [0] * 4

    def view(number: int) -> None:
        live, events = (http.client.HTTPConnection(host, timeout=30) for _ in range(2))
        live.request("GET", "/api/sources/0/live.mjpeg")
        events.request("GET", "/api/events")
        picture, told = live.getresponse(), events.getresponse()
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            head = [picture.readline() for _ in range(4)]
            picture.read(int(head[2].split(b":")[1]) + 2)
            told.read1(65536)
            seen[number] += 1
        live.close()
        events.close()

    threads = [threading.Thread(target=view, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statistics.mean(seen) / seconds


def flooding(host: str, seconds: float, rate: float = 1000.0) -> dict[str, float]:
    """Small pictures to recognize, so many a second as far as this machine makes them; how many were answered how."""
    file = io.BytesIO()
    Image.fromarray(photograph("cat").read()).resize((64, 64)).save(file, "JPEG")
    found: Counter[str] = Counter()
    until, workers = time.perf_counter() + seconds, 4

    def ask() -> None:
        connection = http.client.HTTPConnection(host, timeout=30)
        due = time.perf_counter()
        while (now := time.perf_counter()) < until:
            if now < due:
                time.sleep(due - now)
            due += workers / rate
            try:
                connection.request("POST", "/api/classify", file.getvalue(), {"Content-Type": "image/jpeg"})
                answer = connection.getresponse()
                answer.read()
                found[str(answer.status)] += 1
            except (OSError, http.client.HTTPException):
                found["no answer"] += 1
                connection.close()
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {status: count / seconds for status, count in found.items()}


def measured(recognizer: Recognizer, video: Path, fps: float | None, runs: int, seconds: float) -> dict[str, Any]:
    options = StreamOptions(max_fps=fps or UNHURRIED)
    rates: dict[str, list[Rate]] = {way: [] for way in WAYS}
    viewed, answered = [], []
    for _ in range(runs):
        for way in WAYS:
            with open_source(video, SourceOptions(loop=True)) as source:
                if way == "no page":
                    rates[way].append(alone(recognizer, source, options, seconds))
                    continue
                beside = {"page, 4 viewers": viewing, "page, flood": flooding}.get(way)
                rate, told = with_page(recognizer, source, options, seconds, beside)
                rates[way].append(rate)
                viewed += [told] if way == "page, 4 viewers" else []
                answered += [told] if way == "page, flood" else []
    medians = {way: statistics.median(rate for rate, _ in found) for way, found in rates.items()}
    taken = {way: statistics.median(ms for _, ms in found) for way, found in rates.items()}
    statuses = sorted({status for one in answered for status in one})
    return {
        "fps": medians,
        "cpu_ms": taken,
        "kept": {way: rate / medians["no page"] for way, rate in medians.items()},
        "viewer_fps": statistics.median(viewed),
        "requests_per_second": {status: statistics.median(one.get(status, 0.0) for one in answered) for status in statuses},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--fps", type=float, default=15.0, help="of the camera")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Recognizer.load(given.bundle, device="cpu") as recognizer:
        video = Path(folder) / "photographs.mp4"
        write_video(video)
        for name in SCENES[:2]:
            recognizer.enroll(name, photograph(name).read())
        found = {
            f"camera of {given.fps:g} frames a second": measured(recognizer, video, given.fps, given.runs, given.seconds),
            "as fast as it can": measured(recognizer, video, None, given.runs, given.seconds),
        }

    def shown(one: dict[str, Any], way: str) -> str:
        return f"{one['fps'][way]:.1f} ({100 * one['kept'][way]:.0f} %), {one['cpu_ms'][way]:.1f} ms"

    rows = [
        [kind, *(shown(one, way) for way in WAYS), f"{one['viewer_fps']:.1f}",
         ", ".join(f"{status}: {rate:.0f}" for status, rate in one["requests_per_second"].items())]
        for kind, one in found.items()
    ]  # fmt: skip
    print(table(["frames a second", *WAYS, "a viewer", "flood: answers a second"], rows))
    if given.json:
        write_json(given.json, found)


if __name__ == "__main__":
    main()
