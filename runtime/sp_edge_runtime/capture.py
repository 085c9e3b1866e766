"""Captures a live source in a process of its own: request on stdin, frames on stdout.

A driver that hangs cannot be interrupted, and one that crashes takes its process along: so it gets one that can be killed.
The request is a JSON line on standard input, not an argument: those are readable by every user of the machine. Answers are JSON
objects behind their length (4 bytes, big-endian): {"ready"} when the libraries are loaded, {"opened": fps or null}, {"frame":
number, "time", "captured", "shape": [H, W]} with H x W x 3 bytes of RGB behind it, {"ended"} or {"error"}. When standard input
ends, so does the process.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from sp_edge.errors import InputError, SourceError, SpEdgeError
from sp_edge_runtime.address import redact, redact_within

LENGTH = struct.Struct(">I")


@dataclass(frozen=True)
class CaptureRequest:
    """What is to be captured.

    Attributes:
        kind: a camera ('device'), an address for FFmpeg ('stream'), a 'gstreamer' pipeline or the 'test' scenes.
        address: the device's path or number, the URI, the pipeline's text.
        size_wh: of a camera's or the test scenes' frames; None leaves the choice to the driver.
        rate: frames a second of the same.
        stride: send every how manieth frame.
        timeout: seconds for opening, and between two frames.
    """

    kind: Literal["device", "stream", "gstreamer", "test"]
    address: str
    size_wh: tuple[int, int] | None = None
    rate: float | None = None
    stride: int = 1
    timeout: float = 5.0

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)

    @staticmethod
    def from_json(fields: dict[str, Any]) -> CaptureRequest:
        """What `to_json` gave."""
        size = fields.pop("size_wh")
        return CaptureRequest(**fields, size_wh=None if size is None else (size[0], size[1]))


class Captured(NamedTuple):
    """A captured frame: its number, its time of day and monotonic time, and uint8 (H, W, 3) RGB."""

    number: int
    time: float
    captured: float
    image_rgb: NDArray[np.uint8]


def capture(request: CaptureRequest) -> tuple[float | None, Iterator[Captured]]:
    """Opens a source: its claimed frames a second and its frames, which end when the source says that it is over.

    Raises:
        SourceError: it cannot be opened, or at a frame, it was lost.
        MissingExtraError: a library that it needs is not installed.
    """
    if request.kind == "test":
        from sp_edge_runtime.testsource import capture_test

        return capture_test(request)
    if request.kind == "gstreamer":
        from sp_edge_runtime.gstreamer import capture_pipeline

        return capture_pipeline(request)
    from sp_edge_runtime.opencv import capture_opencv

    return capture_opencv(request)


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
            for number, seconds, captured, image_rgb in frames:
                height, width = image_rgb.shape[:2]
                _send(channel, {"frame": number, "time": seconds, "captured": captured, "shape": [height, width]})
                _write(channel, np.ascontiguousarray(image_rgb).data.cast("B"))
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
