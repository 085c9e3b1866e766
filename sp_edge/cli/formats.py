"""What `sp-edge export --format` makes of a bundle, and which options each format takes.

A new format is one function here: it gets the command's options and where the bundle is or will be, checks at once what can
be checked, and gives back what is to be done once there is a bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from sp_edge.cli.arguments import bank_beside, existing_bank
from sp_edge.cli.engines import building_bar
from sp_edge.cli.shared import PATH, together
from sp_edge.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from sp_edge.bundle.bundle import Bundle

Make = Callable[["Bundle", str], None]  # of a bundle, in a precision


def _onnx(_options: Mapping[str, Any], _where: Path) -> Make:
    return lambda _bundle, _precision: None


def _engine(options: Mapping[str, Any], _where: Path) -> Make:
    from sp_edge_export.engines.engine import EngineOptions, check_installed
    from sp_edge_export.engines.policy import build_engines

    flavour = "tensorrt_rtx" if options["target"] == "rtx" else "tensorrt"
    build = EngineOptions(flavour, options["workspace"], options["optimization_level"], options["compute_capability"])
    check_installed(flavour)

    def make(bundle: Bundle, precision: str) -> None:
        for engine in build_engines(
            bundle,
            build,
            precision=precision,
            max_batch=options["batch"] or 8,
            folder=options["engines"],
            force=options["force"],
            bar=building_bar,
        ):
            click.echo(f"engine: {engine}")

    return make


def _triton(options: Mapping[str, Any], where: Path) -> Make:
    from sp_edge.bank.bank import Bank
    from sp_edge_export.engines.policy import plans_here
    from sp_edge_export.servers.triton import earlier, write_repository

    if options["engines"] is not None and not options["plans"]:
        raise SettingsError("--engines does nothing with --format triton alone", expected="--plans besides, or no --engines")
    bank, folder = _bank_and_folder(options, where, "triton")
    earlier(folder)

    def make(bundle: Bundle, precision: str) -> None:
        batch = options["batch"] or 8
        plans = plans_here(bundle, precision, batch, options["engines"]) if options["plans"] else None
        written = write_repository(
            bundle,
            Bank.load(bank, bundle),
            folder,
            classifier=options["classifier"],
            precision=precision,
            max_batch=batch,
            plans=plans,
        )
        what = "all models" if written.encoders else "the encoders are those that were there"
        click.echo(f"triton: {written.path}, version {written.head} of the head, by {options['classifier']}; {what}")

    return make


def _deepstream(options: Mapping[str, Any], where: Path) -> Make:
    from sp_edge.bank.bank import Bank
    from sp_edge_export.servers.deepstream import earlier, write_deepstream

    bank, folder = _bank_and_folder(options, where, "deepstream")
    earlier(folder)

    def make(bundle: Bundle, precision: str) -> None:
        batch, classifier = options["batch"] or 1, options["classifier"]
        write_deepstream(bundle, Bank.load(bank, bundle), folder, classifier=classifier, precision=precision, max_batch=batch)
        click.echo(f"deepstream: {folder}, by {classifier}")

    return make


def _bank_and_folder(options: Mapping[str, Any], where: Path, name: str) -> tuple[Path, Path]:
    """The file of the taught classes, which must be there before the export's minutes of work, and the folder to write."""
    beside = bank_beside(where)
    return existing_bank(options["bank"] or beside), options["folder"] or beside.with_name(name)


FORMATS: Mapping[str, Callable[[Mapping[str, Any], Path], Make]] = {
    "onnx": _onnx,
    "engine": _engine,
    "triton": _triton,
    "deepstream": _deepstream,
}
# The formats to which an option applies; elsewhere it is refused. What is not listed applies to all.
APPLIES = {
    "batch": ("engine", "triton", "deepstream"),
    "workspace": ("engine",),
    "target": ("engine",),
    "optimization_level": ("engine",),
    "compute_capability": ("engine",),
    "force": ("engine",),
    "engines": ("engine", "triton"),
    "bank": ("triton", "deepstream"),
    "classifier": ("triton", "deepstream"),
    "folder": ("triton", "deepstream"),
    "plans": ("triton",),
}


# `--format` and the options that belong to single formats, which each one names in brackets.
options_for_formats = together(
    click.option("--format", "form", type=click.Choice(list(FORMATS)), default="onnx", show_default=True,
                 help="Choose what to make. onnx: the bundle alone. engine: TensorRT engines for this machine, too. triton: a"
                 " model repository for NVIDIA's server. deepstream: a folder for nvinfer. The last two hold the taught"
                 " classes."),
    click.option("--batch", type=click.IntRange(1, 1024),
                 help="Set the most pictures in one run (engine, triton, deepstream).  [default: 8; of deepstream, 1]"),
    click.option("--bank", type=PATH, metavar="FILE",
                 help="Take the taught classes from this file (triton, deepstream)."
                 "  [default: classes.spbank beside the bundle]"),
    click.option("--classifier", type=click.Choice(["prototype", "lr"]), default="prototype", show_default=True,
                 help="Decide by the nearest prototype, or by logistic regression on the shots (triton, deepstream)."),
    click.option("--folder", type=PATH, metavar="DIR",
                 help="Write into this folder (triton, deepstream).  [default: beside the bundle]"),
    click.option("--plans", is_flag=True, help="Serve this device's engines instead of the ONNX graphs (triton)."),
    click.option("--workspace", default=1.0, show_default=True, metavar="GIB",
                 help="Limit the memory, in GiB, that the builder tries kernels in (engine)."),
    click.option("--target", type=click.Choice(["tensorrt", "rtx"]), default="tensorrt", show_default=True,
                 help="Choose the builder (engine). rtx is TensorRT-RTX, which builds without a GPU."),
    click.option("--optimization-level", default=3, show_default=True, type=click.IntRange(0, 5),
                 help="Set how long the builder searches: 0 builds fast, 5 runs fast (engine)."),
    click.option("--compute-capability", multiple=True, metavar="X.Y",
                 help="Build for these GPUs; give it again for several (engine with --target rtx).  [default: 8.0 and later]"),
    click.option("--force", is_flag=True, help="Keep int8 where it is slower than fp16 on this GPU (engine)."),
    click.option("--engines", type=PATH, metavar="DIR",
                 help="Find and keep TensorRT engines in this folder (engine, triton).  [default: ~/.cache/sp-edge/engines]"),
)  # fmt: skip
