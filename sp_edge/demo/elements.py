"""Makes the elements of the report's page: tables, pictures, a video, frames of it. Every text is escaped once, here."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]
VIDEO_LIMIT = 10_000_000  # bytes of a video that the page carries


@dataclass(frozen=True, eq=False)
class FilmFrame:
    """A frame of the stream.

    Attributes:
        image: uint8 (H, W, 3) RGB, with what was recognized drawn on it.
        second: its time in the stream.
        label: what it was recognized as.
    """

    image: Picture
    second: float
    label: str


class Html(str):
    """Text that is markup already; every other text is escaped."""

    __slots__ = ()


def tag(name: str, *content: str, **attributes: str | bool) -> Html:
    """An element. Content that is not `Html` is escaped, as are attributes; `class_` stands for class."""
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{html.escape(str(value))}"')
        for key, value in attributes.items()
    )
    if name == "img":
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(content)}</{name}>")


def join(parts: Iterable[str]) -> Html:
    """Parts one after another, escaped where they are not `Html`."""
    return Html("".join(part if isinstance(part, Html) else html.escape(part) for part in parts))


def percent(share: float) -> str:
    """As in '74.1 %'."""
    return f"{100 * share:.1f} %"


def data_uri(content: bytes, media_type: str) -> str:
    """Bytes as a URI that carries them."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def picture_uri(image: Picture) -> str:
    """A picture, uint8 (H, W, 3) RGB, as a JPEG data URI."""
    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=90, subsampling=0)
    return data_uri(content.getvalue(), "image/jpeg")


def picture(image: Picture, alt: str) -> Html:
    """A picture, uint8 (H, W, 3) RGB, as an `<img>` that carries it; `alt` says what it shows."""
    size = {"width": str(image.shape[1]), "height": str(image.shape[0])}
    return tag("img", src=picture_uri(image), alt=alt, **size)


def figure(image: Picture, caption: str, alt: str) -> Html:
    """A picture with a line below it."""
    return tag("figure", picture(image, alt), tag("figcaption", caption))


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    """A table whose first column names the rows; it scrolls by itself where the screen is too narrow."""
    header = tag("tr", *(tag("th", text, scope="col") if text else tag("td") for text in head))
    body = (tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])) for row in rows)
    whole = tag("table", tag("caption", caption), tag("thead", header), tag("tbody", *body))
    return tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption)


def pictures(named: Iterable[tuple[str, Picture]]) -> Html:
    """Support pictures in a row of five, each with its class's name."""
    return tag("div", *(figure(image, name, f"Support picture of {name}") for name, image in named), class_="grid five")


def answer(how: str, what: str, right: bool) -> Html:
    """What an answer was, marked as right or wrong."""
    word, mark = ("right", "✓") if right else ("wrong", "✗")
    spoken = tag("span", f" ({word})", class_="unseen")
    return tag(
        "div",
        tag("span", mark, class_="mark", aria_hidden="true"),
        tag("span", tag("small", how), what, spoken),
        class_=f"said {word}",
    )


def stream(figures: Mapping[str, Any], file: Path | None, frames: Sequence[FilmFrame]) -> Html:
    """The annotated video beside what came out.

    Args:
        figures: `frames` and `fps` of the stream, and how many frames were `right` of those `shown`, and `unknown_right` of
            `unknown_shown`.
        file: the video; the page carries it if it is a .webm under VIDEO_LIMIT.
        frames: some of it, of which the first stands for the video.
    """
    counts = [
        (percent(figures[right] / figures[shown]), f"of the frames with {what} ({figures[right]:,} of {figures[shown]:,})")
        for right, shown, what in (
            ("right", "shown", "a taught object are named rightly"),
            ("unknown_right", "unknown_shown", "an object that was never taught are called unknown"),
        )
        if figures[shown]
    ]
    counts.append((f"{figures['fps']:.0f} fps", f"recognized frames a second, {figures['frames']:,} frames in all"))
    items = (tag("li", tag("span", share, class_="count"), tag("span", what, class_="quiet")) for share, what in counts)
    return tag("div", _video(file, frames), tag("ul", *items, class_="counts"), class_="watched")


def _video(file: Path | None, frames: Sequence[FilmFrame]) -> Html:
    if file is None or not file.is_file():
        return tag("p", "There is no video of this stream.", class_="quiet")
    if file.suffix.lower() != ".webm" or file.stat().st_size >= VIDEO_LIMIT:
        return tag("p", "The video is too large for this page, or no webm: ", tag("code", str(file)), class_="quiet")
    poster = {"poster": picture_uri(frames[0].image)} if frames else {}
    source = data_uri(file.read_bytes(), "video/webm")
    video = tag("video", src=source, controls=True, loop=True, muted=True, playsinline=True, **poster)
    return tag("figure", video, tag("figcaption", "The whole stream, annotated."))


def film(frames: Sequence[FilmFrame]) -> Html:
    """Frames in their order, each with its time and label."""
    shown = (
        figure(f.image, f"{f.second:.1f} s: {f.label}", f"Frame at {f.second:.1f} seconds, recognized as {f.label}")
        for f in frames
    )
    return tag("div", *shown, class_="grid film")


def duration(seconds: float) -> str:
    """As in '6 min 42 s' or '14.3 s'."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{seconds:.1f} s"


def details(title: str, values: Mapping[str, Any]) -> Html:
    """Values that open at a click; nested ones as 'section.name'."""
    listed = (part for key, text in _flat(values) for part in (tag("dt", key), tag("dd", tag("code", text))))
    return tag("details", tag("summary", title), tag("dl", *listed))


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested values as 'section.name' and text."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((prefix + key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    return rows
