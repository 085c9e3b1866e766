"""Opens the camera, stream, video or pictures that a user named."""

from __future__ import annotations

import glob
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any, get_args

from sp_edge.errors import SettingsError, SourceError
from sp_edge.preprocess import EXTENSIONS, image_files
from sp_edge_runtime.sources.address import CAMERA, CSI, KINDS, Kind, redact, source_kind
from sp_edge_runtime.sources.frames import Flip, Source, State, StateChange, VideoFrame
from sp_edge_runtime.sources.gstreamer import csi_pipeline
from sp_edge_runtime.sources.live import TIMEOUT, LiveSource
from sp_edge_runtime.sources.opencv import stable_device
from sp_edge_runtime.sources.process import MAX_SIDE, CaptureProcess
from sp_edge_runtime.sources.recorded import PictureSource, VideoFileSource
from sp_edge_runtime.sources.request import CaptureRequest
from sp_edge_runtime.sources.testsource import parse_test

__all__ = ["Source", "State", "StateChange", "VideoFrame", "open_source", "redact", "source_kind"]

CSI_SIZE_WH, CSI_RATE = (1280, 720), 30.0


def open_source(
    text: str,
    *,
    vid_stride: int = 1,
    loop: bool = False,
    size_wh: tuple[int, int] | None = None,
    rate: float | None = None,
    flip: Flip = "none",
    timeout: float = TIMEOUT,
    wait: bool = False,
) -> Source:
    """Opens what the user named. A live source runs in a process of its own and is opened again whenever it is lost.

    Args:
        text: one of
            a picture, a folder of pictures, a glob of pictures ('shots/*.jpg'), a video file;
            a USB camera: '0', '/dev/video0', 'v4l2:///dev/video0', or its lasting name under /dev/v4l/by-id;
            a Jetson's CSI camera: 'csi://0';
            a stream: rtsp://, rtsps://, and http:// or https:// with MJPEG or a video;
            a GStreamer pipeline that ends in appsink;
            'test://', which needs no camera: moving scenes.
            A file called '0' is './0'.
        vid_stride: use every how manieth frame, 1 or more.
        loop: begin files again when they end.
        size_wh: width and height that a camera is to deliver, pixels.
        rate: frames a second that a camera is to deliver.
        flip: how to mirror the frames or turn them clockwise.
        timeout: seconds without a frame after which a live source counts as lost.
        wait: go on trying a live source that has never delivered a frame, instead of raising.

    Raises:
        SettingsError: an option is out of range, or does not fit the source.
        SourceError: nothing there, nothing readable, or no pictures.
        MissingExtraError: a camera, stream or video, and OpenCV is not installed.
    """
    kind = source_kind(text)
    _check(vid_stride=vid_stride, size_wh=size_wh, rate=rate, flip=flip, timeout=timeout)
    if (size_wh or rate) and kind not in ("camera", "csi", "test"):
        raise SettingsError(
            "size and rate are for cameras; what else there is has its own", expected="a camera", got=redact(text)[:200]
        )
    if kind == "file":
        return _open_files(text, vid_stride=vid_stride, loop=loop, flip=flip)
    if loop:
        raise SettingsError("a live source cannot loop", expected="a video or pictures", got=redact(text))
    request = _request(text, kind, size_wh=size_wh, rate=rate, flip=flip, stride=vid_stride, timeout=timeout)
    # A CSI camera's frames are turned by its pipeline.
    turned: Flip = "none" if kind == "csi" else flip
    source = LiveSource(partial(CaptureProcess, request), redact(text), wait=wait, flip=turned)
    try:
        source.opened()
    except BaseException:
        source.close()
        raise
    return source


def _check(*, vid_stride: int, size_wh: tuple[int, int] | None, rate: float | None, flip: str, timeout: float) -> None:
    if vid_stride < 1:
        raise SettingsError("vid_stride is out of range", expected="1 or more", got=str(vid_stride))
    if not 0 < timeout <= 3600:
        raise SettingsError("the timeout is out of range", expected="seconds, above 0 and up to 3600", got=str(timeout))
    if size_wh is not None and not all(1 <= side <= MAX_SIDE for side in size_wh):
        raise SettingsError("the size is out of range", expected=f"1 to {MAX_SIDE} pixels a side", got=f"{size_wh}")
    if rate is not None and not 0 < rate <= 1000:
        raise SettingsError("the rate is out of range", expected="frames a second, above 0 and up to 1000", got=str(rate))
    if flip not in get_args(Flip):
        raise SettingsError("no such flip", expected=", ".join(get_args(Flip)), got=str(flip))


def _request(text: str, kind: Kind, *, flip: Flip, **options: Any) -> CaptureRequest:
    if camera := CAMERA.fullmatch(text):
        device = camera[2] or f"/dev/video{camera[1]}"
        if sys.platform != "linux":
            return CaptureRequest("device", camera[1] or device, **options)
        # When it is plugged in again the number may be another one, or another camera's.
        return CaptureRequest("device", stable_device(device), **options)
    if csi := CSI.fullmatch(text):
        size, rate = options.pop("size_wh") or CSI_SIZE_WH, options.pop("rate") or CSI_RATE
        return CaptureRequest("gstreamer", csi_pipeline(int(csi[1]), size, rate, flip), **options)
    if kind == "test":
        parse_test(text)
        return CaptureRequest("test", text, **options)
    return CaptureRequest("gstreamer" if kind == "gstreamer" else "stream", text, **options)


def _open_files(text: str, *, vid_stride: int, loop: bool, flip: Flip) -> Source:
    path = Path(text)
    try:
        if path.is_file() and path.suffix.lower() not in EXTENSIONS:
            return VideoFileSource(path, vid_stride=vid_stride, loop=loop, flip=flip)
        if path.is_file():
            pictures = [path]
        elif path.is_dir():
            pictures = image_files(path)
        elif glob.has_magic(text):
            # Path.glob takes no absolute patterns.
            found = sorted(Path(name) for name in glob.glob(text, recursive=True))  # noqa: PTH207
            pictures = [p for p in found if p.suffix.lower() in EXTENSIONS and p.is_file()]
        else:
            raise SourceError(f"no source at {redact(text)}", expected=KINDS, got="nothing")
    except (OSError, ValueError, re.error) as cause:
        raise SourceError(f"cannot look up {redact(text)[:200]!r}", expected="a path", got=str(cause)) from cause
    if not pictures:
        raise SourceError(f"no pictures in {text}", expected=f"files that end in {', '.join(sorted(EXTENSIONS))}", got="none")
    return PictureSource(pictures, text, vid_stride=vid_stride, loop=loop, flip=flip)
