"""Captures a live source in a process of its own: request on stdin, frames on stdout.

A driver that hangs cannot be interrupted, and one that crashes takes its process along: so it gets one that can be killed.
The request is a JSON line on standard input, not an argument: those are readable by every user of the machine. Answers are JSON
objects behind their length (4 bytes, big-endian): {"ready"} when the libraries are loaded, {"opened": fps or null}, {"frame":
number, "time", "captured", "damaged", "shape": [H, W]} with H x W x 3 bytes of RGB behind it, {"alive"} for a frame that is
left out, {"ended"} or {"error"}. When standard input ends, so does the process.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any, NoReturn

import numpy as np

from sp_edge.errors import InputError, SourceError, SpEdgeError
from sp_edge_runtime.sources.address import redact, redact_within
from sp_edge_runtime.sources.request import Captured, CaptureRequest

LENGTH = struct.Struct(">I")


def capture(request: CaptureRequest) -> tuple[float | None, Iterator[Captured | None]]:
    """Opens a source: its claimed frames a second and its frames, which end when the source says that it is over.

    None stands for a frame that the stride leaves out: a sign of life.

    Raises:
        SourceError: it cannot be opened, or at a frame, it was lost.
        MissingExtraError: a library that it needs is not installed.
    """
    if request.kind == "test":
        from sp_edge_runtime.sources.testsource import capture_test

        return capture_test(request)
    if request.kind == "gstreamer":
        from sp_edge_runtime.sources.gstreamer import capture_pipeline

        return capture_pipeline(request)
    if request.kind == "stream":
        from sp_edge_runtime.sources.network import capture_network

        return capture_network(request)
    from sp_edge_runtime.sources.opencv import capture_device

    return capture_device(request)


def main() -> None:
    """What the process does."""
    channel = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not come between the frames
    request = CaptureRequest.from_json(json.loads(sys.stdin.buffer.readline()))
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    try:
        _send(channel, {"ready": True})
        fps, frames = capture(request)
        _send(channel, {"opened": fps})
        with closing(frames):  # type: ignore[type-var]
            for frame in frames:
                if frame is None:
                    _send(channel, {"alive": True})
                    continue
                told = {"frame": frame.number, "time": frame.time, "captured": frame.captured, "damaged": frame.damaged}
                _send(channel, {**told, "shape": frame.image_rgb.shape[:2]})
                _write(channel, np.ascontiguousarray(frame.image_rgb).data.cast("B"))
        _send(channel, {"ended": True})
    except BrokenPipeError:
        pass  # the parent has no more use for frames
    except Exception as cause:  # whatever a driver raises: the parent must hear of it
        _send(channel, {"error": _described(cause, request.address)})
    # Not by returning: a driver's thread that hangs would keep the process.
    os._exit(0)


def is_fatal(cause: Exception) -> bool:
    """Whether trying again cannot mend it: what was asked for is wrong, or something is not installed."""
    return isinstance(cause, InputError) and not isinstance(cause, SourceError)


def _described(cause: Exception, address: str) -> dict[str, Any]:
    """An error as the parent raises it again."""
    if isinstance(cause, SpEdgeError):
        fields = {"what": cause.what, "expected": cause.expected, "got": cause.got, "next_step": cause.next_step}
    else:
        fields = {"what": f"{redact(address)} failed", "got": f"{type(cause).__name__}: {cause}"}
    shown: dict[str, Any] = {name: redact_within(text, address) for name, text in fields.items()}
    package = {"package": getattr(cause, "package", None), "extra": getattr(cause, "extra", None)}
    return {**shown, **package, "fatal": is_fatal(cause)}


def _end_with_the_parent() -> NoReturn:
    sys.stdin.buffer.read()
    os._exit(0)


def _send(channel: int, message: dict[str, Any]) -> None:
    content = json.dumps(message).encode()
    _write(channel, memoryview(LENGTH.pack(len(content)) + content))


def _write(channel: int, content: memoryview) -> None:
    while content:
        content = content[os.write(channel, content) :]
