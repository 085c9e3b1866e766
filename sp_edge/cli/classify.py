"""The command that recognizes pictures: classify."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sp_edge.cli.arguments import bank_beside, existing_bank, split_bundle
from sp_edge.cli.common import Command, refuse_unreadable, unreadable
from sp_edge.cli.outputs import json_sink
from sp_edge.cli.shared import PATH, backend_options, bank_option, crop_option, deciding_options, packed, together
from sp_edge.columns import counted, table
from sp_edge.errors import ImageError

if TYPE_CHECKING:
    from sp_edge.view import Region

# Options that classify and stream share; what `Recognizer.load` takes is one parameter, `how`.
shared = together(
    bank_option,
    packed(
        "how",
        backend_options,
        deciding_options,
        click.option(
            "--topk", default=3, show_default=True, type=click.IntRange(1), help="List this many classes in each result."
        ),
    ),
)


@click.command(cls=Command)
@click.argument("arguments", nargs=-1, type=PATH, metavar="[BUNDLE] PICTURES...")
@shared
@crop_option
@click.option(
    "--json", "json_file", metavar="FILE", help="Add a JSON line for each picture to FILE; '-' prints them instead of a table."
)
def classify(
    arguments: tuple[Path, ...],
    bank_file: Path | None,
    how: Mapping[str, Any],
    region: Region | None,
    json_file: str | None,
) -> None:
    """Recognize pictures: files, or folders of them.

    Pictures that cannot be read are skipped and named; the exit code is 2 then.

    \b
    Examples:
      sp-edge classify photos
      sp-edge classify model.spedge one.jpg two.jpg --bank shop.spbank --json results.jsonl
    """
    from sp_edge.picture_files import pictures_at
    from sp_edge.pictures import load_image
    from sp_edge_runtime.recognizer import Recognizer
    from sp_edge_runtime.sources.frames import VideoFrame
    from sp_edge_runtime.streams.result import FrameResult

    path, places = split_bundle(arguments)
    found = pictures_at(places)
    if note := found.told(*places):
        click.echo(note, err=True)
    files = found.files
    rows: list[list[object]] = []
    broken: dict[str, str] = {}
    gray = 0
    with ExitStack() as stack:
        recognizer = stack.enter_context(
            Recognizer.load(
                path,
                bank=existing_bank(bank_file or bank_beside(path)),
                **how,
            )
        )
        click.echo(f"{path} through {recognizer.backend.description}", err=True)
        sink = json_sink(json_file) if json_file else None
        if sink is not None:
            stack.callback(sink.close)
        for number, file in enumerate(files):
            try:
                frame = VideoFrame(load_image(file), number, 0.0)
            except ImageError as error:
                unreadable(broken, file, error)
                continue
            prediction = recognizer.classify(frame.image_rgb, region=region)
            gray += prediction.gray
            if sink is not None:  # the fields of a stream's lines
                sink.write(FrameResult(frame, prediction, frame.age * 1000, source=str(file)))
            top = ", ".join(f"{name} {100 * chance:.0f} %" for name, chance in prediction.top)
            rows.append([file, prediction.label, f"{prediction.similarity:.3f}", top])
    if gray:
        told = f"{counted(gray, 'picture')} {'is' if gray == 1 else 'are'} gray"
        click.echo(f"{told}, and classes were taught in color: what differs by color is not told apart", err=True)
    if rows and json_file != "-":
        click.echo(table(["picture", "label", "cosine", "best"], rows, text=["label", "best"]))
    refuse_unreadable(broken, "were skipped", of=len(files))
