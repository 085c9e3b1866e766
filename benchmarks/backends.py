"""How fast is each engine on this machine, and how close are its features to the bundle's golden ones?

    python benchmarks/backends.py runs/1/model.spedge

Engines take turns, a run each, so that what else the machine does falls on all alike. The tables give the median time of a run
and its ratio to ONNX Runtime's on the CPU in the bundle's precision: above 1 is faster. What cannot run here says why.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from timing import medians_ms

from sp_edge.bundle.bundle import Bundle
from sp_edge.columns import table
from sp_edge.errors import SpEdgeError
from sp_edge.files import write_json
from sp_edge.precisions import PRECISIONS
from sp_edge_runtime.backends.backend import Backend, least_cosine
from sp_edge_runtime.backends.devices import open_backend

WARM = 5
DEVICES = ("cpu", "openvino", "cuda", "tensorrt")


def opened(bundle: Bundle, stack: ExitStack) -> tuple[dict[str, Backend], dict[str, str]]:
    """Every engine and precision that this machine and the bundle have, and why the others are not there."""
    found: dict[str, Backend] = {}
    missing: dict[str, str] = {}
    for device in DEVICES:
        for precision in PRECISIONS:
            if precision == "bf16" and device != "openvino":
                continue
            if precision != "bf16" and precision not in bundle.manifest.graphs:
                continue
            try:
                found[f"{device} {precision}"] = stack.enter_context(open_backend(bundle, device, precision))
            except SpEdgeError as error:
                missing[f"{device} {precision}"] = f"{error.what}; {error.got}"
    return found, missing


@click.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.option("--runs", default=200, show_default=True, type=click.IntRange(1), help="Of each engine, graph and batch.")
@click.option("--batches", default=(1, 8), show_default=True, multiple=True, type=click.IntRange(1))
@click.option("--out", type=click.Path(path_type=Path), help="Write the figures to a JSON file, too.")
def main(path: Path, runs: int, batches: tuple[int, ...], out: Path | None) -> None:
    """Measure every engine on a bundle."""
    bundle = Bundle.load(path)
    side, dim = bundle.manifest.preprocess.image_size, bundle.manifest.text.dim
    random = np.random.default_rng(0)
    figures: list[dict[str, Any]] = []
    with ExitStack() as stack:
        backends, missing = opened(bundle, stack)
        golden = bundle.golden()
        cosines = {name: least_cosine(backend, golden) for name, backend in backends.items()}
        for graph in ("query", "support"):
            for batch in batches:
                inputs: dict[str, Any] = {"image": random.integers(0, 256, (batch, side, side, 3), dtype=np.uint8)}
                if graph == "support":
                    inputs["prompt"] = random.normal(size=(batch, dim)).astype(np.float32)
                actions = {name: partial(backend.run, graph, inputs) for name, backend in backends.items()}
                found = medians_ms(actions, runs, warm=WARM)
                base = found.get(f"cpu {bundle.manifest.precision}", float("nan"))
                rows = [(n, f"{ms:.2f}", f"{base / ms:.2f}", f"{cosines[n]:.6f}") for n, ms in found.items()]
                click.echo(f"\n{graph}, batch {batch}, {side} px: median of {runs} runs")
                click.echo(table(["engine", "ms", "faster by", "golden cosine"], rows))
                figures += [
                    {"engine": name, "graph": graph, "batch": batch, "median_ms": ms, "cosine": cosines[name]}
                    for name, ms in found.items()
                ]
        click.echo()
        for name, backend in backends.items():
            click.echo(f"{name}: {backend.description}")
    for name, why in missing.items():
        click.echo(f"{name}: not measured, {why}")
    if out:
        write_json(out, {"bundle": bundle.fingerprint, "runs": runs, "figures": figures, "missing": missing})


if __name__ == "__main__":
    main()
