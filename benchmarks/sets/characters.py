"""Builds the characters set: letters of 24 scripts in printed and handwritten fonts, called by their Unicode names."""

from __future__ import annotations

import colorsys
import unicodedata
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from compose import CACHE, GROUPS, Drawings, Pixels, Style, cached, draw_set, fill_square, main
from sp_edge.data.pictures import PictureSet
from sp_edge.data.scenes import draw_background
from sp_edge.errors import DataError

FOLDER = Path("/usr/share/fonts")
# Debian package -> fonts in `FOLDER`, the plain ones first: they say which letters look alike.
FONTS = {
    "fonts-noto-core": ("truetype/noto/NotoSans*-Regular.ttf", "truetype/noto/NotoSerif*-Regular.ttf"),  # OFL-1.1
    "fonts-seto": ("truetype/seto/setofont.ttf",),  # handwritten, OFL-1.1
    "fonts-klee": ("truetype/klee/KleeOne-Regular.ttf",),  # handwritten, OFL-1.1
    "fonts-yusei-magic": ("truetype/yusei-magic/YuseiMagic-Regular.ttf",),  # handwritten, OFL-1.1
    "fonts-humor-sans": ("truetype/humor-sans/Humor-Sans.ttf",),  # handwritten, OFL-1.1
    "fonts-tlwg-purisa-ttf": ("truetype/tlwg/Purisa.ttf",),  # handwritten Thai, GPL-2 with font exception
    "fonts-sil-annapurna": ("truetype/annapurna/AnnapurnaSIL-Regular.ttf",),  # calligraphic Devanagari, OFL-1.1
    "fonts-sil-abyssinica": ("truetype/abyssinica/AbyssinicaSIL-Regular.ttf",),  # calligraphic Ethiopic, OFL-1.1
    "fonts-hosny-amiri": ("opentype/fonts-hosny-amiri/Amiri-Regular.ttf",),  # calligraphic Arabic, OFL-1.1
    "fonts-sil-padauk": ("truetype/padauk/Padauk-Regular.ttf",),  # Myanmar, OFL-1.1
    "fonts-freefont-ttf": ("truetype/freefont/FreeSerif.ttf", "truetype/freefont/FreeSans.ttf"),  # GPL-3 with font exception
}
# First and last code point of the letters of a script.
SCRIPTS = (
    (0x41, 0x5A), (0x61, 0x7A), (0x391, 0x3A9), (0x3B1, 0x3C9), (0x410, 0x44F), (0x531, 0x556), (0x561, 0x586), (0x5D0, 0x5EA),
    (0x621, 0x64A), (0x905, 0x939), (0x985, 0x9B9), (0xA05, 0xA39), (0xA85, 0xAB9), (0xB05, 0xB39), (0xB85, 0xBB9),
    (0xC05, 0xC39), (0xC85, 0xCB9), (0xD05, 0xD39), (0xD85, 0xDC6), (0xE01, 0xE2E), (0xE81, 0xEAE), (0x1000, 0x1021),
    (0x10D0, 0x10F0), (0x1200, 0x1357), (0x13A0, 0x13F4), (0x3042, 0x3093), (0x30A2, 0x30F3),
)  # fmt: skip
PER_SCRIPT = 48
HANDS = (3, 6)  # fewest and most fonts of a class
# Cosine of two coarse pictures from which two letters count as one, and two drawings of a letter as one hand's: many fonts
# carry copies of another's letters.
LIKENESS, SAME_HAND = 0.96, 0.99
SIDE = 96


def letters() -> dict[str, str]:
    """Class name -> letter: the letters of each range, evenly thinned; no small kana, no letters with marks."""
    chosen = {}
    for first, last in SCRIPTS:
        named = [(c, unicodedata.name(c, "").lower()) for c in map(chr, range(first, last + 1))]
        plain = [
            (letter, name)
            for letter, name in named
            if unicodedata.category(letter) in ("Lu", "Ll", "Lo")
            and not unicodedata.decomposition(letter)
            and " with " not in name
            and not name.startswith(("hiragana letter small", "katakana letter small"))
        ]
        kept = np.unique(np.linspace(0, len(plain) - 1, min(PER_SCRIPT, len(plain))).round().astype(int))
        chosen.update({plain[i][1]: plain[i][0] for i in kept})
    return chosen


def font_files(folder: Path = FOLDER) -> list[Path]:
    """The fonts of `FONTS`.

    Raises:
        DataError: some are not installed.
    """
    found = {package: [sorted(folder.glob(p)) for p in patterns] for package, patterns in FONTS.items()}
    missing = [package for package, files in found.items() if not all(files)]
    if missing:
        raise DataError("fonts are missing", expected=f"in {folder}", got="none", next_step=f"apt install {' '.join(missing)}")
    return [file for files in found.values() for some in files for file in some]


