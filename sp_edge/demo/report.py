"""Writes the demo's report: one HTML page that carries its pictures, its plots and the video."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.demo import plots
from sp_edge.files import write_bytes

Picture = NDArray[np.uint8]

ROWS = {"pretrained": "pre-trained only", "tuned": "tuned without prompts", "sp": "tuned with prompts"}
SHOTS = ("1-shot", "5-shot")
GROUPS = ("clutter", "clean")
VIDEO_LIMIT = 6_000_000  # bytes of a video that the page carries


@dataclass(frozen=True, eq=False)
class EpisodePictures:
    """One episode with a cluttered support picture a class.

    Attributes:
        names: of the classes.
        support: uint8 (len(names), H, W, 3) RGB, one picture a class.
        queries: uint8 (n, H, W, 3) RGB.
        truth, with_prompts, without_prompts: n indices into `names`: what each query is, and what it was taken for.
    """

    names: Sequence[str]
    support: Picture
    queries: Picture
    truth: Sequence[int]
    with_prompts: Sequence[int]
    without_prompts: Sequence[int]


@dataclass(frozen=True, eq=False)
class AttentionPicture:
    """Where the network looks in a support picture.

    Attributes:
        name: the class's, which is its prompt.
        image: uint8 (H, W, 3) RGB.
        plain: float32 (h, w), attention to the patches without a prompt; sums to 1.
        prompted: float32 (h, w), attention of the prompt's token to the patches; sums to 1.
    """

    name: str
    image: Picture
    plain: NDArray[np.float32]
    prompted: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FilmFrame:
    """A frame of the stream.

    Attributes:
        image: uint8 (H, W, 3) RGB, with what was recognised drawn on it.
        second: its time in the stream.
        label: what it was recognised as.
    """

    image: Picture
    second: float
    label: str


@dataclass(frozen=True, eq=False)
class TaughtClass:
    """A class that the stream's recogniser was taught.

    Attributes:
        name: the class's.
        image: uint8 (H, W, 3) RGB, the one picture it was taught from.
    """

    name: str
    image: Picture


@dataclass(frozen=True, eq=False)
class Story:
    """What the demo did.

    Attributes:
        summary: the content of summary.json, as `run_demo` returns it; accuracies are 0 to 1.
        episode: one episode.
        attention: some support pictures with their attention.
        film: some frames of the stream, in order.
        video: the annotated stream; the page carries it if it is a .webm under VIDEO_LIMIT.
        classes: those taught for the stream.
    """

    summary: Mapping[str, Any]
    episode: EpisodePictures
    attention: Sequence[AttentionPicture]
    film: Sequence[FilmFrame]
    video: Path | None
    classes: Sequence[TaughtClass]


class Html(str):
    """Text that is markup already; every other text is escaped."""

    __slots__ = ()


def tag(name: str, *content: str, **attributes: str | bool) -> Html:
    """An element. Content that is not `Html` is escaped, as are attributes; `class_` stands for class."""
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{html.escape(str(value))}"')
        for key, value in attributes.items()
    )
    if name in {"img", "source"}:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(content)}</{name}>")


def join(parts: Iterable[str]) -> Html:
    """Parts one after another, escaped where they are not `Html`."""
    return Html("".join(part if isinstance(part, Html) else html.escape(part) for part in parts))


def write_report(path: Path, story: Story) -> None:
    """Writes the page atomically. It needs no other file and no network, and holds no figure that is not the story's.

    Raises:
        OSError: the file cannot be written, or the video not be read.
    """
    summary = story.summary
    chance = 100 / len(story.episode.names)
    page = Template((resources.files("sp_edge.demo") / "report.html").read_text("utf-8")).substitute(
        lead=_lead(summary["accuracy"], chance),
        example=_picture(story.episode.support[0], f"The name says which object is meant: {story.episode.names[0]}."),
        steps=_steps(story),
        legend=_legend(),
        bars=_bars(summary["accuracy"], chance),
        accuracy=_accuracy_table(summary["accuracy"], len(story.episode.names)),
        support=_pictures(zip(story.episode.names, story.episode.support, strict=True)),
        score=html.escape(_score(story.episode)),
        queries=_queries(story.episode),
        attention=tag("div", *(_look(picture) for picture in story.attention), class_="looks"),
        classes=_pictures((c.name, c.image) for c in story.classes),
        stream=_stream(story),
        film=_film(story.film),
        parity=_parity_table(summary["parity"]["stages"]),
        machine=html.escape(f"{summary['machine']['processor']}, {summary['machine']['cores']} cores"),
        stages=_stage_table(summary["stream"]["stages"]),
        seconds=_seconds_table(summary["seconds"]),
        files=_details("Files", {key: summary[key] for key in ("checkpoint", "bundle", "bank", "video", "results")}),
        settings=_details("Settings", summary["settings"]),
        versions=_details("Versions", summary["versions"]),
    )
    write_bytes(path, page.encode())
