"""What `sp-edge export --format` makes of a bundle, and which options each format takes.

A new format is one function here: it gets the command's options, checks at once what can be checked, and gives back what
is to be done once there is a bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from sp_edge.bundle import Bundle

Make = Callable[["Bundle", str], None]  # of a bundle, in a precision


def _onnx(_options: Mapping[str, Any]) -> Make:
    return lambda _bundle, _precision: None


def _engine(options: Mapping[str, Any]) -> Make:
    from sp_edge_export.engine import EngineOptions, build_engine, load_tensorrt

    flavour = "tensorrt_rtx" if options["target"] == "rtx" else "tensorrt"
    build = EngineOptions(flavour, options["batch"], options["workspace"])
    load_tensorrt(build.flavour)

    def make(bundle: Bundle, precision: str) -> None:
        folder = bundle.path.with_suffix("") if bundle.path.suffix == ".spedge" else bundle.path
        for graph in ("query", "support"):
            plan = folder / f"{graph}.{precision}.plan"
            with build_progress(graph) as progress:
                build_engine(bundle, graph, plan, build, progress=progress)
            click.echo(f"engine: {plan}")

    return make


FORMATS: Mapping[str, Callable[[Mapping[str, Any]], Make]] = {"onnx": _onnx, "engine": _engine}
# The formats to which an option applies; elsewhere it is refused. What is not listed applies to all.
APPLIES = {"batch": ("engine",), "workspace": ("engine",), "target": ("engine",)}


def options_for_formats(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command `--format` and the options that belong to single formats."""
    for option in (
        click.option("--target", type=click.Choice(["tensorrt", "rtx"]), default="tensorrt", show_default=True,
                     help="Of engine: rtx builds without a GPU."),
        click.option("--workspace", default=1.0, show_default=True, help="Of engine: GiB that its builder may use."),
        click.option("--batch", default=1, show_default=True, type=click.IntRange(1, 1024),
                     help="Of engine: the largest batch."),
        click.option("--format", "form", type=click.Choice(list(FORMATS)), default="onnx", show_default=True,
                     help="engine adds TensorRT plans for this machine."),
    ):  # fmt: skip
        command = option(command)
    return command


@contextmanager
def build_progress(graph: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar for TensorRT's outermost phase, which lasts seconds on a desktop and minutes on a Jetson."""
    from tqdm import tqdm

    outermost = ""
    with tqdm(desc=f"building {graph}", leave=False) as bar:

        def progress(phase: str, done: int, total: int) -> None:
            nonlocal outermost
            outermost = outermost or phase
            if phase == outermost:
                bar.total, bar.n = total, done
                bar.refresh()

        yield progress
