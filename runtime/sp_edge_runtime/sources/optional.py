"""Imports the optional packages that read and write pictures."""

from __future__ import annotations

import importlib
from typing import Any

from sp_edge.errors import MissingExtraError, SourceError


def optional(module: str, *, package: str, title: str, purpose: str, next_step: str) -> Any:
    """A module of a package that the extra 'camera' brings.

    Args:
        module: as it is imported.
        package: as pip calls it.
        title: as people call it.
        purpose: what asks for it, as the error's subject: 'a camera', 'writing a video'.
        next_step: where it is installed and does not load.

    Raises:
        MissingExtraError: not installed.
        SourceError: installed, but one of its libraries is missing.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as cause:
        raise MissingExtraError(f"{purpose} needs {title}", package=package, extra="camera") from cause
    except ImportError as cause:
        raise SourceError(
            f"{purpose} needs {title}, and the installed one does not load", got=str(cause), next_step=next_step
        ) from cause
