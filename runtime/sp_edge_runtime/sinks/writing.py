"""What the sinks that write files share."""

from __future__ import annotations

from pathlib import Path

from sp_edge.errors import SourceError


def check_free(path: Path) -> None:
    """Raises SourceError where a folder is at the path: now, and not after a day of results, when the file takes its name."""
    if path.is_dir():
        raise SourceError(f"cannot write {path}", expected="the name of a file", got="a folder")


def unwritable(path: Path, cause: OSError) -> SourceError:
    """The error that a file cannot be written."""
    return SourceError(f"cannot write {path}", expected="a folder with room that may be written to", got=str(cause))
