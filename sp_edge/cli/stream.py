"""The command that recognises what cameras, streams, videos and folders show: stream."""

from __future__ import annotations

import os
import re
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from sp_edge.cli.common import Command, bank_beside, split_bundle
from sp_edge.cli.recognise import json_sink, shared
from sp_edge.columns import table
from sp_edge.errors import SettingsError, SourceError

FLIPS = ["none", "horizontal", "vertical", "rotate-90", "rotate-180", "rotate-270"]


def _size(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    found = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", value or "")
    if value is not None and not found:
        raise SettingsError("this is no size", expected="for instance 1280x720", got=value)
    return (int(found[1]), int(found[2])) if found else None


@click.command(cls=Command)
@click.argument("arguments", nargs=-1, metavar="[BUNDLE] SOURCE... [OUTPUT]")
@shared
@click.option("--out", metavar="VIDEO", help="Write the annotated video (.mp4 or .webm) here; every argument is a source then.")
@click.option("--json", "json_file", metavar="FILE", help="Add a JSON line a frame to FILE, and one an event; '-' prints them.")
@click.option("--window", is_flag=True, help="Show the stream in a window; q ends it.")
@click.option("--mqtt", metavar="URL", help="Publish to a broker: mqtt://[user:password@]host/topic.")
@click.option("--webhook", metavar="URL", help="Post each message to an address: https://host/path.")
@click.option(
    "--publish",
    type=click.Choice(["all", "frames", "events"]),
    default="all",
    show_default=True,
    help="What goes to --mqtt and --webhook.",
)
@click.option("--headless", is_flag=True, help="Print no line when the label changes.")
@click.option(
    "--size", "size_wh", metavar="WxH", callback=_size, help="Frames that a camera is to deliver.  [default: the camera's]"
)
@click.option("--rate", type=click.FloatRange(0, 1000, min_open=True), help="Frames a second that a camera is to deliver.")
@click.option("--flip", type=click.Choice(FLIPS), default="none", show_default=True, help="Mirror the frames, or turn them.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, 3600, min_open=True),
    default=5.0,
    show_default=True,
    help="Seconds without a frame after which a camera counts as lost.",
)
@click.option("--wait", is_flag=True, help="Wait for a camera that is not there yet.  [always for several]")
@click.option(
    "--max-staleness", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="Drop a camera's result that is older."
)
@click.option("--vid-stride", default=1, show_default=True, type=click.IntRange(1), help="Take every n-th frame.")
@click.option("--max-frames", type=click.IntRange(1), help="Stop after so many frames.")
@click.option("--max-fps", type=click.FloatRange(0, min_open=True), help="Recognise at most so many frames a second.")
@click.option(
    "--smoothing",
    type=click.FloatRange(0, 3600),
    metavar="SECONDS",
    help="Time over which a camera's or video's labels are smoothed; 0 shows each frame's own.  [default: 0.3]",
)
@click.option(
    "--follow/--no-follow", default=True, show_default=True, help="Take up what other programs teach into the bank meanwhile."
)
@click.option(
    "--build-engine",
    is_flag=True,
    help="Build a missing TensorRT engine beside the stream, minutes of the GPU, and go over to it when it is there.",
)
@click.option("--loop", is_flag=True, help="Begin a file again when it ends.")
def stream(
    arguments: tuple[str, ...],
    bank_file: Path | None,
    out: str | None,
    json_file: str | None,
    smoothing: float | None,
    follow: bool,
    max_staleness: float | None,
    max_frames: int | None,
    max_fps: float | None,
    **options: Any,
) -> None:
    """Recognise every frame of cameras, streams, videos or folders.

    SOURCE is a camera (0, /dev/video0, csi://0), a stream (rtsp://, http://), a video, a picture, a folder, a glob, a GStreamer
    pipeline that ends in appsink, or test://. Several share the network. OUTPUT gets the annotated video (.mp4 or .webm).

    \b
    Examples:
      sp-edge stream 0
      sp-edge stream model.spedge csi://0 --size 1280x720 --json results.jsonl
      sp-edge stream rtsp://door/1 rtsp://yard/1 --mqtt mqtt://broker/cameras
      sp-edge stream clip.mp4 annotated.mp4
    """
    # OpenBLAS reads it when NumPy is imported. Its threads spin for a while after each call, on cores that the network needs.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

    from sp_edge_runtime.recognizer import Recognizer
    from sp_edge_runtime.sources.camera import open_source, redact
    from sp_edge_runtime.streams.smoothing import Smoothing
    from sp_edge_runtime.streams.stream import run_stream

    path, places = split_bundle(tuple(Path(a) for a in arguments))
    texts, output = _sources_and_output(arguments[len(arguments) - len(places) :], out)
    if output is not None and len(texts) > 1:
        got = ", ".join(map(redact, texts))
        raise SourceError("one video cannot show several sources", expected="one SOURCE for an OUTPUT", got=got)
    opening = {name: options.pop(name) for name in ("vid_stride", "loop", "size_wh", "rate", "flip", "timeout", "wait")}
    opening["wait"] |= len(texts) > 1
    showing = {name: options.pop(name) for name in ("window", "mqtt", "webhook", "publish", "headless")}
    with ExitStack() as stack:
        file = bank_file or bank_beside(path)
        recognizer = stack.enter_context(Recognizer.load(path, bank=file, follow=follow, **options))
        sources = [stack.enter_context(open_source(text, **opening)) for text in texts]
        names = ", ".join(source.name for source in sources)
        click.echo(f"{names} through {recognizer.backend.description}", err=True)
        timed = any(source.timed for source in sources)
        if smoothing and not timed:
            raise SettingsError("pictures have no time over which to smooth", expected="a camera or video", got=names)
        sinks = _sinks(sources, output, json_file, **showing, stride=opening["vid_stride"], max_fps=max_fps, stack=stack)
        stop_on_signals()
        smoothed = Smoothing() if smoothing is None else Smoothing(smoothing)
        summary = run_stream(
            recognizer,
            sources,
            sinks,
            smoothing=smoothed if timed else None,
            max_staleness=max_staleness,
            max_frames=max_frames,
            max_fps=max_fps,
        )
    _report(summary)


def _sources_and_output(texts: tuple[str, ...], out: str | None) -> tuple[list[str], str | None]:
    """Without --out the last of several arguments is the OUTPUT if it can only be one: a path at which there is nothing."""
    from sp_edge_runtime.sources.camera import source_kind

    if not texts:
        raise SourceError("stream takes a source", expected="[BUNDLE] SOURCE... [OUTPUT]", got="none")
    if out is not None or len(texts) == 1:
        return list(texts), out
    *sources, last = texts
    if source_kind(last) != "file" or Path(last).is_dir() or re.search(r"[*?\[]", last):
        return list(texts), None
    if not Path(last).exists():
        return sources, last
    if Path(last).suffix.lower() in (".mp4", ".webm"):
        raise SourceError(
            f"{last} exists: it may be meant as a source, or to be written over",
            expected="no doubt",
            next_step=f"--out {last} to write over it; as a source, put it before a camera or a folder, or name an --out",
        )
    return list(texts), None


def _sinks(
    sources: list[Any],
    output: str | None,
    json_file: str | None,
    *,
    window: bool,
    mqtt: str | None,
    webhook: str | None,
    publish: Any,
    headless: bool,
    stride: int,
    max_fps: float | None,
    stack: ExitStack,
) -> list[Any]:
    """All sinks; what was opened is closed by the stack where a later one cannot be."""
    from sp_edge_runtime.sinks.mqtt import MqttSink
    from sp_edge_runtime.sinks.terminal import TerminalSink
    from sp_edge_runtime.sinks.video import VideoSink
    from sp_edge_runtime.sinks.webhook import WebhookSink
    from sp_edge_runtime.sinks.window import WindowSink
    from sp_edge_runtime.streams.result import Sink

    sinks: list[Sink] = []

    def add(sink: Sink) -> None:
        stack.callback(sink.close)
        sinks.append(sink)

    if not headless and json_file != "-":
        add(TerminalSink(named=len(sources) > 1))
    if output is not None:
        fps = (sources[0].fps or 25.0) / (1 if sources[0].live else stride)
        add(VideoSink(Path(output), min(fps, max_fps or fps)))
    if window:
        add(WindowSink())
    if mqtt:
        add(MqttSink(mqtt, publish))
    if webhook:
        add(WebhookSink(webhook, publish))
    if json_file:
        add(json_sink(json_file))
    return sinks


def _report(summary: Any) -> None:
    stale = f", {summary.stale} too old" if summary.stale else ""
    lost = f", {summary.restarts} times lost" if summary.restarts else ""
    click.echo(f"{summary.frames} frames, {summary.dropped} dropped{stale}{lost}, {summary.fps:.1f} a second", err=True)
    for delivery in summary.deliveries:
        error = f" ({delivery.error})" if delivery.error else ""
        click.echo(f"{delivery.place}: {delivery.sent} sent, {delivery.dropped} dropped{error}", err=True)
    if summary.stages:
        rows = [[name, f"{stage.mean_ms:.2f}", f"{stage.median_ms:.2f}"] for name, stage in summary.stages.items()]
        click.echo(table(["stage", "mean ms", "median ms"], rows), err=True)


def stop_on_signals() -> None:
    """Lets a service manager's stop, or a closed terminal, end a stream as Ctrl-C does: with its files complete."""

    def stop(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup leaves it
        signal.signal(signal.SIGHUP, stop)
