import dataclasses
from typing import Any

import pytest

from sp_edge.errors import SettingsError
from sp_edge_runtime.sources.options import MAX_SIDE, SourceOptions


@pytest.mark.parametrize(
    "options",
    [
        {"vid_stride": 0},
        {"vid_stride": -1},
        {"vid_stride": 1.5},
        {"vid_stride": "2"},
        {"timeout": 0},
        {"timeout": 3601},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"timeout": None},
        {"size_wh": (0, 5)},
        {"size_wh": (5, 99999)},
        {"size_wh": (5, 5, 5)},
        {"size_wh": "1280x720"},
        {"rate": 0},
        {"rate": float("nan")},
        {"flip": "sideways"},
    ],
)
def test_options_out_of_range(options: dict[str, Any]) -> None:
    ((name, value),) = options.items()
    with pytest.raises(SettingsError, match=f"{name} is out of range") as raised:
        SourceOptions(**options)
    assert raised.value.expected
    assert raised.value.got == repr(value)


def test_the_limits_are_within_the_range() -> None:
    SourceOptions(vid_stride=1, size_wh=(1, MAX_SIDE), rate=1000, timeout=3600, flip="rotate-270")


def test_options_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SourceOptions().loop = True  # type: ignore[misc]
