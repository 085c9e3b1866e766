"""The cache's own idea of its place, which the other tests do not follow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sp_edge.data.cache import default_folder as original


@pytest.fixture
def default_folder() -> Callable[[], Path]:
    return original
