from __future__ import annotations

from sp_edge.columns import counted, shortened


def test_one_thing_is_no_several() -> None:
    told = [counted(0, "shot"), counted(1, "shot"), counted(1, "class"), counted(2, "class"), counted(1234, "frame")]
    assert told == ["0 shots", "1 shot", "1 class", "2 classes", "1,234 frames"]


def test_what_is_shortened_says_how_many_there_are() -> None:
    assert shortened([]) == ""
    assert shortened(["a", "b"]) == "a, b"
    assert shortened(["a", "b", "c"], 3, " ") == "a b c"
    assert shortened({"a": 1, "b": 2, "c": 3}, 2) == "a, b and 1 more"
