"""Imports OpenCV only when a camera or video asks for it, with its complaints kept off the terminal."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sp_edge.errors import MissingExtraError, SourceError


def opencv(purpose: str) -> Any:
    """The module cv2.

    Args:
        purpose: what asks for it, as the error's subject: 'a camera', 'writing a video'.

    Raises:
        MissingExtraError: not installed.
        SourceError: installed, but one of its libraries is missing.
    """
    # FFmpeg inside OpenCV reads this when it opens its first file; an application's own choice stands.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        cv2 = importlib.import_module("cv2")
    except ModuleNotFoundError as cause:
        raise MissingExtraError(f"{purpose} needs OpenCV", package="opencv-python-headless", extra="camera") from cause
    except ImportError as cause:
        raise SourceError(
            f"{purpose} needs OpenCV, and the installed one does not load",
            got=str(cause),
            next_step="pip install opencv-python-headless, which needs no display libraries",
        ) from cause
    with suppress(AttributeError):  # absent from some builds
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps what a library writes straight to the process's stderr from the terminal, for the moment of one call.

    OpenCV announces every WebM file there, whatever its log level. Its results are checked, so that nothing is lost.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device, no path
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
