"""Lets a recognizer watch a video whose frames are known, and counts what it got right."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sp_edge.demo.elements import FilmFrame
from sp_edge.matching.label import UNKNOWN
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.sinks.json_lines import JsonLinesSink
from sp_edge_runtime.sinks.overlay import annotate
from sp_edge_runtime.sinks.video import VideoSink
from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.streams.options import StreamOptions
from sp_edge_runtime.streams.result import FrameResult, Sink, StreamEvent
from sp_edge_runtime.streams.smoothing import Smoothing
from sp_edge_runtime.streams.stream import run_stream

_log = logging.getLogger(__name__)
FPS = 25.0


def watch(
    recognizer: Recognizer, camera: Path, truth: Sequence[str], results: Path, video: Path
) -> tuple[list[FrameResult], dict[str, Any]]:
    """Recognizes every frame of a file, each by itself.

    Args:
        recognizer: with classes taught.
        camera: the file.
        truth: what each frame shows; a name that was not taught is to be called unknown.
        results: JSON lines to write, in place of older ones.
        video: annotated video to write.

    Returns:
        The results, and the stream's figures with `right` of `shown` and `unknown_right` of `unknown_shown` frames.
    """
    keep = _Keep()
    results.unlink(missing_ok=True)  # an earlier demo's
    with open_source(str(camera)) as source:
        sinks: list[Sink] = [JsonLinesSink(results), VideoSink(video, FPS), keep]
        summary = run_stream(recognizer, source, sinks, StreamOptions(smoothing=Smoothing(0)))  # the figures are of each frame
    labels = [result.prediction.label for result in keep.results]
    known = [name in recognizer.bank.names for name in truth]
    watched = {
        **summary.to_json(),
        "shown": sum(known),
        "right": sum(k and label == name for k, label, name in zip(known, labels, truth, strict=True)),
        "unknown_shown": len(truth) - sum(known),
        "unknown_right": sum(not k and label == UNKNOWN for k, label in zip(known, labels, strict=True)),
    }
    _log.info(f"{summary.frames} frames at {summary.fps:.0f} a second through {recognizer.backend.description}")
    right, strange = f"{watched['right']} of {watched['shown']}", f"{watched['unknown_right']} of {watched['unknown_shown']}"
    _log.info(f"taught objects right in {right} frames, others unknown in {strange}")
    return keep.results, watched


def film(results: Sequence[FrameResult], count: int) -> list[FilmFrame]:
    """Some frames of a stream of `count` shots of one length, annotated as in its video: the middle of each shot."""
    middles = [int((i + 0.5) * len(results) / count) for i in range(count)]
    return [
        FilmFrame(annotate(r.frame.image_rgb, r.prediction), r.frame.timestamp, r.prediction.label)
        for r in (results[i] for i in middles)
    ]


class _Keep:
    """A sink that keeps the results."""

    def __init__(self) -> None:
        self.results: list[FrameResult] = []

    def write(self, result: FrameResult) -> None:
        self.results.append(result)

    def event(self, event: StreamEvent) -> None:
        pass

    def close(self) -> None:
        pass
