"""Captures the frames of a GStreamer pipeline: through OpenCV where it was built for that, through PyGObject elsewhere."""

from __future__ import annotations

import importlib
import re
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.errors import InputError, SettingsError, SourceError
from sp_edge_runtime.sources.opencv import capture_from, has_gstreamer, opencv
from sp_edge_runtime.sources.request import Captured, CaptureRequest

# A pixel's bytes, one a letter.
FORMATS = ("RGB", "RGBx", "RGBA", "BGR", "BGRx", "BGRA")
_SINK = re.compile(r"!\s*appsink\b")
# What comes before every appsink. A decoder that begins between two key frames, or misses a packet, makes up what it does not
# know, and marks it: a grey or smeared frame, which is none. A phone films upright by saying so; pixels need not be square.
_TRUE = "! identity drop-buffer-flags=corrupted ! videoconvert ! videoflip video-direction=auto ! videoscale ! {}appsink"
_CAPS = "video/x-raw,pixel-aspect-ratio=1/1,format="
# What that asks of the pipeline, for whose errors name elements that the user did not write.
_NEEDS = "appsink takes raw video outside NVMM (nvvidconv copies it), through videoflip of gstreamer1.0-plugins-good"


def capture_pipeline(request: CaptureRequest) -> tuple[float | None, Iterator[Captured | None]]:
    """Opens a pipeline that ends in an appsink; see `capture`."""
    try:
        cv2 = opencv("a GStreamer pipeline")
    except InputError:  # PyGObject does it without OpenCV
        cv2 = None
    if cv2 is None or not has_gstreamer(cv2):
        return _through_pygobject(request)
    text = _SINK.sub(_TRUE.format(f"{_CAPS}BGR ! "), request.address)
    opened = cv2.VideoCapture(text, cv2.CAP_GSTREAMER)
    if not opened.isOpened():
        opened.release()
        raise SourceError("the GStreamer pipeline does not start", next_step=f"{_NEEDS}; {_hint(request)}")
    return capture_from(opened, cv2, request)


def _through_pygobject(request: CaptureRequest) -> tuple[float | None, Iterator[Captured | None]]:
    gst = _gst()
    text = _SINK.sub(_TRUE.format(""), request.address)
    try:
        pipeline = gst.parse_launch(text)
        sinks = [element for element in _elements(pipeline) if element.get_factory().get_name() == "appsink"]
    except Exception as cause:  # GLib.Error, which only exists where gi does
        raise SettingsError(
            "this is no GStreamer pipeline", expected="... ! appsink", got=str(cause), next_step=_NEEDS
        ) from cause
    if len(sinks) != 1:
        raise SettingsError("the pipeline does not have one appsink", expected="1", got=str(len(sinks)))
    sink = sinks[0]
    sink.set_property("caps", gst.Caps.from_string(f"{_CAPS}{{{','.join(FORMATS)}}}"))
    for name, value in (("drop", True), ("max-buffers", 1), ("sync", False), ("emit-signals", False)):
        sink.set_property(name, value)
    pipeline.set_state(gst.State.PLAYING)
    return None, _frames(gst, pipeline, sink, request)


def _gst() -> Any:
    try:
        gi = importlib.import_module("gi")
        gi.require_version("Gst", "1.0")
        gst = importlib.import_module("gi.repository.Gst")
    except (ImportError, ValueError) as cause:
        raise SettingsError(
            "a GStreamer pipeline needs GStreamer",
            expected="an OpenCV that was built with GStreamer, or the package PyGObject (gi)",
            got=f"neither: {cause}",
            next_step="apt install python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-good, "
            "in an environment made with --system-site-packages",
        ) from cause
    gst.init(None)
    return gst


def _elements(pipeline: Any) -> list[Any]:
    if not hasattr(pipeline, "iterate_recurse"):
        return [pipeline]
    found, elements = pipeline.iterate_recurse(), []
    while (item := found.next())[1] is not None:
        elements.append(item[1])
    return elements


def _frames(gst: Any, pipeline: Any, sink: Any, request: CaptureRequest) -> Iterator[Captured | None]:
    number, bus = 0, pipeline.get_bus()
    failures = gst.MessageType.ERROR
    try:
        while True:
            sample = sink.emit("try-pull-sample", int(request.timeout * gst.SECOND))
            if sample is None:
                if message := bus.pop_filtered(failures):
                    error, details = message.parse_error()
                    raise SourceError(
                        "the GStreamer pipeline failed", got=f"{error.message}; {details}", next_step=_hint(request)
                    )
                if sink.get_property("eos"):
                    if not _is_live(gst, sink):
                        return
                    # A camera does not end: this is how rtspsrc says that the other side has hung up.
                    raise SourceError("the GStreamer pipeline broke off", expected="further frames", next_step=_hint(request))
                raise SourceError(
                    "the GStreamer pipeline gives no frames",
                    expected=f"one within {request.timeout:g} s",
                    next_step=_hint(request),
                )
            seconds, captured = time.time(), time.monotonic()
            if number == 0:
                _refuse_hdr(pipeline)
            if number % request.stride == 0:
                yield Captured(number, seconds, captured, _rgb(sample))
            else:
                yield None
            number += 1
    finally:
        pipeline.set_state(gst.State.NULL)


def _refuse_hdr(pipeline: Any) -> None:
    """Raises where frames have high dynamic range: videoconvert gives their code values as if they were standard ones."""
    converters = [element for element in _elements(pipeline) if element.get_factory().get_name() == "videoconvert"]
    found = [element.get_static_pad("sink").get_current_caps() for element in converters]
    said = [caps.get_structure(0).get_string("colorimetry") or "" for caps in found if caps]
    if hdr := [colorimetry for colorimetry in said if colorimetry.startswith("bt2100")]:
        raise SettingsError(
            "the pipeline's video has high dynamic range",
            expected="standard dynamic range",
            got=hdr[0],
            next_step="give the file or stream itself, without a pipeline: its colors are then converted",
        )


def _is_live(gst: Any, sink: Any) -> bool:
    """Whether frames come to the sink at their own pace, as a camera's do and a file's do not."""
    query = gst.Query.new_latency()
    # Not of the sink itself, which says no since it does not wait for a frame's time.
    return bool(sink.get_static_pad("sink").peer_query(query) and query.parse_latency()[0])


def _rgb(sample: Any) -> NDArray[np.uint8]:
    """A view of the sample's bytes: `capture.main` makes the one copy that is needed."""
    caps, buffer = sample.get_caps().get_structure(0), sample.get_buffer()
    width, height, layout = caps.get_value("width"), caps.get_value("height"), caps.get_value("format")
    content = np.frombuffer(buffer.extract_dup(0, buffer.get_size()), np.uint8)
    rows = content.reshape(height, -1)[:, : width * len(layout)]  # rows are padded to whole words
    pixels = rows.reshape(height, width, len(layout))
    return pixels[:, :, :3] if layout.startswith("RGB") else pixels[:, :, 2::-1]


def _hint(request: CaptureRequest) -> str:
    return "try it with gst-launch-1.0 and fakesink" + _argus(request.address)


def _argus(text: str) -> str:
    return "; sudo systemctl restart nvargus-daemon frees a CSI camera that hangs" if "nvarguscamerasrc" in text else ""
