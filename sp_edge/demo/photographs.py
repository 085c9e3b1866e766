"""The demo's first half: a ready-made network learns real photographs by their names, and sees them again as a camera moves."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge import runs
from sp_edge.demo.clock import Clock
from sp_edge.demo.report_photographs import Asked, NamedPlace, PhotographStory
from sp_edge.demo.video import Pan, write_video
from sp_edge.demo.watch import FPS, film, watch
from sp_edge.model.ready.registry import DEFAULT
from sp_edge.photographs import photograph
from sp_edge_export.ready import ReadyOptions, make_ready
from sp_edge_runtime.recognizer import Recognizer

_log = logging.getLogger(__name__)
VIDEO = "stream.webm"
RESULTS = "results.jsonl"
TAUGHT = {
    "cat": "cat",
    "coffee cup": "coffee",
    "flower": "flower",
    "rocket": "rocket",
    "temple": "temple",
}  # name -> photograph
STRANGERS = ("raccoon", "photographer")
# One photograph that shows two things, and a square around each: left, top, side.
BOTH = "astronaut"
PARTS = {"space shuttle": (96, 0, 160), "helmet": (86, 96, 160)}


def show_photographs(out: Path, clock: Clock, *, frames: int) -> tuple[PhotographStory, dict[str, Any]]:
    """Makes the network, teaches, recognizes.

    Args:
        out: folder for the bundle, the bank, the videos and the results.
        clock: keeps the time of each step.
        frames: of each photograph in the moving picture.

    Returns:
        What a report shows, and the same in figures and paths for summary.json.
    """
    out.mkdir(exist_ok=True)
    (out / runs.BANK).unlink(missing_ok=True)  # an earlier demo's, of another bundle
    with clock("ready-made network"):
        bundle = make_ready(DEFAULT, out / runs.BUNDLE, ReadyOptions())
    with Recognizer.load(bundle.path) as recognizer:
        with clock("enroll photographs"):
            taught = [teach(recognizer, name, photograph(file).read()) for name, file in TAUGHT.items()]
            recognizer.save(out / runs.BANK)
        with clock("stream of photographs"):
            results, figures = watch_photographs(recognizer, out, frames=frames)
    with Recognizer.load(bundle.path) as recognizer:
        pair, asked = name_both(recognizer)
    story = PhotographStory(
        model=DEFAULT,
        taught=taught,
        pair=pair,
        asked=asked,
        figures=figures,
        film=film(results, len(TAUGHT) + len(STRANGERS)),
        video=out / VIDEO,
        shown=[photograph(file) for file in (*TAUGHT.values(), *STRANGERS, BOTH)],
    )
    summary = {
        "model": DEFAULT,
        "bundle": str(bundle.path),
        "bank": str(out / runs.BANK),
        "video": str(out / VIDEO),
        "results": str(out / RESULTS),
        "stream": figures,
        "pair": [
            {"shows": one.truth, "label": one.label, "share": dict(one.share), "place": place.place}
            for one, place in zip(asked, pair, strict=True)
        ],
    }
    return story, summary


def teach(recognizer: Recognizer, name: str, image: NDArray[np.uint8]) -> NamedPlace:
    """Teaches a class by its name and one picture, uint8 (H, W, 3) RGB, and tells which place the name found in it."""
    recognizer.enroll(name, [image])
    _log.info(f"taught '{name}' from a photograph")
    return NamedPlace(name, recognizer.look(image, name))


def watch_photographs(recognizer: Recognizer, out: Path, *, frames: int) -> tuple[list[Any], dict[str, Any]]:
    """Moves a camera over the taught photographs and over two others, and recognizes every frame of the file."""
    files = {file: name for name, file in TAUGHT.items()}
    order = ["cat", "coffee", STRANGERS[0], "flower", "temple", STRANGERS[1], "rocket"]
    shots = [Pan(files.get(file, file), photograph(file).read(), frames) for file in order]
    truth = write_video(out / "camera.mp4", shots, fps=FPS)
    return watch(recognizer, out / "camera.mp4", truth, out / RESULTS, out / VIDEO)


def name_both(recognizer: Recognizer) -> tuple[list[NamedPlace], list[Asked]]:
    """Teaches one photograph under two names, and asks about the parts that the names mean."""
    whole = photograph(BOTH).read()
    pair = [teach(recognizer, name, whole) for name in PARTS]
    asked = []
    for name, (left, top, side) in PARTS.items():
        part = whole[top : top + side, left : left + side]
        found = recognizer.classify(part)
        asked.append(Asked(part, name, found.label, dict(found.top)))
    for one in asked:
        _log.info(f"of one photograph, the {one.truth} is taken for: {one.label}")
    return pair, asked
