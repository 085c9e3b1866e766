"""Remembers what is looked at of each source, in a file beside the bank: it belongs to the cameras here, not to the classes."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from sp_edge.errors import SettingsError
from sp_edge.files import write_json
from sp_edge.view import Region

_log = logging.getLogger("sp_edge_runtime")


class Regions:
    """A region a source, which a person may change while the stream runs.

    Attributes:
        now: of each source, or None for all of its picture; the stream reads it at every frame.

    Args:
        names: of the sources.
        given: of each source, from the command line; these count more than what the file has.
        file: keeps the regions; None to forget them.
    """

    def __init__(self, names: Sequence[str], given: Sequence[Region | None], file: Path | None = None) -> None:
        self._names = names
        self._file = file
        self._kept = {} if file is None else _read(file)
        self.now: list[Region | None] = [one or self._kept.get(name) for name, one in zip(names, given, strict=True)]

    def set(self, place: int, region: Region | None) -> None:
        """Looks at another part of a source from the next frame on.

        Raises:
            SettingsError: the file cannot be written; all stays as it is.
        """
        kept = {name: one for name, one in self._kept.items() if name != self._names[place]}
        if region is not None:
            kept[self._names[place]] = region
        if self._file is not None:
            try:
                write_json(self._file, {name: str(one) for name, one in kept.items()})
            except OSError as cause:
                raise SettingsError(
                    "the part to look at cannot be kept",
                    expected=f"a folder that can be written, {self._file.parent}",
                    got=str(cause),
                ) from cause
        self._kept = kept
        self.now[place] = region


def regions_file(bank: Path) -> Path:
    """Where the regions of a bank's device are kept."""
    return bank.with_name(f"{bank.name}.regions.json")


def _read(file: Path) -> dict[str, Region]:
    """What the file holds; one that cannot be used is said, and counts as none."""
    try:
        return {str(name): Region.parse(text) for name, text in json.loads(file.read_text("utf-8")).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError, SettingsError) as cause:
        _log.warning("cannot use %s, so all of each picture is looked at: %s", file, cause)
        return {}
