"""Reads what a USB camera's name asks for: '0', '/dev/video0', 'v4l2:///dev/video0', or its lasting name under /dev/v4l."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from sp_edge.errors import SourceError
from sp_edge_runtime.sources.address import CAMERA, KINDS
from sp_edge_runtime.sources.options import SourceOptions
from sp_edge_runtime.sources.request import CaptureRequest

BY_ID = Path("/dev/v4l/by-id")


def usb_request(text: str, options: SourceOptions) -> CaptureRequest:
    """What to capture. A camera that is plugged in again is found by its lasting name: its number may be another one then."""
    camera = CAMERA.fullmatch(text)
    if camera is None:
        raise SourceError("this is no USB camera", expected=KINDS, got=text[:200])
    device = camera[2] or f"/dev/video{camera[1]}"
    device = stable_device(device) if sys.platform == "linux" else camera[1] or device
    return CaptureRequest.of("device", device, options)


def stable_device(device: str, by_id: Path = BY_ID) -> str:
    """The name under /dev/v4l/by-id of a camera such as '/dev/video0', which it keeps when it is plugged in again.

    The device itself where it has no such name.
    """
    with suppress(OSError):
        for link in sorted(by_id.iterdir()):
            if link.resolve() == Path(device).resolve():
                return str(link)
    return device
