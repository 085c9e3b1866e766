"""The command that recognises pictures: classify."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    table,
    together,
)

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
@click.option("--json", "as_json", is_flag=True, help="Print a JSON line a picture instead of a table.")
def classify(arguments: tuple[Path, ...], bank_file: Path | None, as_json: bool, **options: Any) -> None:
    """Recognise pictures: files, or folders of them."""
    from sp_edge.files import json_text
    from sp_edge.preprocess import load_image, pictures_at
    from sp_edge_runtime.frames import VideoFrame
    from sp_edge_runtime.recognizer import Recognizer
    from sp_edge_runtime.stream import FrameResult

    path, places = split_bundle(arguments)
    files = pictures_at(places)
    rows = []
    with Recognizer.load(path, bank=existing_bank(bank_file or bank_beside(path)), **options) as recognizer:
        click.echo(f"{path} through {recognizer.backend.description}", err=True)
        try:
            for number, file in enumerate(files):
                frame = VideoFrame(load_image(file), number, 0.0)
                prediction = recognizer.classify(frame.image_rgb)
                if as_json:  # the fields of a stream's lines
                    click.echo(json_text(FrameResult(frame, prediction, frame.age * 1000, source=str(file)).to_json()))
                top = ", ".join(f"{name} {100 * chance:.0f} %" for name, chance in prediction.top)
                rows.append([file, prediction.label, f"{prediction.similarity:.3f}", top])
        finally:  # one bad picture does not take the others' results with it
            if rows and not as_json:
                click.echo(table(["picture", "label", "cosine", "best"], rows, text=["label", "best"]))
