"""What a stream recognizes of its sources: each source under its own name, and regions of it under theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sp_edge.errors import SettingsError
from sp_edge.view import Region
from sp_edge_runtime.sources.address import is_name

MOST = 32  # sources and named regions together
_EXPECTED = "NAME=X,Y,W,H, or NAME=SOURCE:X,Y,W,H of several sources"


@dataclass(frozen=True)
class NamedRegion:
    """A region of a source's frames that is recognized beside the source, as a source of its own.

    Attributes:
        name: what results and events call it; another one than every source's.
        region: the part of the frames.
        source: the name of the source; '' is the only one.

    Raises:
        SettingsError: no such name or region.
    """

    name: str
    region: Region
    source: str = ""

    def __post_init__(self) -> None:
        if not is_name(self.name) or not isinstance(self.region, Region) or not isinstance(self.source, str):
            got = repr((self.name, self.region, self.source))[:200]
            raise SettingsError("this is no region with a name", expected="a name in printable text, and a Region", got=got)

    @staticmethod
    def parse(text: str) -> NamedRegion:
        """A region of the form NAME=X,Y,W,H or NAME=SOURCE:X,Y,W,H.

        Raises:
            SettingsError: of another form, or out of range.
        """
        name, equals, where = text.partition("=")
        source, colon, region = where.rpartition(":")
        if not equals or not name.strip() or (colon and not source):
            raise SettingsError("this is no region with a name", expected=_EXPECTED, got=text[:200])
        return NamedRegion(name.strip(), Region.parse(region), source)


@dataclass(frozen=True)
class Part:
    """What is recognized under one name.

    Attributes:
        name: of a source, or of a region of one.
        place: of the source in the stream's sequence.
        region: which counts of its frames; None is the whole.
    """

    name: str
    place: int
    region: Region | None = None


def parts_of(names: Sequence[str], regions: Sequence[Region] = (), named: Sequence[NamedRegion] = ()) -> tuple[Part, ...]:
    """The parts of a stream: each source, then each named region.

    Args:
        names: of the sources, distinct.
        regions: what counts of the sources themselves: none, one for all, or one for each.
        named: what is recognized besides.

    Raises:
        SettingsError: the regions are neither one nor one a source, or a named region is of no source or has a name that is
            taken, or there are more than 32 sources and regions.
    """
    if named and len(names) + len(named) > MOST:
        got = f"{len(names)} and {len(named)}"
        raise SettingsError("there are too many regions", expected=f"at most {MOST} sources and regions", got=got)
    if len(regions) not in (0, 1, len(names)):
        expected = f"one for all sources, or {len(names)}"
        raise SettingsError("regions and sources do not go together", expected=expected, got=str(len(regions)))
    given: list[Region | None] = list(regions) or [None]
    given = given if len(given) == len(names) else given * len(names)
    parts = [Part(name, place, region) for place, (name, region) in enumerate(zip(names, given, strict=True))]
    for one in named:
        if one.name in (part.name for part in parts):
            taken = f"the name '{one.name}' is taken"
            raise SettingsError(taken, expected="another name for each source and region", got=one.name)
        parts.append(Part(one.name, _place_of(one, names), one.region))
    return tuple(parts)


def _place_of(one: NamedRegion, names: Sequence[str]) -> int:
    if one.source in names:
        return names.index(one.source)
    if not one.source and len(names) == 1:
        return 0
    raise SettingsError(
        f"the region '{one.name}' is of no source",
        expected=f"{one.name}=SOURCE:{one.region}, with one of these sources: {', '.join(names)}" if names else "a source",
        got=f"'{one.source}'" if one.source else "no source",
    )
