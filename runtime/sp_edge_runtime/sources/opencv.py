"""Captures through OpenCV, which is imported only when a camera or video asks for it and kept off the terminal."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.errors import SettingsError, SourceError
from sp_edge_runtime.sources.address import redact
from sp_edge_runtime.sources.optional import optional
from sp_edge_runtime.sources.request import Captured, CaptureRequest

RETRY = 0.01  # seconds between attempts to read a camera that gave no frame


def opencv(purpose: str) -> Any:
    """The module cv2.

    Args:
        purpose: as `optional` takes it.

    Raises:
        MissingExtraError, SourceError: as `optional`.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # FFmpeg inside it is silent, unless an application chose otherwise
    cv2 = optional(
        "cv2",
        package="opencv-python-headless",
        title="OpenCV",
        purpose=purpose,
        next_step="pip install opencv-python-headless, which needs no display libraries",
    )
    with suppress(AttributeError):  # absent from some builds
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


def has_gstreamer(cv2: Any) -> bool:
    """Whether this OpenCV was built with GStreamer, as JetPack's was and pip's was not."""
    return re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()) is not None


def retrieve_rgb(capture: Any, cv2: Any) -> NDArray[np.uint8] | None:
    """The frame that a cv2.VideoCapture grabbed as uint8 (H, W, 3) RGB; None where it does not decode.

    Raises:
        SourceError: the frame is not uint8 (H, W, 3).
    """
    decoded, image_bgr = capture.retrieve()
    if not decoded or image_bgr is None:
        return None
    if image_bgr.dtype != np.uint8 or image_bgr.ndim != 3 or image_bgr.shape[2] != 3:
        got = f"{image_bgr.dtype} {image_bgr.shape}"
        raise SourceError("the frames have a form that is not supported", expected="uint8 (H, W, 3)", got=got)
    return np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB))


def capture_device(request: CaptureRequest) -> tuple[float | None, Iterator[Captured | None]]:
    """Opens a USB camera; see `capture`."""
    device = request.address
    if device.startswith("/dev/") and not Path(device).exists():  # asked first: loading OpenCV takes a moment of the CPU
        raise SourceError(
            f"cannot open {device}", expected="a camera", got="no such device", next_step="ls /dev/video* shows the cameras"
        )
    cv2 = opencv("a camera")
    return capture_from(_open_device(cv2, request), cv2, request)


def capture_from(capture: Any, cv2: Any, request: CaptureRequest) -> tuple[float | None, Iterator[Captured | None]]:
    """The frames of an open cv2.VideoCapture, which belongs to them from now on."""
    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if 0 < rate <= 1000 else None, _frames(capture, cv2, request)


def _frames(capture: Any, cv2: Any, request: CaptureRequest) -> Iterator[Captured | None]:
    number, latest = 0, time.monotonic()
    try:
        while True:
            if not capture.grab():
                if time.monotonic() - latest > request.timeout:
                    raise SourceError(
                        f"{redact(request.address)} gives no frames",
                        expected=f"one within {request.timeout:g} s",
                        next_step="check the cable",
                    )
                time.sleep(RETRY)  # a camera's hiccup
                continue
            seconds, latest = time.time(), time.monotonic()
            if number % request.stride:
                yield None
            elif (image_rgb := retrieve_rgb(capture, cv2)) is not None:
                yield Captured(number, seconds, latest, image_rgb)
            number += 1
    finally:
        capture.release()


def _open_device(cv2: Any, request: CaptureRequest) -> Any:
    device = request.address
    # FFmpeg would take a device for a file, and a link's name tells V4L2 nothing.
    capture = cv2.VideoCapture(str(Path(device).resolve()), cv2.CAP_V4L2) if "/" in device else cv2.VideoCapture(int(device))
    if not capture.isOpened():
        capture.release()
        raise SourceError(
            f"cannot open {device}",
            expected="a camera that delivers",
            next_step="ls /dev/video* shows the cameras; another program may hold this one",
        )
    if request.size_wh and request.size_wh[0] * request.size_wh[1] > 640 * 480:
        # Over USB 2 larger frames than these come uncompressed at a few a second.
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter_fourcc(*"MJPG"))
    asked = {cv2.CAP_PROP_FPS: request.rate} if request.rate else {}
    if request.size_wh:
        asked |= {cv2.CAP_PROP_FRAME_WIDTH: request.size_wh[0], cv2.CAP_PROP_FRAME_HEIGHT: request.size_wh[1]}
    for prop, value in asked.items():
        capture.set(prop, value)
    got = {prop: capture.get(prop) for prop in asked}
    if any(abs(got[prop] - value) > 0.02 * value for prop, value in asked.items()):
        capture.release()
        raise SettingsError(
            f"{device} does not offer this size or rate",
            expected=", ".join(f"{value:g}" for value in asked.values()),
            got=", ".join(f"{value:g}" for value in got.values()),
            next_step=f"v4l2-ctl --device {device} --list-formats-ext shows what it offers",
        )
    return capture
