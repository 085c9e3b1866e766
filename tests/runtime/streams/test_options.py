import dataclasses
from typing import Any

import pytest

from sp_edge.errors import SettingsError
from sp_edge_runtime.streams.options import StreamOptions
from sp_edge_runtime.streams.smoothing import Smoothing


@pytest.mark.parametrize(
    "options",
    [
        {"max_frames": 0},
        {"max_frames": 1.5},
        {"max_fps": 0},
        {"max_fps": -1},
        {"max_fps": float("nan")},
        {"max_fps": float("inf")},
        {"max_staleness": 0},
        {"max_staleness": "1"},
        {"smoothing": 0.3},
        {"smoothing": None},
    ],
)
def test_options_out_of_range(options: dict[str, Any]) -> None:
    ((name, value),) = options.items()
    with pytest.raises(SettingsError, match=f"{name} is out of range") as raised:
        StreamOptions(**options)
    assert raised.value.got == repr(value)


def test_labels_are_smoothed_unless_told_otherwise() -> None:
    assert StreamOptions().smoothing == Smoothing()
    with pytest.raises(dataclasses.FrozenInstanceError):
        StreamOptions().max_fps = 1.0  # type: ignore[misc]
