"""The command that serves the page: serve."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sp_edge.cli.arguments import bank_beside, split_bundle
from sp_edge.cli.classify import shared
from sp_edge.cli.common import Command
from sp_edge.cli.options import options_of
from sp_edge.cli.outputs import harvest_option, json_lines_option, network_options, output_sinks, refuse_alone
from sp_edge.cli.shared import build_engine_option
from sp_edge.cli.stream import frames_options, names_option
from sp_edge.processes import lasting
from sp_edge_runtime.page.options import PageOptions
from sp_edge_runtime.streams.options import StreamOptions

if TYPE_CHECKING:
    from sp_edge_runtime.sinks.publisher import Published
    from sp_edge_runtime.sources.options import SourceOptions
    from sp_edge_runtime.streams.result import Sink


@click.command(cls=Command)
@click.argument("arguments", nargs=-1, metavar="[BUNDLE] [SOURCE]...")
@options_of(PageOptions, "page")
@shared
@frames_options
@names_option
@harvest_option
@network_options
@json_lines_option
@build_engine_option
def serve(
    arguments: tuple[str, ...],
    page: PageOptions,
    bank_file: Path | None,
    how: Mapping[str, Any],
    opening: SourceOptions,
    options: StreamOptions,
    names: tuple[str, ...],
    harvest: Path | None,
    mqtt: str | None,
    home_assistant: bool,
    boxes: bool,
    webhook: str | None,
    publish: Published,
    json_file: str | None,
    build_engine: bool,
) -> None:
    """Show the stream on a page, and teach classes there.

    Open the address that is printed. Type what the camera sees, hold the button, and it is known. SOURCE is what
    `sp-edge stream` takes; a video plays at its own pace. Without a SOURCE, the page takes pictures.

    Only this machine can open the page unless --host names another address. Then the printed link holds a token.

    \b
    Examples:
      sp-edge serve 0
      sp-edge serve model.spedge clip.mp4 --loop
      sp-edge serve csi://0 --host 0.0.0.0 --cert cert.pem --key key.pem --token-file token
    """
    lasting()

    from sp_edge_runtime.page import server
    from sp_edge_runtime.page.regions import regions_file
    from sp_edge_runtime.recognizer import Recognizer
    from sp_edge_runtime.sinks.harvest import Harvest
    from sp_edge_runtime.sources.camera import open_sources

    refuse_alone(mqtt, home_assistant=home_assistant, boxes=boxes)
    path, places = split_bundle(tuple(Path(a) for a in arguments))
    texts = arguments[len(arguments) - len(places) :]
    bank_file = bank_file or bank_beside(path)
    with ExitStack() as stack:
        recognizer = stack.enter_context(Recognizer.load(path, bank=bank_file, follow=True, build_engine=build_engine, **how))
        sources = stack.enter_context(open_sources(texts, opening, names))
        shown = ", ".join(source.name for source in sources) or "no source"
        click.echo(f"{shown} through {recognizer.backend.description}", err=True)
        kept = f"#token=TOKEN, with the TOKEN in {page.token_file}" if page.token_file and not page.local else ""
        sinks: list[Sink] = []
        for sink in output_sinks(recognizer, json_file, mqtt, webhook, publish, home_assistant=home_assistant, boxes=boxes):
            stack.callback(sink.close)  # where a later one cannot be opened
            sinks.append(sink)
        server.serve(
            recognizer,
            sources,
            page,
            stream=options,
            model=path.name,
            sinks=sinks,
            harvest=Harvest(harvest),
            regions=regions_file(bank_file),
            ready=lambda address, _: click.echo(f"page: {address}" + kept, err=json_file == "-"),
        )
