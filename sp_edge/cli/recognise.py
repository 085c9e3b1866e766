"""Commands that recognise: classify, stream."""

from __future__ import annotations

import json
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from sp_edge.cli.common import PATH, Command, bank_beside, existing_bank, shown_log, split_bundle, table
from sp_edge.errors import SettingsError, SourceError


def _shared(function: Any) -> Any:
    """Options that classify and stream share."""
    for option in reversed(
        [
            click.option("--bank", "bank_file", type=PATH, help="[default: classes.spbank beside the bundle]"),
            click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda."),
            click.option("--precision", type=click.Choice(["fp32", "fp16", "int8"]), help="[default: the bundle's]"),
            click.option("--threshold", type=click.FloatRange(-1, 1), help="Least cosine to believe. [default: each class's]"),
            click.option("--classifier", type=click.Choice(["prototype", "lr"]), default="prototype", show_default=True),
            click.option("--topk", default=3, show_default=True, type=click.IntRange(1)),
        ]
    ):
        function = option(function)
    return function


@click.command(cls=Command)
@click.argument("arguments", nargs=-1, type=PATH, metavar="[BUNDLE] PICTURES...")
@_shared
@click.option("--json", "as_json", is_flag=True, help="Print a JSON line a picture instead of a table.")
def classify(arguments: tuple[Path, ...], bank_file: Path | None, as_json: bool, **options: Any) -> None:
    """Recognise pictures: files, or folders of them."""
    from sp_edge.preprocess import load_image, pictures_at
    from sp_edge_runtime.recognizer import Recognizer

    path, places = split_bundle(arguments)
    files = pictures_at(places)
    rows = []
    with Recognizer.load(path, bank=existing_bank(bank_file or bank_beside(path)), **options) as recognizer:
        click.echo(f"{path} through {recognizer.backend.description}", err=True)
        try:
            for file in files:
                prediction = recognizer.classify(load_image(file))
                if as_json:
                    click.echo(json.dumps({"source": str(file), **prediction.to_json()}, ensure_ascii=False))
                top = ", ".join(f"{name} {100 * chance:.0f} %" for name, chance in prediction.top)
                rows.append([file, prediction.label, f"{prediction.similarity:.3f}", top])
        finally:  # one bad picture does not take the others' results with it
            if rows and not as_json:
                click.echo(table(["picture", "label", "cosine", "best"], rows))


def stop_on_sigterm() -> None:
    """Lets a service manager's stop end a stream as Ctrl-C does: with its files complete and its summary printed."""

    def stop(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)


@click.command(cls=Command)
@click.argument("arguments", nargs=-1, metavar="[BUNDLE] SOURCE [OUTPUT]")
@_shared
@click.option("--json", "json_file", type=PATH, help="Write a JSON line a frame, and one an event, to a file.")
@click.option("--headless", is_flag=True, help="Print no line when the label changes.")
@click.option("--vid-stride", default=1, show_default=True, type=click.IntRange(1), help="Take every n-th frame of a file.")
@click.option("--max-frames", type=click.IntRange(1), help="Stop after so many frames.")
@click.option("--max-fps", type=click.FloatRange(0, min_open=True), help="Recognise at most so many frames a second.")
@click.option(
    "--smoothing",
    type=click.FloatRange(0, 3600),
    metavar="SECONDS",
    help="Time over which a camera's or video's labels are smoothed; 0 shows each frame's own. [default: 0.5]",
)
@click.option(
    "--follow/--no-follow", default=True, show_default=True, help="Take up what other programs teach into the bank meanwhile."
)
@click.option("--loop", is_flag=True, help="Begin a file again when it ends.")
def stream(
    arguments: tuple[str, ...],
    bank_file: Path | None,
    json_file: Path | None,
    headless: bool,
    vid_stride: int,
    max_frames: int | None,
    max_fps: float | None,
    smoothing: float | None,
    follow: bool,
    loop: bool,
    **options: Any,
) -> None:
    """Recognise every frame of a camera, stream, video or folder; OUTPUT gets the annotated video (.mp4 or .webm)."""
    from sp_edge_runtime.camera import open_source
    from sp_edge_runtime.recognizer import Recognizer
    from sp_edge_runtime.sinks import JsonLinesSink, Sink, TerminalSink, VideoSink
    from sp_edge_runtime.smoothing import Smoothing
    from sp_edge_runtime.stream import run_stream

    path, places = split_bundle(tuple(Path(a) for a in arguments))
    texts = arguments[len(arguments) - len(places) :]
    if not 1 <= len(texts) <= 2:
        raise SourceError(
            "stream takes one SOURCE and at most one OUTPUT", expected="[BUNDLE] SOURCE [OUTPUT]", got=" ".join(texts) or "none"
        )
    with ExitStack() as stack:
        stack.enter_context(shown_log("sp_edge_runtime"))
        file = bank_file or bank_beside(path)
        recognizer = stack.enter_context(Recognizer.load(path, bank=file, follow=follow, **options))
        source = stack.enter_context(open_source(texts[0], vid_stride=vid_stride, loop=loop))
        click.echo(f"{source.name} through {recognizer.backend.description}", err=True)
        if smoothing and not source.timed:
            raise SettingsError("pictures have no time over which to smooth", expected="a camera or video", got=source.name)
        sinks: list[Sink] = [] if headless else [TerminalSink()]
        if len(texts) == 2:
            fps = (source.fps or 25.0) / (1 if source.live else vid_stride)
            sinks.append(VideoSink(Path(texts[1]), min(fps, max_fps or fps)))
        if json_file:
            sinks.append(JsonLinesSink(json_file))
        stop_on_sigterm()
        smoothed = Smoothing() if smoothing is None else Smoothing(smoothing)
        summary = run_stream(
            recognizer,
            source,
            sinks,
            smoothing=smoothed if source.timed else None,
            max_frames=max_frames,
            max_fps=max_fps,
        )
    click.echo(f"{summary.frames} frames, {summary.dropped} dropped, {summary.fps:.1f} a second", err=True)
    if summary.stages:
        rows = [[name, f"{stage.mean_ms:.2f}", f"{stage.median_ms:.2f}"] for name, stage in summary.stages.items()]
        click.echo(table(["stage", "mean ms", "median ms"], rows), err=True)
