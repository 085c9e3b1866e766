"""The command that recognises pictures: classify."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sp_edge.cli.common import (
    PATH,
    Command,
    backend_options,
    bank_beside,
    bank_option,
    deciding_options,
    existing_bank,
    split_bundle,
    together,
)
from sp_edge.columns import table

if TYPE_CHECKING:
    from sp_edge_runtime.streams.result import Sink

# Options that classify and stream share.
shared = together(
    bank_option,
    backend_options,
    deciding_options,
    click.option("--topk", default=3, show_default=True, type=click.IntRange(1), help="How many classes a result lists."),
)


@click.command(cls=Command)
@click.argument("arguments", nargs=-1, type=PATH, metavar="[BUNDLE] PICTURES...")
@shared
@click.option(
    "--json", "json_file", metavar="FILE", help="Add a JSON line a picture to FILE; '-' prints them instead of a table."
)
def classify(arguments: tuple[Path, ...], bank_file: Path | None, json_file: str | None, **options: Any) -> None:
    """Recognise pictures: files, or folders of them.

    \b
    Examples:
      sp-edge classify photos
      sp-edge classify model.spedge one.jpg two.jpg --bank shop.spbank --json results.jsonl
    """
    from sp_edge.preprocess import load_image, pictures_at
    from sp_edge_runtime.recognizer import Recognizer
    from sp_edge_runtime.sources.frames import VideoFrame
    from sp_edge_runtime.streams.result import FrameResult

    path, places = split_bundle(arguments)
    files = pictures_at(places)
    rows = []
    with ExitStack() as stack:
        recognizer = stack.enter_context(Recognizer.load(path, bank=existing_bank(bank_file or bank_beside(path)), **options))
        click.echo(f"{path} through {recognizer.backend.description}", err=True)
        sink = json_sink(json_file) if json_file else None
        if sink is not None:
            stack.callback(sink.close)
        try:
            for number, file in enumerate(files):
                frame = VideoFrame(load_image(file), number, 0.0)
                prediction = recognizer.classify(frame.image_rgb)
                if sink is not None:  # the fields of a stream's lines
                    sink.write(FrameResult(frame, prediction, frame.age * 1000, source=str(file)))
                top = ", ".join(f"{name} {100 * chance:.0f} %" for name, chance in prediction.top)
                rows.append([file, prediction.label, f"{prediction.similarity:.3f}", top])
        finally:  # one bad picture does not take the others' results with it
            if rows and json_file != "-":
                click.echo(table(["picture", "label", "cosine", "best"], rows, text=["label", "best"]))


def json_sink(file: str) -> Sink:
    """What `--json` writes lines to: a file, or for '-' the terminal."""
    from sp_edge_runtime.sinks.json_lines import JsonLinesSink, JsonStreamSink

    return JsonStreamSink() if file == "-" else JsonLinesSink(Path(file))
