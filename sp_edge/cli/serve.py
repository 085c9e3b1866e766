"""The command that serves the page: serve."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sp_edge.cli.arguments import bank_beside, split_bundle
from sp_edge.cli.classify import json_sink, shared
from sp_edge.cli.common import Command
from sp_edge.cli.options import options_of
from sp_edge.cli.outputs import harvest_option, network_options, network_sinks, refuse_alone
from sp_edge.cli.stream import CROP, SIZE, SMOOTHING, names_option, stable_option
from sp_edge_runtime.page.options import PageOptions
from sp_edge_runtime.sources.options import SourceOptions
from sp_edge_runtime.streams.options import StreamOptions

if TYPE_CHECKING:
    from sp_edge_runtime.sinks.publisher import Published
    from sp_edge_runtime.streams.result import Sink


@click.command(cls=Command)
@click.argument("arguments", nargs=-1, metavar="[BUNDLE] [SOURCE]...")
@options_of(PageOptions, "page")
@shared
@options_of(SourceOptions, "opening", {"size_wh": SIZE})
@options_of(StreamOptions, "options", {"smoothing": SMOOTHING, "regions": CROP})
@names_option
@stable_option
@harvest_option
@network_options
@click.option("--json", "json_file", metavar="FILE", help="Add a JSON line for each frame and event to FILE; '-' prints them.")
@click.option(
    "--build-engine",
    is_flag=True,
    help="Build a missing TensorRT engine beside the stream, and go over to it. This takes minutes of the GPU.",
)
def serve(
    arguments: tuple[str, ...],
    page: PageOptions,
    bank_file: Path | None,
    device: str,
    precision: str | None,
    engines: Path | None,
    threshold: float | None,
    classifier: str,
    topk: int,
    opening: SourceOptions,
    options: StreamOptions,
    names: tuple[str, ...],
    stable: int,
    harvest: Path | None,
    mqtt: str | None,
    home_assistant: bool,
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
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in stream

    from sp_edge_runtime.page import server
    from sp_edge_runtime.page.regions import regions_file
    from sp_edge_runtime.recognizer import Recognizer
    from sp_edge_runtime.sinks.harvest import Harvest
    from sp_edge_runtime.sources.camera import open_sources

    refuse_alone(mqtt, home_assistant=home_assistant)
    path, places = split_bundle(tuple(Path(a) for a in arguments))
    texts = arguments[len(arguments) - len(places) :]
    bank_file = bank_file or bank_beside(path)
    with ExitStack() as stack:
        recognizer = stack.enter_context(
            Recognizer.load(
                path,
                bank=bank_file,
                follow=True,
                device=device,
                precision=precision,
                engines=engines,
                build_engine=build_engine,
                threshold=threshold,
                classifier=classifier,
                topk=topk,
            )
        )
        sources = stack.enter_context(open_sources(texts, opening, names))
        shown = ", ".join(source.name for source in sources) or "no source"
        click.echo(f"{shown} through {recognizer.backend.description}", err=True)
        kept = f"#token=TOKEN, with the TOKEN in {page.token_file}" if page.token_file and not page.local else ""
        sinks: list[Sink] = []
        if json_file:  # before what is published, as in stream
            sinks.append(json_sink(json_file))
        for sink in network_sinks(recognizer, mqtt, webhook, publish, home_assistant=home_assistant):
            stack.callback(sink.close)  # where a later one cannot be opened
            sinks.append(sink)
        server.serve(
            recognizer,
            sources,
            page,
            stream=replace(options, smoothing=replace(options.smoothing, stable=stable)),
            model=path.name,
            sinks=sinks,
            harvest=Harvest(harvest),
            regions=regions_file(bank_file),
            ready=lambda address, _: click.echo(f"page: {address}" + kept, err=json_file == "-"),
        )
