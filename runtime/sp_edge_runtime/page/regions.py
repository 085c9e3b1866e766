"""Remembers what is looked at of each source, in a file beside the bank: it belongs to the cameras here, not to the classes."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sp_edge.errors import SettingsError
from sp_edge.files import locked, write_json
from sp_edge.view import Region
from sp_edge_runtime.streams.parts import MOST, NamedRegion, Part

_log = logging.getLogger("sp_edge_runtime")
_Key = tuple[str, str]  # the name of a source, and of a region of it; '' is its own


class Regions:
    """What is recognized of each source, which a person may change while the stream runs.

    The sources have the numbers from 0 on, in their order. A region with a name gets the next number, which is never given
    again. What the command line gave can be drawn anew until the next start, and keeps its name.

    Attributes:
        parts: by their numbers, the sources first; replaced as a whole at each change.

    Args:
        given: the sources, then the named regions of the command line; these count more than what the file has.
        sources: how many there are.
        file: keeps what is changed; None to forget it.
        tell: is called with the parts, now and before a change counts.
    """

    def __init__(
        self,
        given: Sequence[Part],
        sources: int,
        file: Path | None = None,
        tell: Callable[[Mapping[int, Part]], None] = lambda _: None,
    ) -> None:
        self._file = None if file is None else _File(file)
        self._tell = tell
        kept: dict[_Key, Region] = {} if self._file is None else self._file.read()
        self._sources = [one.name for one in given[:sources]]
        self._given = len(given)
        parts = [one if one.region else replace(one, region=kept.get((one.name, ""))) for one in given[:sources]]
        parts += given[sources:]
        own = {self._key(number, part) for number, part in enumerate(given)}
        for (source, name), region in kept.items():
            if not name or source not in self._sources or (source, name) in own:
                continue
            if len(parts) >= MOST or name in [one.name for one in parts]:
                why = "there are too many" if len(parts) >= MOST else "its name is taken"
                _log.warning("the region '%s' of %s, kept in %s, is not recognized: %s", name, source, file, why)
                continue
            parts.append(Part(name, self._sources.index(source), region))
        self._next = len(parts)
        self.parts: Mapping[int, Part] = dict(enumerate(parts))
        tell(self.parts)

    def fixed(self, number: int) -> bool:
        """Whether the command line gave it, which alone names it and takes it away."""
        return number < self._given

    def set(self, number: int, region: Region | None) -> None:
        """Looks at another part of a source from the next frame on; None is all of it, of which no named region can be.

        Raises:
            SettingsError: a named region needs one, or the file cannot be written; all stays as it is.
        """
        if number >= len(self._sources) and region is None:
            raise SettingsError("a region with a name is a part of the picture", expected="a part, or to remove it", got="all")
        self._change(number, replace(self.parts[number], region=region))

    def add(self, number: int, name: str, region: Region) -> int:
        """Recognizes another region of a source's frames, under a name of its own; gives its number.

        Args:
            number: of the source, or of another region of it.
            name: another one than all others.
            region: the part of the frames.

        Raises:
            SettingsError: the name is taken or none, there are 32 already, or the file cannot be written.
        """
        if len(self.parts) >= MOST:
            raise SettingsError("There are too many regions", expected=f"at most {MOST} sources and regions", got="another one")
        part = Part(name, self.parts[number].place, region)
        self._check_free(name)
        self._check_part(part)
        self._change(self._next, part)
        self._next += 1
        return self._next - 1

    def rename(self, number: int, name: str) -> None:
        """Gives a named region another name.

        Raises:
            SettingsError: it is a source itself or of the command line, the name is taken or none, or the file cannot be
                written.
        """
        self._check_region(number)
        if name == self.parts[number].name:
            return
        self._check_free(name)
        part = replace(self.parts[number], name=name)
        self._check_part(part)
        self._change(number, part)

    def remove(self, number: int) -> None:
        """Takes a named region away.

        Raises:
            SettingsError: it is a source itself or of the command line, or the file cannot be written.
        """
        self._check_region(number)
        self._change(number, None)

    def _key(self, number: int, part: Part) -> _Key:
        return self._sources[part.place], part.name if number >= len(self._sources) else ""

    def _check_part(self, part: Part) -> None:
        NamedRegion(part.name, part.region or Region(0, 0, 1, 1), self._sources[part.place])

    def _check_free(self, name: str) -> None:
        if name in [one.name for one in self.parts.values()]:
            raise SettingsError(f"“{name}” is there already", expected="another name", got=name)

    def _check_region(self, number: int) -> None:
        if number < len(self._sources):
            raise SettingsError("This is a source itself", expected="a region of one", got=self.parts[number].name)
        if self.fixed(number):
            name = self.parts[number].name
            raise SettingsError(
                f"“{name}” is a region of the command line",
                expected="a region that was added on the page",
                got=name,
                next_step=f"change --region {name}=... and start again",
            )

    def _change(self, number: int, part: Part | None) -> None:
        """Puts a part in a number's place, and into the file; None takes it away."""
        before = self.parts.get(number)
        parts = {**self.parts} if part is None else {**self.parts, number: part}
        if part is None:
            del parts[number]
        if self._file is not None:
            gone = None if before is None else self._key(number, before)
            come = {} if part is None or part.region is None else {self._key(number, part): part.region}
            self._file.change(gone, come)
        self._tell(parts)
        self.parts = parts


