"""Opens the video or the pictures at a path."""

from __future__ import annotations

import glob
import logging
import re
from pathlib import Path

from sp_edge.errors import SourceError
from sp_edge.picture_files import Found, chosen, pictures_in, why_not
from sp_edge_runtime.sources.address import KINDS, redact
from sp_edge_runtime.sources.frames import Source
from sp_edge_runtime.sources.options import SourceOptions
from sp_edge_runtime.sources.pictures import PictureSource
from sp_edge_runtime.sources.recorded import VideoFileSource

_log = logging.getLogger(__name__)


def open_files(text: str, options: SourceOptions) -> Source:
    """A video, a picture, a folder of pictures or a glob of pictures.

    Raises:
        SourceError: nothing is there, or nothing that can be read.
        MissingExtraError: a video, and the package that reads it is not installed.
    """
    path = Path(text)
    try:
        if path.is_file():
            found = Found((path,))
            why = why_not(path)
            if why in ("", "video", "unreadable"):
                return VideoFileSource(path, options)
            if why is not None:
                raise SourceError(f"cannot read {path}", expected=KINDS, got=why)
        elif path.is_dir():
            found = pictures_in(path)
        elif glob.has_magic(text):
            # Path.glob takes no absolute patterns.
            found = chosen(sorted(Path(name) for name in glob.glob(text, recursive=True)))  # noqa: PTH207
        else:
            raise SourceError(f"no source at {redact(text)}", expected=KINDS, got="nothing")
    except (OSError, ValueError, re.error) as cause:
        raise SourceError(f"cannot look up {redact(text)[:200]!r}", expected="a path", got=str(cause)) from cause
    note = found.told(text)
    if not found.files:
        raise SourceError(f"no pictures in {text}", expected="JPEG, PNG or other pictures", got=note or "none")
    if note:
        _log.info(note)
    return PictureSource(found.files, text, options)


def may_be_new(text: str) -> bool:
    """Whether a path names neither a folder nor a glob, so that it may be that of a file that is yet to be written."""
    return not Path(text).is_dir() and not glob.has_magic(text)
