"""Writes the demo's report: one HTML page that carries its pictures, its plots and the video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.demo import plots
from sp_edge.demo import report_photographs as photographs
from sp_edge.demo.elements import (
    FilmFrame,
    Html,
    Picture,
    answer,
    details,
    duration,
    film,
    percent,
    picture,
    pictures,
    stream,
    table,
    tag,
)
from sp_edge.demo.plots import GROUPS, ROWS, SHOTS
from sp_edge.demo.report_photographs import PhotographStory
from sp_edge.files import write_bytes


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
        plain: float32 (h, w), what the feature depends on without a prompt; sums to 1.
        prompted: float32 (h, w), the same with the class's prompt; sums to 1.
        token: float32 (h', w'), attention of the prompt's token to the patches in the last block; sums to 1.
    """

    name: str
    image: Picture
    plain: NDArray[np.float32]
    prompted: NDArray[np.float32]
    token: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class TaughtClass:
    """A class that the stream's recognizer was taught.

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
        photographs: what it did with photographs; all else is of the drawn scenes.
        episode: one episode.
        attention: some support pictures with their attention.
        film: some frames of the stream, in order.
        video: the annotated stream; the page carries it if it is a .webm under VIDEO_LIMIT.
        classes: those taught for the stream.
    """

    summary: Mapping[str, Any]
    photographs: PhotographStory
    episode: EpisodePictures
    attention: Sequence[AttentionPicture]
    film: Sequence[FilmFrame]
    video: Path | None
    classes: Sequence[TaughtClass]


def write_report(path: Path, story: Story) -> None:
    """Writes the page atomically. It needs no other file and no network, and holds no figure that is not the story's.

    Raises:
        OSError: the file cannot be written, or the video not be read.
    """
    summary = story.summary
    names = story.episode.names
    chance = 100 / len(names)
    page = Template((resources.files("sp_edge.demo") / "report.html").read_text("utf-8")).substitute(
        lead=photographs.lead(story.photographs),
        example=photographs.example(story.photographs),
        taught=photographs.taught(story.photographs),
        pair=photographs.pair(story.photographs),
        moving=photographs.moving(story.photographs),
        trained=_lead(summary["accuracy"], chance),
        steps=_steps(story),
        bars=plots.accuracy_plot(summary["accuracy"], chance),
        accuracy=_accuracy_table(summary["accuracy"], len(names)),
        support=pictures(zip(names, story.episode.support, strict=True)),
        score=_score(story.episode),
        queries=_queries(story.episode),
        attention=_attention(story.attention),
        classes=pictures((c.name, c.image) for c in story.classes),
        stream=stream(summary["stream"], story.video, story.film),
        film=film(story.film),
        parity=_parity_table(summary["parity"]["stages"]),
        machine=tag("p", f"{summary['machine']['processor']}, {summary['machine']['cores']} cores", class_="quiet"),
        stages=_stage_table(summary["stream"]["stages"]),
        seconds=_seconds_table(summary["seconds"]),
        files=details("Files", {key: summary[key] for key in ("checkpoint", "bundle", "bank", "video", "results")}),
        photographs=photographs.sources(story.photographs),
        settings=details("Settings", summary["settings"]),
        versions=details("Versions", summary["versions"]),
    )
    write_bytes(path, page.encode())


def _accuracy(accuracy: Mapping[str, float]) -> str:
    """As in '74.1 ± 0.9'."""
    return f"{100 * accuracy['mean']:.1f} ± {100 * accuracy['interval']:.1f}"


