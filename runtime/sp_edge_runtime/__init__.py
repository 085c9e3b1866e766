"""Recognizes taught classes on pictures and camera streams, without torch.

What is named here stays; everything else may change. Errors, `Bank` and `Bundle` are in `sp_edge`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = [
    "Event",
    "FrameResult",
    "Look",
    "NamedRegion",
    "Prediction",
    "Prompt",
    "Recognizer",
    "Renewal",
    "Sink",
    "Smoothed",
    "Smoothing",
    "Source",
    "SourceOptions",
    "State",
    "StateChange",
    "StreamOptions",
    "StreamSummary",
    "Taught",
    "VideoFrame",
    "open_source",
    "renew",
    "run_stream",
]

if TYPE_CHECKING:
    from sp_edge_runtime.looking import Look
    from sp_edge_runtime.naming import Prompt
    from sp_edge_runtime.prediction import Prediction
    from sp_edge_runtime.recognizer import Recognizer
    from sp_edge_runtime.renewal import Renewal, renew
    from sp_edge_runtime.sources.camera import open_source
    from sp_edge_runtime.sources.frames import Source, State, StateChange, VideoFrame
    from sp_edge_runtime.sources.options import SourceOptions
    from sp_edge_runtime.streams.options import StreamOptions
    from sp_edge_runtime.streams.parts import NamedRegion
    from sp_edge_runtime.streams.result import FrameResult, Sink
    from sp_edge_runtime.streams.smoothing import Event, Smoothed, Smoothing
    from sp_edge_runtime.streams.stream import run_stream
    from sp_edge_runtime.streams.summary import StreamSummary
    from sp_edge_runtime.teaching import Taught
else:
    from sp_edge.lazy import lazily

    _HOMES = {
        "sp_edge_runtime.looking": ("Look",),
        "sp_edge_runtime.naming": ("Prompt",),
        "sp_edge_runtime.prediction": ("Prediction",),
        "sp_edge_runtime.recognizer": ("Recognizer",),
        "sp_edge_runtime.renewal": ("Renewal", "renew"),
        "sp_edge_runtime.sources.camera": ("open_source",),
        "sp_edge_runtime.sources.frames": ("Source", "State", "StateChange", "VideoFrame"),
        "sp_edge_runtime.sources.options": ("SourceOptions",),
        "sp_edge_runtime.streams.options": ("StreamOptions",),
        "sp_edge_runtime.streams.parts": ("NamedRegion",),
        "sp_edge_runtime.streams.result": ("FrameResult", "Sink"),
        "sp_edge_runtime.streams.smoothing": ("Event", "Smoothed", "Smoothing"),
        "sp_edge_runtime.streams.stream": ("run_stream",),
        "sp_edge_runtime.streams.summary": ("StreamSummary",),
        "sp_edge_runtime.teaching": ("Taught",),
    }
    __getattr__, __dir__ = lazily(__name__, _HOMES)
