"""Prints a stream's labels on a terminal."""

from __future__ import annotations

import sys
from typing import TextIO

from sp_edge_runtime.sources.frames import State, StateChange
from sp_edge_runtime.streams.result import FrameResult, StreamEvent


class TerminalSink:
    """A line on a terminal whenever a label or a source's state changes.

    Args:
        stream: where to print; standard output by default.
        named: say which source a label is of.
    """

    def __init__(self, stream: TextIO | None = None, *, named: bool = False) -> None:
        self._stream = stream or sys.stdout
        self._named = named
        self._labels: dict[str, str] = {}

    def write(self, result: FrameResult) -> None:
        """Prints the frame's number, label and confidence, if the label is not the source's last one."""
        if result.label != self._labels.get(result.source):
            self._labels[result.source] = result.label
            confidence = (result.smoothed or result.prediction).confidence
            self._line(
                result.source if self._named else "", f"frame {result.frame.frame_id}: {result.label} ({confidence:.0%})"
            )

    def event(self, event: StreamEvent) -> None:
        """Prints a source's new state; what appeared or left is a label that changed, which `write` prints."""
        if isinstance(event, StateChange) and event.state is not State.INITIALIZING:
            self._line(event.source, event.state.value + (f" ({event.reason})" if event.reason else ""))
            if event.state is State.RESTARTING:
                self._labels.pop(event.source, None)

    def close(self) -> None:
        """Nothing to finish: the stream belongs to the caller."""

    def _line(self, source: str, text: str) -> None:
        print(f"{source}: {text}" if source else text, file=self._stream, flush=True)
