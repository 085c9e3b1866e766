"""Opens the camera, stream, video or pictures that a user named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from sp_edge.errors import SettingsError, SourceError
from sp_edge_runtime.sources.address import KINDS, Kind, is_name, redact, source_kind
from sp_edge_runtime.sources.csi import csi_request
from sp_edge_runtime.sources.files import open_files
from sp_edge_runtime.sources.frames import Source
from sp_edge_runtime.sources.live import LiveSource
from sp_edge_runtime.sources.options import Flip, SourceOptions
from sp_edge_runtime.sources.process import CaptureProcess
from sp_edge_runtime.sources.request import CaptureRequest
from sp_edge_runtime.sources.testsource import parse_test
from sp_edge_runtime.sources.usb import usb_request


def _test_request(text: str, options: SourceOptions) -> CaptureRequest:
    parse_test(text)
    return CaptureRequest.of("test", text, options)


# What each live kind of source has captured. Another kind takes a line here, its form in `address`, and a file of its own.
_REQUESTS: dict[Kind, Callable[[str, SourceOptions], CaptureRequest]] = {
    "camera": usb_request,
    "csi": csi_request,
    "stream": partial(CaptureRequest.of, "stream"),
    "gstreamer": partial(CaptureRequest.of, "gstreamer"),
    "test": _test_request,
}
_SIZED: tuple[Kind, ...] = ("camera", "csi", "test")  # which take a size and a rate


def kind_of(source: str | Path, options: SourceOptions = SourceOptions()) -> Kind:
    """The kind of a source. Nothing is opened; a Path is always a file.

    Raises:
        SettingsError: an option does not fit the kind.
        SourceError: no name of a source, or an address of a kind that is not supported.
    """
    if not isinstance(source, str | Path):
        raise SourceError("this is no source", expected=KINDS, got=type(source).__name__)
    kind: Kind = "file" if isinstance(source, Path) else source_kind(source)
    shown = redact(str(source))[:200]
    if (options.size_wh or options.rate) and kind not in _SIZED:
        raise SettingsError("size and rate are for cameras; what else there is has its own", expected="a camera", got=shown)
    if options.loop and kind != "file":
        raise SettingsError("a live source cannot loop", expected="a video or pictures", got=shown)
    return kind


def open_source(source: str | Path, options: SourceOptions = SourceOptions()) -> Source:
    """Opens what the user named. A live source runs in a process of its own and is opened again whenever it is lost.

    Args:
        source: one of
            a picture, a folder of pictures, a glob of pictures ('shots/*.jpg'), a video file;
            a USB camera: '0', '/dev/video0', 'v4l2:///dev/video0', or its lasting name under /dev/v4l/by-id;
            a Jetson's CSI camera: 'csi://0';
            a stream: rtsp://, rtsps://, and http:// or https:// with MJPEG or a video;
            a GStreamer pipeline that ends in appsink;
            'test://', which needs no camera: moving scenes.
            A file called '0' is './0' or Path('0').
        options: how to open it.

    Raises:
        SettingsError: an option does not fit the source.
        SourceError: nothing there, nothing readable, or no pictures.
        MissingExtraError: a camera, stream or video, and the package that reads it is not installed.
    """
    kind, text = kind_of(source, options), str(source)
    if kind == "file":
        return open_files(text, options)
    request = _REQUESTS[kind](text, options)
    turned: Flip = "none" if kind == "csi" else options.flip  # a CSI camera's frames are turned by its pipeline
    live = LiveSource(partial(CaptureProcess, request), redact(text), wait=options.wait, flip=turned)
    try:
        live.opened()
    except BaseException:
        live.close()
        raise
    return live


@contextmanager
def open_sources(
    wanted: Sequence[str | Path | Source], options: SourceOptions = SourceOptions(), names: Sequence[str] = ()
) -> Iterator[list[Source]]:
    """Opens several sources, some of which may be open, and closes all of them at the end.

    Args:
        wanted: as `open_source` takes them, or open sources.
        options: how to open those that are named. Of more than one, those that are not there yet are waited for.
        names: what results and events call the sources, one of each; by default what was asked for, without credentials.

    Raises:
        SettingsError: not one name a source, or two that are the same.
        SettingsError, SourceError, MissingExtraError: as `open_source`; those that were opened are closed.
    """
    if names:
        _check_names(names, len(wanted))
    options = replace(options, wait=options.wait or len(wanted) > 1)
    with ExitStack() as stack:
        opened = [stack.enter_context(one if isinstance(one, Source) else open_source(one, options)) for one in wanted]
        for source, name in zip(opened, names, strict=False):
            source.name = name
        yield opened


def _check_names(names: Sequence[str], count: int) -> None:
    if len(names) != count:
        raise SettingsError("every source needs a name, or none", expected=f"{count} names", got=f"{len(names)}")
    if len(set(names)) < count or not all(map(is_name, names)):
        got = ", ".join(map(repr, names))
        raise SettingsError("sources are told apart by their names", expected="different ones, in printable text", got=got)