def _apart(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Whether the 95 % intervals do not overlap."""
    return abs(one["mean"] - other["mean"]) > one["interval"] + other["interval"]


def _lead(accuracy: Mapping[str, Any], chance: float) -> Html:
    """What came out, in a sentence that says no more than the figures do."""
    ours, theirs = accuracy["sp"]["1-shot"]["clutter"], accuracy["tuned"]["1-shot"]["clutter"]
    points = f"{100 * abs(ours['mean'] - theirs['mean']):.1f} points"
    if not _apart(ours, theirs):
        verdict = "The 95 % intervals overlap, so this run does not tell the two apart"
    elif ours["mean"] > theirs["mean"]:
        verdict = f"Prompts are {points} ahead, and the 95 % intervals do not overlap"
    else:
        verdict = f"Prompts are {points} behind in this run, and the 95 % intervals do not overlap"
    said = f"One cluttered picture a class: {percent(ours['mean'])} with prompts against {percent(theirs['mean'])} without."
    # Not to be broken over two lines.
    figures = " and ".join(_accuracy(one).replace(" ", "\N{NO-BREAK SPACE}") for one in (ours, theirs))
    measured = f" ({figures}, tuned for the same number of steps). Guessing would be right in {chance:g} %."
    return tag("p", said, tag("span", verdict, measured), class_="lead")


def _steps(story: Story) -> Html:
    made = story.summary
    stages = ", ".join(stage["stage"] for stage in made["parity"]["stages"])
    prompts = made["prompts"]
    text = f", {100 * prompts['text_share']:.0f} % of it what text alone says of the class" if prompts["text_share"] else ""
    lines = (
        f"Drew {made['base_pictures']:,} pictures of {made['base_classes']} base classes to train on. "
        f"The {made['novel_classes']} novel classes were kept away from training.",
        f"Pre-trained the network for {made['steps']['pretrain']:,} steps, then tuned it in episodes for "
        f"{made['steps']['tune']:,} steps: once with prompts, and from the same start without.",
        f"Chose on other classes how much a prompt counts: its share is {prompts['strength']:g} beside one picture{text}.",
        f"Exported the network with prompts to ONNX ({stages}), each stage compared with the one before.",
        f"Taught the export {len(story.classes)} novel classes, each by its name and one cluttered picture.",
        f"Recognized {made['stream']['frames']:,} frames of a video, {made['stream']['fps']:.0f} a second.",
    )
    return tag("ol", *(tag("li", line) for line in lines), class_="steps")


def _accuracy_table(accuracy: Mapping[str, Any], way: int) -> Html:
    counts = [accuracy[row][shots][group]["episodes"] for row in ROWS for shots in SHOTS for group in GROUPS]
    rows = []
    for shots in SHOTS:
        for group in GROUPS:
            figures = {row: accuracy[row][shots][group] for row in ROWS}
            ours, theirs = figures["sp"], figures["tuned"]
            points = round(100 * (ours["mean"] - theirs["mean"]), 1) + 0.0  # no minus before a zero
            gain = f"{points:+.1f}".replace("-", "\N{MINUS SIGN}")
            gain = gain if _apart(ours, theirs) else f"({gain})"
            rows.append((f"{shots}, {group}", *map(_accuracy, figures.values()), gain))
    episodes = " to ".join(f"{count:,}" for count in dict.fromkeys((min(counts), max(counts))))
    caption = (
        f"{way}-way accuracy in percent: mean of {episodes} episodes ± half the 95 % interval. "
        "Gain: with prompts less without, in brackets where the intervals overlap."
    )
    return table(caption, ("", *ROWS.values(), "gain"), rows)


def _score(episode: EpisodePictures) -> Html:
    ours, theirs = (
        sum(what == truth for what, truth in zip(said, episode.truth, strict=True))
        for said in (episode.with_prompts, episode.without_prompts)
    )
    said = f"Of these {len(episode.truth)} queries, {ours} are recognized rightly with prompts and {theirs} without. "
    return tag("p", said, "This is one episode to look at; the figures above are the mean of many.", class_="after")


def _queries(episode: EpisodePictures) -> Html:
    cards = []
    for image, truth, *said in zip(episode.queries, episode.truth, episode.with_prompts, episode.without_prompts, strict=True):
        lines = (
            answer(how, episode.names[what], what == truth) for how, what in zip(("with prompts", "without"), said, strict=True)
        )
        name = episode.names[truth]
        caption = tag("figcaption", tag("b", name), *lines)
        cards.append(tag("figure", picture(image, f"Query picture of {name}"), caption, class_="card"))
    return tag("div", *cards, class_="grid")


def _attention(pictures: Sequence[AttentionPicture]) -> Html:
    drawn = (plots.attention_maps(one.name, one.image, one.plain, one.prompted, one.token) for one in pictures)
    return tag("div", *drawn, class_="looks")


def _parity_table(stages: Sequence[Mapping[str, Any]]) -> Html:
    head = ("stage", "cosine, mean", "least", "largest difference", "accuracy", "before", "pictures")
    rows = [
        (
            f"{stage['stage']} against {stage['against']}",
            f"{stage['cosine_mean']:.6f}",
            f"{stage['cosine_min']:.6f}",
            f"{stage['largest_difference']:.1e}",
            _accuracy(stage["accuracy"]),
            _accuracy(stage["accuracy_before"]),
            f"{stage['pictures']:,}",
        )
        for stage in stages
    ]
    return table("Features and accuracy in percent, stage by stage", head, rows)


def _stage_table(stages: Mapping[str, Mapping[str, float]]) -> Html:
    rows = [(name, f"{time['mean_ms']:.2f}", f"{time['median_ms']:.2f}") for name, time in stages.items()]
    return table("A frame of the stream, in milliseconds", ("stage", "mean", "median"), rows)


def _seconds_table(seconds: Mapping[str, float]) -> Html:
    rows = [(step, duration(taken)) for step, taken in seconds.items()]
    return table("The demo's steps", ("step", "time"), [*rows, ("all together", duration(sum(seconds.values())))])
