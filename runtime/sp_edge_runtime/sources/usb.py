"""Reads what a USB camera's name asks for: '0', '/dev/video0', 'v4l2:///dev/video0', or its lasting name under /dev/v4l."""

from __future__ import annotations

import sys

from sp_edge.errors import SourceError
from sp_edge_runtime.sources.address import CAMERA, KINDS
from sp_edge_runtime.sources.opencv import stable_device
from sp_edge_runtime.sources.options import SourceOptions
from sp_edge_runtime.sources.request import CaptureRequest


def usb_request(text: str, options: SourceOptions) -> CaptureRequest:
    """What to capture. A camera that is plugged in again is found by its lasting name: its number may be another one then."""
    camera = CAMERA.fullmatch(text)
    if camera is None:
        raise SourceError("this is no USB camera", expected=KINDS, got=text[:200])
    device = camera[2] or f"/dev/video{camera[1]}"
    device = stable_device(device) if sys.platform == "linux" else camera[1] or device
    return CaptureRequest.of("device", device, options)
