"""Writes a stream's results as JSON lines, to a file or to standard output."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path
from typing import Any, BinaryIO

from sp_edge.files import json_text
from sp_edge_runtime.sinks.writing import unwritable
from sp_edge_runtime.streams.result import FrameResult, StreamEvent


class JsonLinesSink:
    """One JSON object a line and frame, in UTF-8, and one an event, which has the key `event`.

    Each line is in the file as soon as it is written: a program that is killed loses none. Lines are added after those that
    an earlier run left. Links are followed; a FIFO, a device or /dev/stdout is written to.

    Args:
        path: of the file. Folders that are missing are made.

    Raises:
        SourceError: the file cannot be written; at `write`, the disk is full. The file then ends with a whole line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # A file is read, too: it may end in half a line. Of a FIFO that is also read, nobody tells when its reader leaves.
            access = os.O_RDWR if path.is_file() or not path.exists() else os.O_WRONLY
            file = os.open(path, access | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as cause:
            raise unwritable(path, cause) from cause
        self._file = os.fdopen(file, "wb", buffering=0)
        self._regular = stat.S_ISREG(os.fstat(file).st_mode)
        self._pending = b"\n" if self._regular and _ends_in_half_a_line(file) else b""

    def write(self, result: FrameResult) -> None:
        """Writes one line, or nothing."""
        self._line(result.to_json())

    def event(self, event: StreamEvent) -> None:
        """Writes one line, or nothing."""
        self._line(event.to_json())

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        self._file.close()

    def _line(self, value: dict[str, Any]) -> None:
        line = self._pending + _encoded(value)
        written = 0
        try:
            while written < len(line):
                more = self._file.write(line[written:]) or 0
                if not more:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                written += more
        except OSError as cause:
            if self._regular and written:  # half a line, for which the disk had room
                self._file.truncate(self._file.tell() - written)
            raise unwritable(self._path, cause) from cause
        self._pending = b""


class JsonStreamSink:
    """The same lines at once to standard output, for a program that reads them; in UTF-8, whatever the locale.

    Args:
        stream: where to write; standard output by default.
    """

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self._stream = stream or sys.stdout.buffer

    def write(self, result: FrameResult) -> None:
        """Writes one line."""
        self._line(result.to_json())

    def event(self, event: StreamEvent) -> None:
        """Writes one line."""
        self._line(event.to_json())

    def close(self) -> None:
        """Nothing to finish: the stream belongs to the caller."""

    def _line(self, value: dict[str, Any]) -> None:
        self._stream.write(_encoded(value))
        self._stream.flush()


def _encoded(value: dict[str, Any]) -> bytes:
    return (json_text(value) + "\n").encode()


def _ends_in_half_a_line(file: int) -> bool:
    """Whether an open regular file has content whose last line was never finished."""
    size = os.fstat(file).st_size
    return size > 0 and os.pread(file, 1, size - 1) != b"\n"
