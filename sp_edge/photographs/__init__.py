"""A dozen real photographs that anyone may use: for the demo, for tests, and where a graph must be tried on photographs.

`sources.json` beside them says what each shows, who made it, where it comes from, and under which license. Two of them
are under CC-BY-2.0, which asks to name the author; the others are free of conditions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from sp_edge.errors import DataError
from sp_edge.pictures import load_image

_FOLDER = resources.files(__name__)


@dataclass(frozen=True)
class Photograph:
    """One photograph.

    Attributes:
        name: one word.
        shows: what is to be seen.
        author: who made it or gave it away.
        license: "CC0-1.0", "CC-BY-2.0", or in words that it has no conditions.
        package: the package and file that it was taken from.
        source: address of the original, where it is known.
    """

    name: str
    shows: str
    author: str
    license: str
    package: str
    source: str | None = None

    def content(self) -> bytes:
        """The JPEG file."""
        return (_FOLDER / f"{self.name}.jpg").read_bytes()

    def read(self) -> NDArray[np.uint8]:
        """The picture, uint8 (H, W, 3) RGB; its shorter side has 256 pixels."""
        return load_image(self.content())


def photographs() -> tuple[Photograph, ...]:
    """All photographs, sorted by name."""
    listed = json.loads((_FOLDER / "sources.json").read_text("utf-8"))
    return tuple(Photograph(**entry) for entry in listed["photographs"])


def photograph(name: str) -> Photograph:
    """The photograph of a name.

    Raises:
        DataError: there is none.
    """
    found = {one.name: one for one in photographs()}
    if name not in found:
        raise DataError("no such photograph", expected=", ".join(found), got=name)
    return found[name]
