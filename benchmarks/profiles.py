"""Where the time around the network goes, and what the memory holds: shares of the processor's time, by profiles.

    OPENBLAS_NUM_THREADS=1 python benchmarks/profiles.py ready.spedge --json docs/measurements/profiles.json

They say why a goal of `benchmarks/stream.py` was missed. The processor's time of this process counts, not the clock, so that
other work changes little.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sp_edge.files import write_json
from sp_edge_runtime.bench.fresh import resident_mb

SIZE_WH = (1280, 720)
RUNS = 10
BUILT_IN = "~"  # as profiles call the file of what is not Python
FILTER = (BUILT_IN, "'resize' of 'ImagingCore'")


def shares(action: Callable[[], object], functions: dict[str, tuple[str, str]]) -> dict[str, float]:
    """Share of an action's time, in percent, that is spent in each of some functions and what they call.

    Args:
        action: is run several times, after once that does not count.
        functions: word -> end of the file's name, and the function's name, or what is in it where it is built in.
    """
    action()
    profile = cProfile.Profile(time.process_time)
    profile.enable()
    for _ in range(RUNS):
        action()
    profile.disable()
    stats = pstats.Stats(profile)
    spent = dict.fromkeys(functions, 0.0)
    for (path, _, name), (_, _, _, seconds, _) in stats.stats.items():  # type: ignore[attr-defined]
        for word, (file, function) in functions.items():
            if path.endswith(file) and (function in name if file == BUILT_IN else function == name):
                spent[word] += seconds
    return {word: 100 * seconds / stats.total_tt for word, seconds in spent.items()}  # type: ignore[attr-defined]


def stages(bundle: Path) -> dict[str, Any]:
    """What a process spends until its first label, of the processor's time in percent, and what its memory holds, MB."""
    seconds, memory = {}, {}

    def passed(what: str) -> None:
        seconds[what], memory[what] = time.process_time(), resident_mb()

    from sp_edge_runtime.recognizer import Recognizer

    passed("imports")
    from sp_edge.bundle.bundle import Bundle

    loaded = Bundle.load(bundle)
    assert loaded.fingerprint  # noqa: S101 - computed when first asked for
    passed("hashing")
    from sp_edge.bank.bank import Bank
    from sp_edge_runtime.backends.devices import open_backend
    from sp_edge_runtime.sources.scenes import scene

    backend = open_backend(loaded, "auto")
    passed("engine")
    recognizer = Recognizer(loaded, Bank.empty(loaded), backend)
    passed("metric")
    recognizer.classify(scene(0, SIZE_WH))
    passed("network")
    before = [0.0, *seconds.values()]
    spent = {what: end - begin for (what, end), begin in zip(seconds.items(), before, strict=False)}
    held = [0.0, *memory.values()]
    return {
        "start_percent": {what: 100 * value / seconds["network"] for what, value in spent.items()},
        "memory_mb": {what: end - begin for (what, end), begin in zip(memory.items(), held, strict=False)},
    }


def profiled(bundle: Path) -> dict[str, Any]:
    """All of them."""
    from decode import by_source
    from stream import write_video

    from sp_edge_runtime.recognizer import Recognizer
    from sp_edge_runtime.sources.scenes import scene

    frame = scene(0, SIZE_WH)
    with tempfile.TemporaryDirectory() as folder, Recognizer.load(bundle) as recognizer:
        video = Path(folder) / "video.mp4"
        write_video(video, 25)
        prompt = recognizer.bundle.golden().prompts[0]
        found = {
            "enroll": shares(
                partial(recognizer.enroll, "profile", [frame], prompt=prompt),
                {
                    "metric": ("metric.py", "of"),
                    "network": ("_runtime.py", "run"),
                    "filter": FILTER,
                    "jpeg": ("crops.py", "encode_crop"),
                },
            ),
            "preprocess": shares(partial(recognizer.bundle.manifest.preprocess, frame), {"filter": FILTER}),
            "decode": shares(
                partial(by_source, video),
                {"decoder": (BUILT_IN, "'decode' of 'av.packet"), "colors": (BUILT_IN, "'reformat' of 'av.video")},
            ),
        }
    command = [sys.executable, __file__, str(bundle), "--stages"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603
    return {**found, **json.loads(said)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--stages", action="store_true", help="only those of this very process, as JSON")
    options = parser.parse_args()
    if options.stages:
        print(json.dumps(stages(options.bundle)))
        return
    from sp_edge_runtime.bench.provenance import provenance  # not above: its imports are none of those that `stages` tells

    told = provenance(f"python benchmarks/profiles.py {options.bundle.name}")
    found = {what: {part: round(value) for part, value in parts.items()} for what, parts in profiled(options.bundle).items()}
    for what, parts in found.items():
        print(f"{what}: " + ", ".join(f"{part} {value}" for part, value in parts.items()))
    if options.json:
        write_json(options.json, {"schema": 1, **found, "provenance": told})


if __name__ == "__main__":
    main()
