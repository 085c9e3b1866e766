"""Remembers what is looked at of each source, in a file beside the bank: it belongs to the cameras here, not to the classes."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sp_edge.errors import SettingsError
from sp_edge.files import write_json
from sp_edge.view import Region
from sp_edge_runtime.streams.parts import NamedRegion, Part

MOST = 32  # sources and regions together
_log = logging.getLogger("sp_edge_runtime")
_Kept = dict[str, Region | NamedRegion]  # a source's own region, or a named one, by its name


class Regions:
    """What is recognized of each source, which a person may change while the stream runs.

    The sources have the numbers from 0 on, in their order. A region with a name gets the next number, which is never given
    again.

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
        self._file = file
        self._tell = tell
        self._kept = {} if file is None else _read(file)
        self._sources = [one.name for one in given[:sources]]
        parts = [self._with_kept(one) for one in given[:sources]] + list(given[sources:])
        for name, kept in self._kept.items():
            if isinstance(kept, NamedRegion) and kept.source in self._sources and name not in [one.name for one in parts]:
                parts.append(Part(name, self._sources.index(kept.source), kept.region))
        self._next = len(parts)
        self.parts: Mapping[int, Part] = dict(enumerate(parts))
        tell(self.parts)

    def set(self, number: int, region: Region | None) -> None:
        """Looks at another part of a source from the next frame on; None is all of it, of which no named region can be.

        Raises:
            SettingsError: a named region needs one, or the file cannot be written; all stays as it is.
        """
        part = replace(self.parts[number], region=region)
        if number < len(self._sources):
            self._change(number, part, region)
        elif region is None:
            raise SettingsError("a region with a name is a part of the picture", expected="a part, or to remove it", got="all")
        else:
            self._change(number, part, self._named(part))

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
        self._change(self._next, part, self._named(part))
        self._next += 1
        return self._next - 1

    def rename(self, number: int, name: str) -> None:
        """Gives a named region another name.

        Raises:
            SettingsError: it is a source itself, the name is taken or none, or the file cannot be written.
        """
        self._check_region(number)
        if name == self.parts[number].name:
            return
        self._check_free(name)
        part = replace(self.parts[number], name=name)
        self._change(number, part, self._named(part))

    def remove(self, number: int) -> None:
        """Takes a named region away.

        Raises:
            SettingsError: it is a source itself, or the file cannot be written.
        """
        self._check_region(number)
        self._change(number, None, None)

    def _with_kept(self, source: Part) -> Part:
        kept = self._kept.get(source.name)
        return replace(source, region=kept) if source.region is None and isinstance(kept, Region) else source

    def _named(self, part: Part) -> NamedRegion:
        return NamedRegion(part.name, part.region or Region(0, 0, 1, 1), self._sources[part.place])

    def _check_free(self, name: str) -> None:
        if name in [one.name for one in self.parts.values()]:
            raise SettingsError(f"“{name}” is there already", expected="another name", got=name)

    def _check_region(self, number: int) -> None:
        if number < len(self._sources):
            raise SettingsError("This is a source itself", expected="a region of one", got=self.parts[number].name)

    def _change(self, number: int, part: Part | None, kept: Region | NamedRegion | None) -> None:
        """Puts a part in a number's place, and what is to be kept of it into the file; None takes it away."""
        before = self.parts.get(number)
        after: _Kept = {name: one for name, one in self._kept.items() if before is None or name != before.name}
        parts = {**self.parts} if part is None else {**self.parts, number: part}
        if part is None:
            del parts[number]
        elif kept is not None:
            after[part.name] = kept
        if self._file is not None:
            _write(self._file, after)
        self._kept = after
        self._tell(parts)
        self.parts = parts


def regions_file(bank: Path) -> Path:
    """Where the regions of a bank's device are kept."""
    return bank.with_name(f"{bank.name}.regions.json")


def _write(file: Path, kept: _Kept) -> None:
    """Keeps regions: text of a source's own one, and an object of a named one."""
    content = {
        name: str(one) if isinstance(one, Region) else {"source": one.source, "region": str(one.region)}
        for name, one in kept.items()
    }
    try:
        write_json(file, content)
    except OSError as cause:
        raise SettingsError(
            "the part to look at cannot be kept", expected=f"a folder that can be written, {file.parent}", got=str(cause)
        ) from cause


def _read(file: Path) -> _Kept:
    """What the file holds; one that cannot be used is said, and counts as none."""
    try:
        return {name: _one(name, content) for name, content in json.loads(file.read_text("utf-8")).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError, KeyError, SettingsError) as cause:
        _log.warning("cannot use %s, so all of each picture is looked at: %s", file, cause)
        return {}


def _one(name: str, content: Any) -> Region | NamedRegion:
    if isinstance(content, str):
        return Region.parse(content)
    return NamedRegion(name, Region.parse(content["region"]), content["source"])
