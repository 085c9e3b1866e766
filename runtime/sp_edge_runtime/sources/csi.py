"""Reads what a Jetson's CSI camera is asked for: 'csi://0'."""

from __future__ import annotations

from dataclasses import replace

from sp_edge.errors import SourceError
from sp_edge_runtime.sources.address import CSI, KINDS
from sp_edge_runtime.sources.gstreamer import csi_pipeline
from sp_edge_runtime.sources.options import SourceOptions
from sp_edge_runtime.sources.request import CaptureRequest

SIZE_WH, RATE = (1280, 720), 30.0


def csi_request(text: str, options: SourceOptions) -> CaptureRequest:
    """The pipeline to capture. It has size, rate and flip in it: the hardware turns the frames."""
    camera = CSI.fullmatch(text)
    if camera is None:
        raise SourceError("this is no CSI camera", expected=KINDS, got=text[:200])
    pipeline = csi_pipeline(int(camera[1]), options.size_wh or SIZE_WH, options.rate or RATE, options.flip)
    return CaptureRequest.of("gstreamer", pipeline, replace(options, size_wh=None, rate=None))
