"""Reads what a Jetson's CSI camera is asked for: 'csi://0'."""

from __future__ import annotations

from dataclasses import replace

from sp_edge.errors import SourceError
from sp_edge_runtime.sources.address import CSI, KINDS
from sp_edge_runtime.sources.options import Flip, SourceOptions
from sp_edge_runtime.sources.request import CaptureRequest

SIZE_WH, RATE = (1280, 720), 30.0


def csi_request(text: str, options: SourceOptions) -> CaptureRequest:
    """The pipeline to capture. It has size, rate and flip in it: the hardware turns the frames."""
    camera = CSI.fullmatch(text)
    if camera is None:
        raise SourceError("this is no CSI camera", expected=KINDS, got=text[:200])
    pipeline = csi_pipeline(int(camera[1]), options.size_wh or SIZE_WH, options.rate or RATE, options.flip)
    return CaptureRequest.of("gstreamer", pipeline, replace(options, size_wh=None, rate=None))


def csi_pipeline(sensor: int, size_wh: tuple[int, int], rate: float, flip: Flip = "none") -> str:
    """The pipeline of a CSI camera on a Jetson: argus captures, the hardware turns, the newest frame alone is kept."""
    width, height = size_wh
    method = {"none": 0, "rotate-270": 1, "rotate-180": 2, "rotate-90": 3, "horizontal": 4, "vertical": 6}[flip]
    if method in (1, 3):
        width, height = height, width
    numerator, denominator = rate.as_integer_ratio()
    return (
        f"nvarguscamerasrc sensor-id={sensor} ! "
        f"video/x-raw(memory:NVMM),width={size_wh[0]},height={size_wh[1]},framerate={numerator}/{denominator} ! "
        f"nvvidconv flip-method={method} ! video/x-raw,format=BGRx,width={width},height={height} ! "
        "appsink drop=1 max-buffers=1 sync=false"
    )
