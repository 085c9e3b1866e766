"""Which files are the pictures that a user named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sp_edge.errors import DataError

EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm"})


def image_files(folder: Path) -> list[Path]:
    """The pictures directly in a folder, sorted by name; hidden files are passed over.

    A link that leads nowhere counts as a picture, so that it is missed where it is read.
    """
    named = (p for p in folder.iterdir() if p.suffix.lower() in EXTENSIONS and not p.name.startswith("."))
    return sorted(p for p in named if p.is_file() or not p.exists())


def pictures_at(places: Sequence[Path]) -> list[Path]:
    """The pictures that a user named: files as they are, folders as the pictures in them.

    Raises:
        DataError: there are none, or a place does not exist.
    """
    files: list[Path] = []
    for place in places:
        if not place.exists():
            raise DataError(f"nothing at {place}", expected="a picture, or a folder of pictures")
        found = image_files(place) if place.is_dir() else [place]
        if not found:
            raise DataError(f"no pictures in {place}", expected="JPEG, PNG or other pictures", got="none")
        files += found
    if not files:
        raise DataError("no pictures were named", expected="pictures, or folders that hold some", got="nothing")
    return files
