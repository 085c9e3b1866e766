"""Keeps how long the demo's steps took."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

_log = logging.getLogger(__name__)


class Clock:
    """Says when a step begins, and keeps how long it took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Times the block."""
        _log.info(f"== {step}")
        began = time.monotonic()
        yield
        self.seconds[step] = round(time.monotonic() - began, 1)
