"""Finds a font in which a text can be read."""

from __future__ import annotations

import itertools
import logging
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Where it is installed, as on Ubuntu and JetPack: Latin, Greek, Cyrillic, Arabic. Pillow's own font knows Latin alone.
USUAL = "DejaVuSans.ttf"
# Where fonts are, for a system without fontconfig, and how many files are tried there.
FOLDERS = ("~/.local/share/fonts", "~/.fonts", "/usr/local/share/fonts", "/usr/share/fonts")
FILES = 500
NAMES = 1000  # texts that are kept in mind
_NO_LETTER = "\U0010ffff"  # drawn as each font draws what it lacks
_log = logging.getLogger(__name__)


class Face(NamedTuple):
    """A font's file, and its place in a file of several."""

    file: str = USUAL
    number: int = 0


@cache
def font(size: int, face: Face = Face()) -> Font:  # noqa: B008 - immutable
    """The font in a size in pixels; Pillow's own where the file is not there."""
    try:
        return ImageFont.truetype(face.file, size, face.number)
    except OSError:
        return ImageFont.load_default(size=size)


@lru_cache(NAMES)
def legible(text: str) -> tuple[str, Face]:
    """A text, and a font that has its letters.

    Where no installed font has them all, they are written as escapes, '猫' as '\\u732b': boxes would all look the same.
    """
    for face in _candidates(text):
        if _has_letters(font(16, face), text):
            return text, face
    _log.warning(
        "No installed font has all letters of '%s', so pictures show it as \\u and numbers. Install a font: on Ubuntu and "
        "JetPack, fonts-noto-cjk for Chinese, Japanese and Korean, fonts-noto for the rest.",
        text,
    )
    return text.encode("ascii", "backslashreplace").decode(), Face()


def _candidates(text: str) -> Iterator[Face]:
    """Fonts that may have a text's letters: the usual one, what fontconfig names, or else what lies where fonts are."""
    yield Face()
    if found := _installed(text):
        yield found
    elif not shutil.which("fc-match"):
        files = (file for folder in FOLDERS for file in sorted(Path(folder).expanduser().rglob("*.[ot]t[fc]")))
        for file in itertools.islice(files, FILES):
            yield Face(str(file))


def _has_letters(candidate: Font, text: str) -> bool:
    lacking = bytes(candidate.getmask(_NO_LETTER))
    return all(bytes(candidate.getmask(letter)) != lacking for letter in set(text) if not letter.isspace())


def _installed(text: str) -> Face | None:
    """The system's best font for a text's letters; None where it has no fontconfig."""
    letters = " ".join(f"{ord(letter):x}" for letter in sorted(set(text)))
    command = ["fc-match", "--format", "%{file}\t%{index}", f":charset={letters}"]
    try:
        said = subprocess.run(command, capture_output=True, check=True, timeout=10, encoding="utf-8").stdout  # noqa: S603
        file, index = said.split("\t")
        return Face(file, int(index) & 0xFFFF)  # above are the instances of a variable font
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
