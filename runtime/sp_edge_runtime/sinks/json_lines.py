"""Writes a stream's results as JSON lines, to a file or to standard output."""

from __future__ import annotations

import errno
import os
import sys
import weakref
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from sp_edge.files import atomic_file, json_text
from sp_edge_runtime.sinks.writing import check_free, unwritable
from sp_edge_runtime.streams.result import FrameResult, StreamEvent


class JsonLinesSink:
    """One JSON object a line and frame, in UTF-8, and one an event, which has the key `event`.

    Lines go one by one to a temporary file beside `path`. The file takes the name `path` at `close`, and also
    when the program ends on an error, so that what was written is kept.

    Raises:
        SourceError: the file cannot be created; at `write`, the disk is full.
    """

    def __init__(self, path: Path) -> None:
        check_free(path)
        self._path = path
        with ExitStack() as stack:
            try:
                # Without a buffer: after a full disk, closing has nothing left to write that could fail again.
                self._file = stack.enter_context(stack.enter_context(atomic_file(path)).open("wb", buffering=0))
            except OSError as cause:
                raise unwritable(path, cause) from cause
            # Also runs when the program ends without `close`, and once only.
            self._finish = weakref.finalize(self, stack.pop_all().close)

    def write(self, result: FrameResult) -> None:
        """Writes one line, or nothing."""
        self._line(result.to_json())

    def event(self, event: StreamEvent) -> None:
        """Writes one line, or nothing."""
        self._line(event.to_json())

    def close(self) -> None:
        """Gives the file its name; a second call does nothing."""
        try:
            self._finish()
        except OSError as cause:
            raise unwritable(self._path, cause) from cause

    def _line(self, value: dict[str, Any]) -> None:
        line = (json_text(value) + "\n").encode()
        whole = self._file.tell()
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as cause:
            self._file.truncate(whole)
            raise unwritable(self._path, cause) from cause


class JsonStreamSink:
    """The same lines at once to a stream, for a program that reads them.

    Args:
        stream: where to print; standard output by default.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout

    def write(self, result: FrameResult) -> None:
        """Prints one line."""
        self._line(result.to_json())

    def event(self, event: StreamEvent) -> None:
        """Prints one line."""
        self._line(event.to_json())

    def close(self) -> None:
        """Nothing to finish: the stream belongs to the caller."""

    def _line(self, value: dict[str, Any]) -> None:
        print(json_text(value), file=self._stream, flush=True)