def draw_letter(letter: str, font: ImageFont.FreeTypeFont) -> Pixels | None:
    """Coverage of a letter, uint8 (SIDE, SIDE); None where the font leaves it blank."""
    canvas = Image.new("L", (6 * SIDE, 6 * SIDE))
    ImageDraw.Draw(canvas).text((3 * SIDE, 3 * SIDE), letter, 255, font, anchor="mm")
    pixels = np.asarray(canvas)
    return fill_square(pixels, SIDE) if pixels.any() else None


def look(drawing: Pixels) -> NDArray[np.float32]:
    """A coarse picture of a drawing (S, S), as a unit vector (256,)."""
    coarse = np.asarray(Image.fromarray(drawing).resize((16, 16), Image.Resampling.BOX), np.float32).ravel()
    return coarse / np.linalg.norm(coarse)


def is_new(drawing: Pixels, seen: list[NDArray[np.float32]], likeness: float) -> bool:
    """Whether a drawing is unlike all that were seen, whose `look` is kept in `seen`; a new one is put there."""
    shape = look(drawing)
    if seen and np.max(np.stack(seen) @ shape) >= likeness:
        return False
    seen.append(shape)
    return True


def gather() -> Drawings:
    """Renders each letter in the fonts that have it, each hand once, and leaves out letters that look like one before them."""
    from fontTools.ttLib import TTFont

    wanted = letters()
    drawn: dict[str, list[Pixels]] = defaultdict(list)
    hands: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
    for file in font_files():
        with TTFont(file, lazy=True) as content:
            known = content.getBestCmap()
        font = ImageFont.truetype(file, 2 * SIDE, layout_engine=ImageFont.Layout.BASIC)
        for name, letter in wanted.items():
            if ord(letter) not in known or len(drawn[name]) == HANDS[1] or (pixels := draw_letter(letter, font)) is None:
                continue
            if is_new(pixels, hands[name], SAME_HAND):
                drawn[name].append(pixels)
    seen: list[NDArray[np.float32]] = []
    return Drawings.stack(
        {name: drawn[name] for name in wanted if len(drawn[name]) >= HANDS[0] and is_new(drawn[name][0], seen, LIKENESS)}
    )


def write(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """The letter as a hand might write it: bent on a grid, at times with a thick pen, in dark ink."""
    side, cells, edge = len(pixels), 3, len(pixels) // 8
    mask = Image.fromarray(np.pad(pixels, edge))
    if rng.random() < 0.4:
        mask = mask.filter(ImageFilter.MaxFilter(3))
    at = np.linspace(0, mask.width, cells + 1)
    nodes = np.stack(np.meshgrid(at, at), axis=-1)  # [row, column] -> (x, y)
    lean = rng.uniform(-0.15, 0.15) * (nodes[..., 1] - mask.width / 2)
    nodes[..., 0] += lean
    nodes += rng.normal(0, 0.03 * side, nodes.shape)
    box = at.round().astype(int)
    mesh = [
        (
            (box[c], box[r], box[c + 1], box[r + 1]),
            (*nodes[r, c], *nodes[r + 1, c], *nodes[r + 1, c + 1], *nodes[r, c + 1]),
        )
        for r in range(cells)
        for c in range(cells)
    ]
    bent = np.asarray(mask.transform(mask.size, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR))
    colour = 255 * np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, 1), rng.uniform(0, 0.5)))
    return np.dstack([np.broadcast_to(colour.astype(np.uint8), (*bent.shape, 3)), bent])


def paper(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """A light, tinted sheet with faint strokes and grain; float32 (height, width, 3) RGB in 0..255."""
    tint = rng.uniform(185, 240) + rng.uniform(-15, 15, 3)
    return (tint + 0.35 * (draw_background(rng, height, width) - 120)).astype(np.float32)


def build(
    split: str, size: int = 96, per_class: int = 24, seed: int = 0, groups: tuple[str, ...] = GROUPS, cache: Path = CACHE
) -> PictureSet:
    """The pictures of a split ('train', 'val' or 'test'), grouped into 'clutter' and 'clean'; see `compose.draw_set`."""
    style = Style(write, paper, angle=12, mirror=False)
    return draw_set(cached(cache, __file__, gather), style, split, size, per_class, seed, groups)


if __name__ == "__main__":
    main(build, __doc__)
