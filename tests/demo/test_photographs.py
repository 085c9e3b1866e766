from __future__ import annotations

import pytest

pytest.importorskip("matplotlib")

from sp_edge.demo.photographs import BOTH, PARTS, STRANGERS, TAUGHT
from sp_edge.demo.strip import STRIP
from sp_edge.photographs import photograph

FREE = {"CC0-1.0", "public domain"}


def test_parts_lie_in_their_photograph_and_strangers_were_not_taught() -> None:
    height, width = photograph(BOTH).read().shape[:2]
    for left, top, side in PARTS.values():
        assert 0 <= left <= width - side
        assert 0 <= top <= height - side
    assert not set(STRANGERS) & {*TAUGHT.values(), BOTH}


def test_the_strip_needs_no_credit() -> None:
    assert {photograph(file).license for file in (BOTH, *(TAUGHT[name] for name in STRIP))} <= FREE
