"""The process that builds a device's engines beside what serves it; `sp_edge_runtime.backends.devices` starts it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import SpEdgeError
from sp_edge_export.engines.engine import EngineOptions
from sp_edge_export.engines.policy import build_engines, installed_flavour


def main(job: str) -> None:
    """Builds with the usual options; an error goes to standard error, and the process ends with 1.

    Args:
        job: a JSON object of `bundle` (path), `precision` (null for the bundle's own) and `folder` (of all engines, null for
            the user's cache).
    """
    asked = json.loads(job)
    folder = Path(asked["folder"]) if asked["folder"] else None
    try:
        options = EngineOptions(installed_flavour())
        build_engines(Bundle.load(Path(asked["bundle"])), options, precision=asked["precision"], folder=folder)
    except SpEdgeError as error:
        sys.exit(f"error: {error}")
