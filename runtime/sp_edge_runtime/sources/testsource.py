"""The source test://: moving scenes at a steady rate, which can be told to fail so that recovery can be watched."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from urllib.parse import parse_qsl

from sp_edge.errors import SettingsError, SourceError
from sp_edge_runtime.sources.request import Captured, CaptureRequest
from sp_edge_runtime.sources.scenes import RATE, SIZE_WH, scene

FAULTS = ("fail", "hang", "end")


def parse_test(address: str) -> dict[str, int]:
    """The faults that test://?fail=N&hang=N&end=N asks for: the capture is lost, hangs or ends after N frames.

    Raises:
        SettingsError: another fault, or no number of frames.
    """
    query = address.partition("://")[2].lstrip("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    wrong = (query and not pairs) or any(
        name not in FAULTS or not re.fullmatch(r"[1-9][0-9]{0,8}", value) for name, value in pairs
    )
    if wrong or len(dict(pairs)) != len(pairs):
        raise SettingsError(
            "no such test source", expected="test:// or test://?fail=N, ?hang=N, ?end=N (frames)", got=address[:200]
        )
    return {name: int(value) for name, value in pairs}


def capture_test(request: CaptureRequest) -> tuple[float | None, Iterator[Captured | None]]:
    """The scenes as a capture; a rate of 25 and 640x480 pixels where nothing else was asked for."""
    rate = request.rate or RATE
    return rate, _frames(request, rate, parse_test(request.address))


def _frames(request: CaptureRequest, rate: float, faults: dict[str, int]) -> Iterator[Captured | None]:
    began = time.monotonic()
    for number in itertools.count():
        if number == faults.get("end"):
            return
        if number == faults.get("fail"):
            raise SourceError("the test source failed, as it was told to")
        while number == faults.get("hang"):
            time.sleep(3600)
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        seconds, captured = time.time(), time.monotonic()
        if number % request.stride == 0:
            yield Captured(number, seconds, captured, scene(number, request.size_wh or SIZE_WH))
        else:
            yield None
