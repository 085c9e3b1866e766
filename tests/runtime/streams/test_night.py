from __future__ import annotations

import pytest

from sp_edge_runtime.streams.night import ROW, NightWatch


def told(log: pytest.LogCaptureFixture, watch: NightWatch, frames: str) -> list[str]:
    """What is logged of frames, 'g' for gray ones."""
    log.clear()
    for frame in frames:
        watch.update(frame == "g")
    return [message.split()[1] + message.split()[2] for message in log.messages]


def test_each_change_is_told_once_and_a_few_frames_are_none(log: pytest.LogCaptureFixture) -> None:
    watch = NightWatch("door", timed=True)
    assert told(log, watch, "c" * 30 + ("g" * (ROW - 1) + "c") * 3) == []
    assert told(log, watch, "g" * 3 * ROW) == ["isgray,"]
    assert log.messages[0].startswith("door is gray")
    assert told(log, watch, "gc" * ROW) == []
    assert told(log, watch, "c" * ROW + "g" * ROW) == ["hascolor", "isgray,"]


def test_of_pictures_the_first_is_told(log: pytest.LogCaptureFixture) -> None:
    watch = NightWatch("photos", timed=False)
    assert len(told(log, watch, "c" * 5 + "gcgcg" + "c" * 40 + "g" * 40)) == 1
    assert log.messages[0].startswith("a picture of photos is gray, and classes were taught in color")
