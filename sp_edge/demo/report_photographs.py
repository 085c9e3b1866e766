"""The report's part on photographs: what was taught, the places that names found, and the stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sp_edge.demo.elements import FilmFrame, Html, Picture, answer, details, figure, film, join, percent, picture, stream, tag
from sp_edge.demo.plots import heat_scale, place_map
from sp_edge.photographs import Photograph
from sp_edge_runtime.looking import Look


@dataclass(frozen=True, eq=False)
class NamedPlace:
    """A name, and where it was found in a photograph."""

    name: str
    look: Look

    @property
    def place(self) -> tuple[float, float]:
        """The middle of the place that looks most like the name: x and y, as shares of the picture's sides."""
        rows, columns = self.look.heat.shape
        row, column = divmod(int(self.look.heat.argmax()), columns)
        return round((column + 0.5) / columns, 3), round((row + 0.5) / rows, 3)


@dataclass(frozen=True, eq=False)
class Asked:
    """A picture that was asked about.

    Attributes:
        image: uint8 (H, W, 3) RGB.
        truth: the name of what it shows.
        label: what it was taken for: one of the names, or 'unknown'.
        share: how likely it is each of the classes, 0 to 1, by name.
    """

    image: Picture
    truth: str
    label: str
    share: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class PhotographStory:
    """What the demo did with photographs.

    Attributes:
        model: the ready-made network's name.
        taught: the classes for the stream, each with the one photograph that it was taught by.
        pair: one photograph that was taught under two names.
        asked: parts of it, of which each shows what one of the names means.
        figures: the stream's; see `elements.stream`.
        film: some frames of the stream, in order.
        video: the annotated stream.
        shown: every photograph that was used.
    """

    model: str
    taught: Sequence[NamedPlace]
    pair: Sequence[NamedPlace]
    asked: Sequence[Asked]
    figures: Mapping[str, Any]
    film: Sequence[FilmFrame]
    video: Path | None
    shown: Sequence[Photograph]


def lead(story: PhotographStory) -> Html:
    """What came out, in a sentence that says no more than the figures do."""
    figures = story.figures
    main = f"Each of {len(story.taught)} objects was taught by its name and one photograph. As a camera moves over these, "
    main += f"{percent(figures['right'] / figures['shown'])} of {figures['shown']:,} frames are named rightly."
    rest = f"Nothing was trained: the network is {story.model}, which has seen other photographs of many things. "
    if figures["unknown_shown"]:
        share = percent(figures["unknown_right"] / figures["unknown_shown"])
        rest += f"Of {figures['unknown_shown']:,} frames with objects that were never taught, {share} are called unknown."
    return tag("p", main, tag("span", rest), class_="lead")


def example(story: PhotographStory) -> Html:
    """One picture for the page's head."""
    one = story.pair[0]
    return _place(one, f"The place that the name “{one.name}” found in the photograph.")


def taught(story: PhotographStory) -> Html:
    """A column for each class: its photograph, and the place that its name found."""
    columns = (tag("div", _photo(one), _place(one, _found(one)), class_="column") for one in story.taught)
    return join((tag("div", *columns, class_="grid five"), _scale()))


def pair(story: PhotographStory) -> Html:
    """One photograph, the places that two names found in it, and what its parts were taken for."""
    places = (_place(one, _found(one)) for one in story.pair)
    names = " and ".join(f"“{one.name}”" for one in story.pair)
    right = sum(one.label == one.truth for one in story.asked)
    cards = []
    for one in story.asked:
        shares = ", ".join(f"{name} {percent(value)}" for name, value in one.share.items())
        lines = (
            tag("b", one.truth),
            answer("taken for", one.label, one.label == one.truth),
            tag("small", shares, class_="quiet"),
        )
        part = picture(one.image, f"Part that shows the {one.truth}")
        cards.append(tag("figure", part, tag("figcaption", *lines), class_="card"))
    told = (
        f"Without a name the two classes would have one and the same feature. With {names}, "
        f"{right} of these {len(story.asked)} parts of the photograph are recognized rightly:"
    )
    shown = figure(story.pair[0].look.image_rgb, "taught under both names", "Photograph that was taught under two names")
    looked = tag("div", shown, *places, class_="grid pairs")
    return join((looked, tag("p", told, class_="after"), tag("div", *cards, class_="grid")))


def moving(story: PhotographStory) -> Html:
    """The stream, and frames of it."""
    return join((stream(story.figures, story.video, story.film), film(story.film)))


def sources(story: PhotographStory) -> Html:
    """Who made the photographs; addresses stand without a scheme, since the page holds no links."""
    made = {}
    for one in story.shown:
        address = (one.source or "").partition("://")[2]
        made[one.name] = ", ".join(part for part in (one.shows, one.author, one.license, address) if part)
    return details("Photographs", made)


def _photo(one: NamedPlace) -> Html:
    return figure(one.look.image_rgb, one.name, f"The photograph that {one.name} was taught by")


def _place(one: NamedPlace, caption: str) -> Html:
    return figure(place_map(one.look), caption, f"Heat map of the place that the name {one.name} found")


def _found(one: NamedPlace) -> str:
    return f"“{one.name}”: {one.look.evidence:.1f}"


def _scale() -> Html:
    told = tag("p", "The figure says how many deviations the five best places are above usual ones.", class_="quiet after")
    ends = ("as places usually look", picture(heat_scale(), "dark to bright"), "the photograph's best place")
    return join((tag("div", *ends, class_="scale"), told))
