"""Which files are the pictures that a user named, and which are not taken."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sp_edge.columns import counted, shortened
from sp_edge.errors import DataError
from sp_edge.picture_kinds import GET_HEIC, HEAD, READ, kind_of

# A file that is called so is meant as a picture, whole or not. Any other is looked into.
EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"})
_TIFF = frozenset({".tif", ".tiff", ""})  # raw files of cameras are TIFF inside, with a thumbnail as the first picture
_NOT_OURS = frozenset({"__MACOSX", "@eaDir"})  # folders in which systems keep thumbnails and notes
_HEIC = f"HEIC ({GET_HEIC} reads it)"


@dataclass(frozen=True)
class Found:
    """The pictures that were chosen, and what was not.

    Attributes:
        files: the pictures, each folder's sorted by name, before those of the folders in it.
        left_out: file -> why; pictures and videos that a user may have meant.
        passed: how many other files there are, hidden ones among them.
        deeper: how many of the pictures lie in folders of the folder.
    """

    files: tuple[Path, ...] = ()
    left_out: Mapping[Path, str] = field(default_factory=dict)
    passed: int = 0
    deeper: int = 0

    @classmethod
    def of(cls, parts: Iterable[Found]) -> Found:
        """All of several."""
        every = list(parts)
        return cls(
            tuple(file for part in every for file in part.files),
            {file: why for part in every for file, why in part.left_out.items()},
            sum(part.passed for part in every),
            sum(part.deeper for part in every),
        )

    def told(self, *where: object) -> str:
        """One line with the counts, such as 'photos: 6 pictures; left out 2 as video (such as a.mp4)'; '' if all was taken.

        Args:
            where: the places that were named, of which three are told.
        """
        if not (self.left_out or self.passed or self.deeper):
            return ""
        deeper = f" ({self.deeper} in folders below)" if self.deeper else ""
        line = f"{shortened(list(map(str, where)), 3, ' ')}: {counted(len(self.files), 'picture')}{deeper}"
        first = {why: file for file, why in reversed(list(self.left_out.items()))}
        kinds = [f"{count} as {why} (such as {first[why]})" for why, count in Counter(self.left_out.values()).items()]
        if kinds:
            line += f"; left out {', '.join(kinds)}"
        return line + (f"; passed over {counted(self.passed, 'other file')}" if self.passed else "")


def pictures_in(folder: Path, *, deep: bool = True) -> Found:
    """The pictures in a folder, and with `deep` in the folders below it; links to folders are followed once.

    A link that leads nowhere counts as a picture if it is called like one, so that it is missed where it is read.
    """
    found: list[Found] = []
    seen: set[str] = set()
    unopened: dict[Path, str] = {}

    def cannot(error: OSError) -> None:
        unopened[Path(error.filename)] = "a folder that cannot be opened"

    for place, folders, names in os.walk(folder, onerror=cannot, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = sorted(name for name in folders if deep and not name.startswith(".") and name not in _NOT_OURS)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        here = chosen(Path(place, name) for name in sorted(names))
        found.append(here if place == str(folder) else dataclasses.replace(here, deeper=len(here.files)))
    return Found.of([*found, Found(left_out=unopened)])


def chosen(files: Iterable[Path]) -> Found:
    """The pictures among files, in their order."""
    pictures, left_out, passed = [], {}, 0
    for file in files:
        why = "" if file.name.startswith(".") else why_not(file)
        if why is None:
            pictures.append(file)
        elif why:
            left_out[file] = why
        else:
            passed += 1
    return Found(tuple(pictures), left_out, passed)


def why_not(file: Path) -> str | None:
    """Why a file is no picture that can be taken.

    Returns:
        None if it is one, whole or not; 'video', 'unreadable' or the kind of picture that is not read; '' for anything else.
    """
    ending = file.suffix.lower()
    try:
        if ending in EXTENSIONS:
            return None if file.is_file() or not file.exists() else ""
        if not file.is_file():
            return ""
        with file.open("rb") as content:
            kind = kind_of(content.read(HEAD))
    except OSError:
        return "unreadable"
    if kind == "HEIC" and importlib.util.find_spec("pillow_heif") is None:
        return _HEIC
    if kind == "TIFF" and ending not in _TIFF:
        kind = "raw"
    return None if kind in READ else kind


def pictures_of_class(folder: Path, next_step: str, *, most: int = 1) -> Found:
    """The pictures of one class: in a folder, and in the folders below it.

    Args:
        next_step: what the error advises.
        most: in how many folders the pictures may be, where the folder itself holds none.

    Raises:
        DataError: the folder holds no picture itself, but folders that may be classes.
    """
    found = pictures_in(folder)
    if found.files and found.deeper == len(found.files):
        below = sorted({file.relative_to(folder).parts[0] for file in found.files})
        if len(below) > most:
            raise DataError(
                f"{folder} holds folders with pictures, and no picture itself",
                expected="the pictures of one class" + (", in it or in one folder in it" if most else " in it"),
                got=f"pictures in {shortened(below)}",
                next_step=next_step,
            )
    return found


def pictures_at(places: Sequence[Path], look: Callable[[Path], Found] = pictures_in) -> Found:
    """The pictures that a user named: files as they are, folders as the pictures in them.

    Args:
        look: finds those of a folder.

    Raises:
        DataError: there are none, or a place does not exist.
    """
    every: list[Found] = []
    for place in places:
        if not place.exists():
            raise DataError(f"nothing at {place}", expected="a picture, or a folder of pictures")
        found = look(place) if place.is_dir() else Found((place,))
        if not found.files:
            raise DataError(
                f"no pictures in {place}",
                expected="JPEG, PNG or other pictures",
                got=found.told("in it") or "none",
                next_step=GET_HEIC if _HEIC in found.left_out.values() else "",
            )
        every.append(found)
    if not every:
        raise DataError("no pictures were named", expected="pictures, or folders that hold some", got="nothing")
    return Found.of(every)
