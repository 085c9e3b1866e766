"""Opens the camera, stream, video or pictures that a user named."""

from __future__ import annotations

import glob
import re
from pathlib import Path
from typing import Literal

from sp_edge.errors import SettingsError, SourceError
from sp_edge.preprocess import EXTENSIONS, image_files
from sp_edge_runtime.frames import Capture, Source, VideoFrame
from sp_edge_runtime.live import TIMEOUT, LiveSource
from sp_edge_runtime.opencv import opencv
from sp_edge_runtime.recorded import PictureSource, VideoFileSource

__all__ = ["Source", "VideoFrame", "open_source", "redact", "source_kind"]

_KINDS = "a camera, stream, video, picture, folder or glob"
_CAMERA = re.compile(r"(?:/dev/video)?([0-9]{1,3})")
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_STREAMS = ("rtsp", "rtsps", "http", "https")


def open_source(text: str, *, vid_stride: int = 1, loop: bool = False, timeout: float = TIMEOUT) -> Source:
    """Opens what the user named.

    Args:
        text: a picture, a folder of pictures, a glob of pictures ('shots/*.jpg'), a video file, a camera ('0',
            '/dev/video0'), or an rtsp://, rtsps://, http:// or https:// stream. A file called '0' is './0'.
        vid_stride: use every how manieth frame, 1 or more.
        loop: begin files again when they end.
        timeout: seconds without a frame after which a live source raises SourceError.

    Raises:
        SettingsError: an option is out of range, or a live source was to loop.
        SourceError: nothing there, nothing readable, or no pictures.
        MissingExtraError: a camera, stream or video, and OpenCV is not installed.
    """
    if vid_stride < 1:
        raise SettingsError("vid_stride is out of range", expected="1 or more", got=str(vid_stride))
    if not 0 < timeout <= 3600:
        raise SettingsError("the timeout is out of range", expected="seconds, above 0 and up to 3600", got=str(timeout))
    if source_kind(text) == "file":
        return _open_files(text, vid_stride=vid_stride, loop=loop)
    if loop:
        raise SettingsError("a live source cannot loop", expected="a video or pictures", got=redact(text))
    return LiveSource(_open_live(text, timeout), redact(text), vid_stride=vid_stride, timeout=timeout)


def source_kind(text: str) -> Literal["camera", "stream", "file"]:
    """What a source's text names, by its form alone.

    Raises:
        SourceError: empty, or an address of a kind that is not supported.
    """
    if not text.strip() or "\0" in text:
        raise SourceError("no source was named", expected=_KINDS, got=repr(text))
    if _CAMERA.fullmatch(text):
        return "camera"
    uri = _URI.fullmatch(text)
    if uri is None:
        return "file"
    if uri[1].lower() not in _STREAMS:
        expected = ", ".join(f"{scheme}://" for scheme in _STREAMS)
        raise SourceError("this kind of address is not supported", expected=expected, got=f"{uri[1]}://")
    return "stream"


def redact(text: str) -> str:
    """A source's text without credentials: in an address, all before the last '@' and behind '?', '#' or ';' becomes '***'."""
    uri = _URI.fullmatch(text)
    if uri is None:
        return text
    # A password may hold any character, and so may a token: where they cannot be told from the host, nothing is shown.
    before, at, rest = uri[2].rpartition("@")
    if any(mark in before for mark in "?#;"):
        return f"{uri[1]}://***"
    return f"{uri[1]}://{'***@' if at else ''}" + re.sub(r"([?#;]).*", r"\1***", rest, flags=re.DOTALL)


def _open_files(text: str, *, vid_stride: int, loop: bool) -> Source:
    path = Path(text)
    try:
        if path.is_file() and path.suffix.lower() not in EXTENSIONS:
            return VideoFileSource(path, vid_stride=vid_stride, loop=loop)
        if path.is_file():
            pictures = [path]
        elif path.is_dir():
            pictures = image_files(path)
        elif glob.has_magic(text):
            # Path.glob takes no absolute patterns.
            found = sorted(Path(name) for name in glob.glob(text, recursive=True))  # noqa: PTH207
            pictures = [p for p in found if p.suffix.lower() in EXTENSIONS and p.is_file()]
        else:
            raise SourceError(f"no source at {text}", expected=_KINDS, got="nothing")
    except (OSError, ValueError, re.error) as cause:
        raise SourceError(f"cannot look up {text[:200]!r}", expected="a path", got=str(cause)) from cause
    if not pictures:
        raise SourceError(f"no pictures in {text}", expected=f"files that end in {', '.join(sorted(EXTENSIONS))}", got="none")
    return PictureSource(pictures, text, vid_stride=vid_stride, loop=loop)


def _open_live(text: str, timeout: float) -> Capture:
    cv2 = opencv("a camera or stream")
    camera = _CAMERA.fullmatch(text)
    if camera:
        capture = cv2.VideoCapture(int(camera[1]))
        remedy = "ls /dev/video* shows the cameras; another program may hold this one"
    else:
        # Without these FFmpeg waits for an absent host for half a minute, and for a silent one for ever.
        wait = int(timeout * 1000)
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, wait, cv2.CAP_PROP_READ_TIMEOUT_MSEC, wait]
        capture = cv2.VideoCapture(text, cv2.CAP_FFMPEG, limits)
        remedy = "check address, user name and password with ffplay"
    if not capture.isOpened():
        capture.release()
        raise SourceError(f"cannot open {redact(text)}", expected="a camera or stream that delivers", next_step=remedy)
    return capture