def regions_file(bank: Path) -> Path:
    """Where the regions of a bank's device are kept."""
    return bank.with_name(f"{bank.name}.regions.json")


class _File:
    """A list of regions, each with its `source`, its `name` if it has one, and X,Y,W,H; entries of other forms stay in it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[_Key, Region]:
        """What the file holds; what cannot be used is said, and passed over."""
        try:
            kept, others = _sorted(_entries(self._path))
        except (OSError, ValueError, RecursionError) as cause:
            _log.warning("cannot use %s, so all of each picture is looked at: %s", self._path, cause)
            return {}
        for entry, why in others:
            _log.warning("%s has a region that cannot be used, and keeps it: %s", self._path, why or repr(entry)[:200])
        return kept

    def change(self, gone: _Key | None, come: Mapping[_Key, Region]) -> None:
        """Takes a region out of the file and adds others; what another process has written meanwhile stays in it.

        Raises:
            SettingsError: the file cannot be used or written; it stays as it is.
        """
        try:
            with locked(self._path) as place:
                kept, others = _sorted(_entries(place))
                if gone is None and (taken := set(kept).intersection(come)):
                    raise SettingsError("There is a region of that name already", expected="another name", got=str(taken))
                kept = {key: region for key, region in kept.items() if key != gone} | dict(come)
                named = [
                    {"source": source, **({"name": name} if name else {}), "region": str(one)}
                    for (source, name), one in kept.items()
                ]
                write_json(place, [*named, *(entry for entry, _ in others)])
        except OSError as cause:
            expected = f"a folder that can be written, {self._path.parent}"
            raise SettingsError("the part to look at cannot be kept", expected=expected, got=str(cause)) from cause
        except (ValueError, RecursionError) as cause:
            raise SettingsError(
                "the part to look at cannot be kept",
                expected=f"a file of regions, {self._path}",
                got=str(cause),
                next_step="repair it or take it away",
            ) from cause


def _entries(path: Path) -> list[Any]:
    """What stands in the file; nothing where there is none.

    Raises:
        OSError, ValueError, RecursionError: it cannot be read.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return []
    if not isinstance(content, dict | list):
        raise ValueError("neither a list nor an object")
    return content if isinstance(content, list) else [_entry(name, one) for name, one in content.items()]


def _sorted(entries: Sequence[Any]) -> tuple[dict[_Key, Region], list[tuple[Any, str]]]:
    """The regions, and entries that cannot be used, each with the reason."""
    kept: dict[_Key, Region] = {}
    others: list[tuple[Any, str]] = []
    for entry in entries:
        found = _region(entry)
        if isinstance(found, str):
            others.append((entry, found))
        else:
            kept[found.source, found.name if "name" in entry else ""] = found.region
    return kept, others


def _region(entry: Any) -> NamedRegion | str:
    """The region that an entry describes, or why it describes none; '' where its form says all."""
    try:
        return NamedRegion(entry.get("name", "the source"), Region.parse(entry["region"]), entry["source"])
    except (AttributeError, TypeError, KeyError, SettingsError) as cause:
        return str(cause)


def _entry(name: str, one: Any) -> Any:
    """An entry of the earlier form: by its name, text of a source's own region, or an object of a named one."""
    if isinstance(one, str):
        return {"source": name, "region": one}
    return {"name": name, **(one if isinstance(one, dict) else {"region": one})}
