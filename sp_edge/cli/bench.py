"""The command that measures a bundle on this machine: bench."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sp_edge.cli.arguments import split_bundle
from sp_edge.cli.common import Command
from sp_edge.cli.shared import PATH, engines_option, json_option
from sp_edge.columns import table
from sp_edge.errors import BundleError
from sp_edge.processes import lasting

if TYPE_CHECKING:
    from sp_edge_runtime.bench.accuracy import Trial


@click.command(cls=Command)
@click.argument("arguments", nargs=-1, type=PATH, metavar="[BUNDLE]")
@click.option(
    "--seconds",
    default=60.0,
    show_default=True,
    type=click.FloatRange(1),
    help="Take this long. Each measurement is made once at least, which may take longer.",
)
@click.option("--data", type=PATH, metavar="FOLDER", help="Measure the accuracy on pictures, FOLDER/<class>/.")
@click.option(
    "--source",
    default="test://",
    show_default=True,
    help="Take the frames of this camera, stream or video. test:// draws 30 a second of 1280x720.",
)
@engines_option
@json_option("all figures")
@click.option("--plot", type=PATH, metavar="FILE", help="Draw accuracy, or without --data the cosine, against latency: a PNG.")
def bench(
    arguments: tuple[Path, ...],
    seconds: float,
    data: Path | None,
    source: str,
    engines: Path | None,
    json_file: Path | None,
    plot: Path | None,
) -> None:
    """Measure how fast and how exact a bundle runs on this machine.

    Every engine and precision that opens here takes its turn; the others are named with the reason. Ctrl+C ends the
    measurement and shows what there is. Let nothing else run meanwhile.

    \b
    The columns:
      cosine      the least of the features to those that export recorded
      ms, p95     the network with one picture: median and 95th percentile
      8: /s       pictures a second in batches of 8 and 32
      enroll ms   teaching one shot
      camera ms   from a frame's capture to its label: median and 95th percentile
      CPU %       of one core, in this process, while the stream runs
      start s     from a fresh process to its first label
      MB          memory of a fresh process with a stream
      accuracy %  5-way, one shot, with its 95 % interval
      mJ/frame    energy a frame: of a Jetson, or of a graphics card with the package nvidia-ml-py, where it does the work

    \b
    Examples:
      sp-edge bench
      sp-edge bench model.spedge --data pictures/test --json bench.json --plot bench.png
    """
    lasting()  # as `sp-edge stream` does
    if plot:
        from sp_edge_runtime.bench import plot as _  # noqa: F401 - what is missing for it is told before a minute has passed
    from sp_edge.bundle.bundle import Bundle
    from sp_edge.files import write_json
    from sp_edge_runtime.bench.figures import columns
    from sp_edge_runtime.bench.provenance import processor_words, provenance

    path, others = split_bundle(arguments)
    if others:
        raise BundleError("bench measures one bundle", expected="[BUNDLE]", got=" ".join(map(str, others)))
    told = provenance(f"sp-edge {_command(sys.argv[1:])}")
    trial = None if data is None else _trial(data)
    report = {**_measured(Bundle.load(path), seconds, source, engines, trial), "provenance": told}
    header, rows = columns(report)
    click.echo(table(header, rows))
    for reason, names in report["missing"].items():
        click.echo(f"{', '.join(names)}: {reason}")
    for one in report["backends"]:
        for reason in one["failed"]:
            click.echo(f"{one['device']} {one['precision']}: {reason}")
    click.echo(f"{path}, {report['source']}, {processor_words(told['processor'])}")
    if report["energy"]:
        click.echo(f"energy of {report['energy']}")
    if report["stopped"]:
        click.echo(f"stopped before its end: {report['stopped_by']}")
    if json_file:
        write_json(json_file, report)
    if plot:
        from sp_edge_runtime.bench.plot import draw

        draw(report, plot)
        click.echo(f"plot: {plot}")


def _command(words: Sequence[str]) -> str:
    """For a shell to read, without the credentials of a camera."""
    from sp_edge_runtime.sources.address import redact

    parts = (word.partition("=") if word.startswith("--") else ("", "", word) for word in words)
    return shlex.join(f"{option}{equals}{redact(value)}" for option, equals, value in parts)


def _trial(folder: Path) -> Trial:
    from sp_edge.data.episodes import EpisodeSampler
    from sp_edge.data.folder import labelled
    from sp_edge_runtime.bench.accuracy import Trial

    pictures = labelled(folder)
    for note in pictures.notes:
        click.echo(note, err=True)
    return Trial(pictures, EpisodeSampler)


def _measured(bundle: Any, seconds: float, source: str, engines: Path | None, trial: Trial | None) -> Mapping[str, Any]:
    """The report, with a line of progress meanwhile."""
    from tqdm import tqdm

    from sp_edge_runtime.bench.measure import bench as run

    began = time.perf_counter()
    with tqdm(total=round(seconds), disable=None, leave=False, bar_format="{desc:30}|{bar}| {n_fmt}/{total_fmt} s") as bar:

        def tell(what: str) -> None:
            bar.set_description_str(what)
            bar.update(min(round(time.perf_counter() - began), bar.total) - bar.n)

        return run(bundle, seconds=seconds, source=source, engines=engines, trial=trial, tell=tell).to_json()
