"""Builds the icons set: one-colour symbols of things, each drawn by four or more icon collections that call it the same."""

from __future__ import annotations

import colorsys
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from compose import CACHE, GROUPS, Drawings, Pixels, Style, cached, draw_set, fill_square, main
from iconify import read_icons, render
from sp_edge.data.pictures import PictureSet

# Version and how the collection calls an outlined icon. Feather is left out: Lucide grew from its drawings.
COLLECTIONS = {
    "bi": ("1.2.7", "{}"),  # Bootstrap Icons, MIT
    "carbon": ("1.2.29", "{}"),  # IBM, Apache-2.0
    "fa6-solid": ("1.2.4", "{}"),  # Font Awesome Free, CC-BY-4.0
    "fluent": ("1.2.60", "{}-24-regular"),  # Microsoft, MIT
    "iconoir": ("1.2.11", "{}"),  # MIT
    "ion": ("1.2.7", "{}-outline"),  # Ionicons, MIT
    "lucide": ("1.2.137", "{}"),  # ISC
    "mdi": ("1.2.3", "{}"),  # Material Design Icons, Apache-2.0
    "ph": ("1.2.2", "{}"),  # Phosphor, MIT
    "tabler": ("1.2.41", "{}"),  # MIT
    "uil": ("1.2.3", "{}"),  # Unicons, Apache-2.0
}
HANDS = 4  # collections that must draw a class
SIDE = 96
# Signs of an interface rather than things, trade marks, and variants of another icon.
_DROPPED = re.compile(
    r"[a-z]?|.*[0-9].*|arrows?|chevrons?|caret|align|left|right|up|down|top|bottom|horizontal|vertical|corners?|sort|border|layout"
    r"|text|format|number|off|slash|on|plus|minus|add|remove|check|none|alt|circle|square|fill|filled|outline|solid|sharp|bold"
    r"|thin|light|duotone|logo|brand|github|gitlab|google|gif|hd|hdr|file|filetype|folder|calendar|git"
)


def class_name(icon: str) -> str | None:
    """What an icon shows, in words ('washing-machine': 'washing machine'); None for one that the set leaves out."""
    words = icon.split("-")
    return None if any(_DROPPED.fullmatch(word) for word in words) else " ".join(words)


def named(icons: Iterable[str], pattern: str) -> dict[str, str]:
    """Class name -> icon, of a collection whose wanted icons are called by `pattern`."""
    before, after = pattern.split("{}")
    bare = {icon: icon.removeprefix(before).removesuffix(after) for icon in icons if icon.endswith(after)}
    return {name: icon for icon, stem in bare.items() if (name := class_name(stem))}


def gather(cache: Path) -> Drawings:
    """Renders every icon that enough collections draw; where two names share a drawing, the rarer one goes."""
    drawn: dict[str, list[str]] = defaultdict(list)
    brands: set[str] = set()
    for collection, (version, pattern) in COLLECTIONS.items():
        icons = read_icons(collection, version, cache)
        brands.update(icon.removeprefix("brand-").replace("-", " ") for icon in icons if icon.startswith("brand-"))
        for name, icon in named(icons, pattern).items():
            drawn[name].append(icons[icon])
    taken: set[str] = set()
    found = {}
    for name, pictures in sorted(drawn.items(), key=lambda item: (-len(item[1]), item[0])):
        if len(pictures) >= HANDS and name not in brands and taken.isdisjoint(pictures):
            taken.update(pictures)
            found[name] = [fill_square(render(svg, 2 * SIDE)[..., 3], SIDE) for svg in pictures]
    return Drawings.stack(found)


def paint(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """The symbol in one random colour, clearly darker or clearly lighter than any ground."""
    hue, dark = rng.random(), rng.random() < 0.5
    saturation, value = (rng.uniform(0, 1), rng.uniform(0, 0.25)) if dark else (rng.uniform(0, 0.6), rng.uniform(0.9, 1))
    colour = 255 * np.array(colorsys.hsv_to_rgb(hue, saturation, value))
    return np.dstack([np.broadcast_to(colour.astype(np.uint8), (*pixels.shape, 3)), pixels])


def build(
    split: str, size: int = 96, per_class: int = 24, seed: int = 0, groups: tuple[str, ...] = GROUPS, cache: Path = CACHE
) -> PictureSet:
    """The pictures of a split ('train', 'val' or 'test'), grouped into 'clutter' and 'clean'; see `compose.draw_set`."""
    drawings = cached(cache, __file__, lambda: gather(cache))
    return draw_set(drawings, Style(paint, mirror=False), split, size, per_class, seed, groups)


if __name__ == "__main__":
    main(build, __doc__)
