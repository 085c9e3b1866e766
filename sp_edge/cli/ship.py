"""Commands that turn a checkpoint into something a device can run: export, verify."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sp_edge import runs
from sp_edge.cli.common import PATH, Command, find_checkpoint, split_bundle
from sp_edge.errors import BundleError, DataError, MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sp_edge.preprocess import Preprocess


@click.command(cls=Command)
@click.argument("checkpoint", type=PATH, required=False)
@click.option("--precision", type=click.Choice(["fp32", "fp16", "int8"]), default="fp32", show_default=True)
@click.option(
    "--format",
    "form",
    type=click.Choice(["onnx", "engine"]),
    default="onnx",
    show_default=True,
    help="engine adds TensorRT plans for this machine.",
)
@click.option("--out", type=PATH, help="The bundle. [default: model.spedge beside the checkpoint]")
@click.option("--data", type=PATH, help="Folder of calibration pictures; int8 needs it.")
@click.option("--prompts", "extra", type=PATH, multiple=True, help="Further class names, from `sp-edge prompts --out`.")
@click.option("--max-drop", default=0.01, show_default=True, help="Accuracy, 0 to 1, that a precision may lose.")
@click.option("--batch", default=1, show_default=True, type=click.IntRange(1, 1024), help="Largest batch of an engine.")
@click.option("--workspace", default=1.0, show_default=True, help="GiB that the engine's builder may use.")
@click.option(
    "--target", type=click.Choice(["tensorrt", "rtx"]), default="tensorrt", show_default=True, help="rtx builds without a GPU."
)
def export(
    checkpoint: Path | None,
    precision: str,
    form: str,
    out: Path | None,
    data: Path | None,
    extra: tuple[Path, ...],
    max_drop: float,
    batch: int,
    workspace: float,
    target: str,
) -> None:
    """Export a checkpoint to a verified bundle."""
    from sp_edge.data.sets import preprocess_of
    from sp_edge.prompts import PromptTable
    from sp_edge.training.checkpoint import Checkpoint
    from sp_edge_export.export import ExportOptions
    from sp_edge_export.export import export as run_export

    build = None
    if form == "engine":
        from sp_edge_export.engine import EngineOptions, build_engine, load_tensorrt

        build = EngineOptions("tensorrt_rtx" if target == "rtx" else "tensorrt", batch, workspace)
        load_tensorrt(build.flavour)  # now, and not after minutes of work
    file = find_checkpoint(checkpoint)
    loaded = Checkpoint.load(file)
    further = None
    for path in extra:
        read = PromptTable.load(path)
        further = read if further is None else further.with_table(read)
    pictures = read_pictures(data, preprocess_of(loaded.settings)) if data else None
    options = ExportOptions(precision, max_drop, further, pictures)
    bundle = run_export(loaded, out or file.parent / runs.BUNDLE, options, say=click.echo)
    click.echo(f"bundle: {bundle.path}")
    if build is not None:
        folder = bundle.path.with_suffix("") if bundle.path.suffix == ".spedge" else bundle.path
        for graph in ("query", "support"):
            plan = folder / f"{graph}.{precision}.plan"
            with build_progress(graph) as progress:
                build_engine(bundle, graph, plan, build, progress=progress)
            click.echo(f"engine: {plan}")


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


def read_pictures(folder: Path, preprocess: Preprocess) -> NDArray[np.uint8]:
    """Every picture below a folder, preprocessed: uint8 (n, H, W, 3) RGB.

    Raises:
        DataError: no folder, or no pictures in it.
    """
    import numpy as np

    from sp_edge.preprocess import image_files, load_image

    if not folder.is_dir():
        raise DataError(f"no folder {folder}", expected="a folder with pictures")
    files = [file for place in (folder, *sorted(p for p in folder.rglob("*") if p.is_dir())) for file in image_files(place)]
    if not files:
        raise DataError(f"no pictures in {folder}", expected="JPEG, PNG or other pictures")
    return np.stack([preprocess(load_image(file)) for file in files])


@click.command(cls=Command)
@click.argument("bundle", type=PATH, nargs=-1)
@click.option("--json", "json_file", type=PATH, help="Write the figures to a file, too.")
def verify(bundle: tuple[Path, ...], json_file: Path | None) -> None:
    """Check a bundle: every file's hash, the graphs, and the golden pictures on this machine."""
    from sp_edge.bundle import Bundle
    from sp_edge.files import write_json

    try:
        from sp_edge_export.verify import check_golden
    except ImportError as cause:
        raise MissingExtraError("cannot check the graphs", package=str(cause.name), extra="export") from cause
    path, rest = split_bundle(bundle)
    if rest:
        raise BundleError("not a bundle", expected="[BUNDLE]", got=", ".join(map(str, rest)))
    loaded = Bundle.load(path)
    click.echo(f"{path}: {len(loaded.manifest.files)} files, all as the manifest says")
    found = check_golden(loaded)
    for precision, least in found.items():
        click.echo(f"{precision}: golden pictures agree, cosine {least:.6f} or better")
    if json_file:
        write_json(json_file, {"bundle": str(path), "fingerprint": loaded.fingerprint, "golden": found})
