"""What `sp-edge export --format` makes of a bundle, and which options each format takes.

A new format is one function here: it gets the command's options, checks at once what can be checked, and gives back what
is to be done once there is a bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from sp_edge.cli.common import PATH, bank_beside, existing_bank, together
from sp_edge.cli.engines import build_engines
from sp_edge.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from sp_edge.bank.bank import Bank
    from sp_edge.bundle.bundle import Bundle

Make = Callable[["Bundle", str], None]  # of a bundle, in a precision


def _onnx(_options: Mapping[str, Any]) -> Make:
    return lambda _bundle, _precision: None


def _engine(options: Mapping[str, Any]) -> Make:
    from sp_edge_export.engines.engine import EngineOptions, check_installed

    flavour = "tensorrt_rtx" if options["target"] == "rtx" else "tensorrt"
    build = EngineOptions(flavour, options["workspace"], options["optimization_level"], options["compute_capability"])
    check_installed(flavour)

    def make(bundle: Bundle, precision: str) -> None:
        build_engines(bundle, precision, build, options["batch"] or 8, options["engines"], force=options["force"])

    return make


def _triton(options: Mapping[str, Any]) -> Make:
    from sp_edge_export.servers.triton import write_repository

    if options["engines"] is not None and not options["plans"]:
        raise SettingsError("--engines does nothing with --format triton alone", expected="--plans besides, or no --engines")
    _check_bank(options)

    def make(bundle: Bundle, precision: str) -> None:
        batch = options["batch"] or 8
        plans = _plans(bundle, precision, batch, options["engines"]) if options["plans"] else None
        folder = options["folder"] or bank_beside(bundle.path).with_name("triton")
        written = write_repository(
            bundle,
            _bank(options, bundle),
            folder,
            classifier=options["classifier"],
            precision=precision,
            max_batch=batch,
            plans=plans,
        )
        what = "all models" if written.encoders else "the encoders are those that were there"
        click.echo(f"triton: {written.path}, version {written.head} of the head, by {options['classifier']}; {what}")

    return make


def _deepstream(options: Mapping[str, Any]) -> Make:
    from sp_edge_export.servers.deepstream import write_deepstream

    _check_bank(options)

    def make(bundle: Bundle, precision: str) -> None:
        folder = options["folder"] or bank_beside(bundle.path).with_name("deepstream")
        batch, classifier = options["batch"] or 1, options["classifier"]
        write_deepstream(bundle, _bank(options, bundle), folder, classifier=classifier, precision=precision, max_batch=batch)
        click.echo(f"deepstream: {folder}, by {classifier}")

    return make


def _check_bank(options: Mapping[str, Any]) -> None:
    """Finds a bank that was named and is not there before the export's minutes of work, rather than after them."""
    if options["bank"]:
        existing_bank(options["bank"])


def _bank(options: Mapping[str, Any], bundle: Bundle) -> Bank:
    from sp_edge.bank.bank import Bank

    return Bank.load(existing_bank(options["bank"] or bank_beside(bundle.path)), bundle)


def _plans(bundle: Bundle, precision: str, batch: int, folder: Path | None) -> dict[str, Path]:
    """This device's plans, whose bytes are checked before a server gets them."""
    from sp_edge.engines.device import Device
    from sp_edge.engines.plans import find_plan
    from sp_edge_export.engines.engine import load_tensorrt

    device = Device.here("tensorrt", load_tensorrt("tensorrt").__version__)
    found = {graph: find_plan(bundle, graph, precision, batch, device, folder=folder) for graph in ("query", "support")}
    for plan in found.values():
        plan.read()
    return {graph: plan.path for graph, plan in found.items()}


FORMATS: Mapping[str, Callable[[Mapping[str, Any]], Make]] = {
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


# `--format` and the options that belong to single formats.
options_for_formats = together(
    click.option("--format", "form", type=click.Choice(list(FORMATS)), default="onnx", show_default=True,
                 help="engine adds TensorRT plans for this machine; triton writes a server's model repository, deepstream"
                 " nvinfer's configuration, with the classes that were taught."),
    click.option("--batch", type=click.IntRange(1, 1024), help="Largest batch.  [default: 8; of deepstream, 1]"),
    click.option("--bank", type=PATH, metavar="FILE",
                 help="Of triton and deepstream: file of the taught classes.  [default: classes.spbank beside the bundle]"),
    click.option("--classifier", type=click.Choice(["prototype", "lr"]), default="prototype", show_default=True,
                 help="Of triton and deepstream: which of the taught classes it is; nearest prototype or logistic regression."),
    click.option("--folder", type=PATH, metavar="DIR",
                 help="Of triton and deepstream: where to write.  [default: beside the bundle]"),
    click.option("--plans", is_flag=True, help="Of triton: serve this device's engines instead of the ONNX graphs."),
    click.option("--workspace", default=1.0, show_default=True, help="Of engine: GiB that its builder may use."),
    click.option("--target", type=click.Choice(["tensorrt", "rtx"]), default="tensorrt", show_default=True,
                 help="Of engine: rtx builds without a GPU."),
    click.option("--optimization-level", default=3, show_default=True, type=click.IntRange(0, 5),
                 help="Of engine: 0 builds fast, 5 runs fast."),
    click.option("--compute-capability", multiple=True, metavar="X.Y",
                 help="Of engine with --target rtx: GPUs to build for.  [default: 8.0 and later]"),
    click.option("--force", is_flag=True, help="Of engine: keep int8 where it is slower than fp16 on this GPU."),
    click.option("--engines", type=PATH, metavar="DIR",
                 help="Of engine and triton: keep TensorRT engines in this folder.  [default: ~/.cache/sp-edge/engines]"),
)  # fmt: skip
