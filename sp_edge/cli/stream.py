"""The command that recognizes what cameras, streams, videos and folders show: stream."""

from __future__ import annotations

import math
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sp_edge.cli.arguments import bank_beside, existing_bank, refuse_idle, split_bundle
from sp_edge.cli.classify import shared
from sp_edge.cli.common import Command, refuse_unreadable
from sp_edge.cli.options import options_of
from sp_edge.cli.outputs import harvest_option, json_lines_option, network_options, output_sinks, refuse_alone
from sp_edge.cli.shared import build_engine_option, region, together
from sp_edge.columns import table
from sp_edge.errors import SettingsError, SourceError
from sp_edge.processes import lasting
from sp_edge_runtime.sources.options import SourceOptions
from sp_edge_runtime.streams.options import StreamOptions
from sp_edge_runtime.streams.parts import NamedRegion
from sp_edge_runtime.streams.smoothing import Smoothing

if TYPE_CHECKING:
    from sp_edge_runtime.sinks.publisher import Published
    from sp_edge_runtime.streams.result import Sink
    from sp_edge_runtime.streams.summary import StreamSummary


def _size(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    found = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", value or "")
    if value is not None and not found:
        raise SettingsError("this is no size", expected="for instance 1280x720", got=value)
    return (int(found[1]), int(found[2])) if found else None


def _smoothing(_context: click.Context, _parameter: click.Parameter, seconds: float) -> Smoothing:
    return Smoothing(seconds)


def _named(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[NamedRegion, ...]:
    return tuple(map(NamedRegion.parse, values))


SMOOTHING = {"type": click.FLOAT, "default": Smoothing().seconds, "show_default": True, "callback": _smoothing}
CROP = {"option": "--crop", "metavar": "X,Y,W,H", "multiple": True, "callback": region, "show_default": False}
REGION = {"option": "--region", "metavar": "NAME=X,Y,W,H", "multiple": True, "callback": _named, "show_default": False}
SIZE = {"option": "--size", "metavar": "WxH", "callback": _size}

names_option = click.option(
    "--source-name",
    "names",
    multiple=True,
    metavar="NAME",
    help="Call the source so in results and events. With several sources, name each, in their order.",
)
stable_option = click.option(
    "--stable",
    metavar="N",
    type=int,
    default=Smoothing().stable,
    show_default=True,
    help="Change a label only after N results in a row that agree on it, 1 to 1000.",
)


def _stable(command: Callable[..., Any]) -> Callable[..., Any]:
    """Puts --stable into the stream's options."""

    @wraps(command)
    def call(*args: Any, stable: int, options: StreamOptions, **given: Any) -> Any:
        smoothing = replace(options.smoothing, stable=stable)
        return command(*args, options=replace(options, smoothing=smoothing), **given)

    return call


# How a command that recognizes a stream opens its sources, and what it makes of their frames: `opening` and `options`.
frames_options = together(
    options_of(SourceOptions, "opening", {"size_wh": SIZE}),
    options_of(StreamOptions, "options", {"smoothing": SMOOTHING, "regions": CROP, "named_regions": REGION}),
    stable_option,
    _stable,
)


@click.command(cls=Command)
@click.argument("arguments", nargs=-1, metavar="[BUNDLE] SOURCE... [OUTPUT]")
@shared
@names_option
@click.option("--out", metavar="VIDEO", help="Write the annotated video (.mp4 or .webm) here; every argument is a source then.")
@json_lines_option
@click.option("--window", is_flag=True, help="Show the stream in a window; q ends it.")
@network_options
@click.option("--headless", is_flag=True, help="Print no line when the label changes.")
@frames_options
@harvest_option
@click.option(
    "--follow/--no-follow", default=True, show_default=True, help="Read the bank again when another program changes it."
)
@build_engine_option
@click.pass_context
def stream(
    context: click.Context,
    /,
    arguments: tuple[str, ...],
    bank_file: Path | None,
    how: Mapping[str, Any],
    names: tuple[str, ...],
    out: str | None,
    json_file: str | None,
    window: bool,
    mqtt: str | None,
    home_assistant: bool,
    boxes: bool,
    webhook: str | None,
    publish: Published,
    headless: bool,
    opening: SourceOptions,
    options: StreamOptions,
    harvest: Path | None,
    follow: bool,
    build_engine: bool,
) -> None:
    """Recognize every frame of cameras, streams, videos or folders.

    SOURCE is a camera (0, /dev/video0, csi://0), a stream (rtsp://, http://), a video, a picture, a folder, a glob, a GStreamer
    pipeline that ends in appsink, or test://. Several sources share the network. OUTPUT gets the annotated video (.mp4 or
    .webm). Pictures that cannot be read are skipped and named; the exit code is 2 then.

    \b
    Examples:
      sp-edge stream 0
      sp-edge stream model.spedge csi://0 --size 1280x720 --json results.jsonl
      sp-edge stream rtsp://door/1 rtsp://yard/1 --source-name door --source-name yard --mqtt mqtt://broker/cameras
      sp-edge stream 0 --region left=0,0,0.5,1 --region right=0.5,0,0.5,1
      sp-edge stream clip.mp4 annotated.mp4
    """
    lasting()

    from sp_edge_runtime.recognizer import Recognizer
    from sp_edge_runtime.sources.address import redact
    from sp_edge_runtime.sources.camera import open_sources
    from sp_edge_runtime.streams.stream import run_stream

    refuse_alone(mqtt, home_assistant=home_assistant, boxes=boxes)
    path, places = split_bundle(tuple(Path(a) for a in arguments))
    texts, output = _sources_and_output(arguments[len(arguments) - len(places) :], out, names)
    if output is not None and len(texts) > 1:
        got = ", ".join(map(redact, texts))
        raise SourceError("one video cannot show several sources", expected="one SOURCE for an OUTPUT", got=got)
    if output is not None and options.named_regions:
        raise SettingsError(
            "one video cannot show several regions",
            expected="an OUTPUT, or --region",
            got="both",
            next_step="--crop X,Y,W,H looks at one part alone",
        )
    with ExitStack() as stack:
        recognizer = stack.enter_context(
            Recognizer.load(
                path,
                bank=existing_bank(bank_file or bank_beside(path)),
                follow=follow,
                build_engine=build_engine,
                **how,
            )
        )
        sources = stack.enter_context(open_sources(texts, opening, names))
        click.echo(f"{', '.join(source.name for source in sources)} through {recognizer.backend.description}", err=True)
        if not any(source.timed for source in sources):
            refuse_idle(context, ["smoothing", "stable"], "pictures, which have no time", "a camera or video")
        sinks: list[Sink] = []

        def add(sink: Sink) -> None:
            stack.callback(sink.close)  # where a later one cannot be opened
            sinks.append(sink)

        if not headless and json_file != "-":
            from sp_edge_runtime.sinks.terminal import TerminalSink

            add(TerminalSink(named=len(sources) > 1 or bool(options.named_regions)))
        if output is not None:
            from sp_edge_runtime.sinks.video import VideoSink

            add(VideoSink(Path(output), min(sources[0].fps or 25.0, options.max_fps or math.inf)))
        if window:
            from sp_edge_runtime.sinks.window import WindowSink

            add(WindowSink())
        for sink in output_sinks(recognizer, json_file, mqtt, webhook, publish, home_assistant=home_assistant, boxes=boxes):
            add(sink)
        if harvest:
            from sp_edge_runtime.sinks.harvest import Harvest

            add(Harvest(harvest))
        stop_on_signals()
        summary = run_stream(recognizer, sources, sinks, options)
    _report(summary)
    refuse_unreadable(summary.unreadable, "were skipped")


def _sources_and_output(texts: tuple[str, ...], out: str | None, names: Sequence[str]) -> tuple[list[str], str | None]:
    """Without --out the last of several arguments is the OUTPUT if it can only be one: a path at which there is nothing.

    Where each argument has a name, all are sources.
    """
    from sp_edge_runtime.sources.camera import kind_of
    from sp_edge_runtime.sources.files import may_be_new

    if not texts:
        raise SourceError("stream takes a source", expected="[BUNDLE] SOURCE... [OUTPUT]", got="none")
    if out is not None or len(texts) in (1, len(names)):
        return list(texts), out
    *sources, last = texts
    if kind_of(last) != "file" or not may_be_new(last):
        return list(texts), None
    if not Path(last).exists():
        return sources, last
    if Path(last).suffix.lower() in (".mp4", ".webm"):
        raise SourceError(
            f"{last} exists: is it a source, or the video to write?",
            expected="a new file as OUTPUT, or --out",
            next_step=f"--out {last} writes over it; to read it, call every source by a --source-name",
        )
    return list(texts), None


def _report(summary: StreamSummary) -> None:
    stale = f", {summary.stale} too old" if summary.stale else ""
    lost = f", {summary.restarts} times lost" if summary.restarts else ""
    damaged = f", {summary.damaged} damaged" if summary.damaged else ""
    click.echo(
        f"{summary.frames} frames, {summary.dropped} dropped{stale}{damaged}{lost}, {summary.fps:.1f} a second", err=True
    )
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
