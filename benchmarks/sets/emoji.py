"""Builds the emoji set: things as Noto, Twemoji, OpenMoji and Fluent draw them, called by their Unicode CLDR names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from compose import CACHE, GROUPS, Drawings, Pixels, Style, cached, draw_set, fill_square, main
from iconify import read_icons, read_member, render
from sp_edge.data.pictures import PictureSet

NAMES = ("emojibase-data", "17.0.0")  # MIT; its labels are Unicode CLDR's
ARTISTS = {
    "noto": "1.2.9",  # Google, Apache-2.0
    "twemoji": "1.2.5",  # Twitter, CC-BY-4.0
    "openmoji": "1.2.29",  # CC-BY-SA-4.0
    "fluent-emoji-flat": "1.2.6",  # Microsoft, MIT
}
GROUPS_KEPT = ("animals & nature", "food & drink", "travel & places", "activities", "objects", "symbols")
SUBGROUPS_KEPT = ("costumed & creatures", "monkey faces", "hearts", "emotions", "body parts")
SUBGROUPS_DROPPED = ("arrows", "keypad characters", "alphanumeric symbols")
# Clock faces, and all but one of the things that differ by a mirror or by their size alone.
DROPPED = re.compile(
    r".*(o'clock|-thirty)|waning .*|last quarter .*|magnifying glass tilted right|.*reverse.*|.*(last|next) track.*"
    r"|(black|white) .*square.*|small .* diamond|speaker (low|medium) volume"
)
SIDE = 96


def class_name(label: str) -> str:
    """A CLDR short name in plain ASCII punctuation: "woman's hat"."""
    return " ".join(label.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").split())


def wanted(emoji: dict[str, Any], groups: dict[int, str], subgroups: dict[int, str]) -> bool:
    """Whether an emoji is a thing with a look of its own."""
    group, subgroup = groups.get(emoji.get("group", -1)), subgroups.get(emoji.get("subgroup", -1))
    kept = subgroup in SUBGROUPS_KEPT or (group in GROUPS_KEPT and subgroup not in SUBGROUPS_DROPPED)
    return kept and not DROPPED.fullmatch(class_name(emoji["label"]))


def gather(cache: Path) -> Drawings:
    """Renders every artist's drawing of every wanted emoji that at least three of them drew."""
    messages = read_member(*NAMES, "en/messages.json", cache)
    groups = {g["order"]: g["message"] for g in messages["groups"]}
    subgroups = {g["order"]: g["message"] for g in messages["subgroups"]}
    artists = [
        (read_icons(artist, version, cache), read_member(f"@iconify-json/{artist}", version, "chars.json", cache))
        for artist, version in ARTISTS.items()
    ]
    found = {}
    for emoji in read_member(*NAMES, "en/data.json", cache):
        code = "-".join(part for part in emoji["hexcode"].lower().split("-") if part != "fe0f")
        drawn = [icons[characters[code]] for icons, characters in artists if characters.get(code) in icons]
        if len(drawn) >= 3 and wanted(emoji, groups, subgroups):
            found[class_name(emoji["label"])] = drawn
    return Drawings.stack({name: [fill_square(render(svg, 2 * SIDE), SIDE) for svg in drawn] for name, drawn in found.items()})


def paint(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """The drawing in its own colours, a little lighter or darker and tinted."""
    coloured = np.array(pixels)
    coloured[..., :3] = np.clip(coloured[..., :3] * (rng.uniform(0.85, 1.1) * rng.uniform(0.92, 1.08, 3)), 0, 255)
    return coloured


def build(
    split: str, size: int = 96, per_class: int = 24, seed: int = 0, groups: tuple[str, ...] = GROUPS, cache: Path = CACHE
) -> PictureSet:
    """The pictures of a split ('train', 'val' or 'test'), grouped into 'clutter' and 'clean'; see `compose.draw_set`."""
    drawings = cached(cache, __file__, lambda: gather(cache))
    return draw_set(drawings, Style(paint), split, size, per_class, seed, groups)


if __name__ == "__main__":
    main(build, __doc__)
