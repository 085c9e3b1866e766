from __future__ import annotations

import pytest

from sp_edge.errors import SettingsError
from sp_edge.view import Region
from sp_edge_runtime.streams.options import StreamOptions
from sp_edge_runtime.streams.parts import NamedRegion, Part, parts_of

HALF = Region(0, 0, 0.5, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("door=0,0,0.5,1", NamedRegion("door", HALF)),
        (" the door =0,0,0.5,1", NamedRegion("the door", HALF)),
        ("door=yard:0,0,0.5,1", NamedRegion("door", HALF, "yard")),
        ("door=rtsp://***@host/1:0,0,0.5,1", NamedRegion("door", HALF, "rtsp://***@host/1")),
        ("door=yard:10,20,30,40", NamedRegion("door", Region(10, 20, 30, 40), "yard")),
    ],
)
def test_named_regions_as_text(text: str, expected: NamedRegion) -> None:
    assert NamedRegion.parse(text) == expected


@pytest.mark.parametrize(
    "text", ["", "0,0,1,1", "=0,0,1,1", " =0,0,1,1", "door=", "door=:0,0,1,1", "door=0,0,2", "a\nb=0,0,1,1"]
)
def test_what_is_no_named_region_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        NamedRegion.parse(text)


def test_parts_are_the_sources_and_then_their_regions() -> None:
    assert parts_of(["door"]) == (Part("door", 0),)
    assert parts_of(["door"], named=[NamedRegion("a", HALF)]) == (Part("door", 0), Part("a", 0, HALF))
    named = [NamedRegion("a", HALF, "yard"), NamedRegion("b", HALF, "door")]
    assert parts_of(["door", "yard"], [HALF], named)[1:] == (Part("yard", 1, HALF), Part("a", 1, HALF), Part("b", 0, HALF))


def test_regions_that_do_not_go_together_with_the_sources() -> None:
    with pytest.raises(SettingsError, match="is of no source") as raised:
        parts_of(["door", "yard"], named=[NamedRegion("a", HALF)])
    assert raised.value.expected == "a=SOURCE:0,0,0.5,1, with one of these sources: door, yard"
    with pytest.raises(SettingsError, match="is of no source"):
        parts_of(["door"], named=[NamedRegion("a", HALF, "yard")])
    for named in ([NamedRegion("door", HALF)], [NamedRegion("a", HALF), NamedRegion("a", HALF)]):
        with pytest.raises(SettingsError, match="is taken"):
            parts_of(["door"], named=named)


def test_options_take_named_regions_alone() -> None:
    with pytest.raises(SettingsError, match="named_regions"):
        StreamOptions(named_regions=(HALF,))  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="a name in printable text"):
        NamedRegion("door", "0,0,1,1")  # type: ignore[arg-type]
