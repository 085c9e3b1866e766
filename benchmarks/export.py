"""Measures what export makes of two networks: nodes, size, fidelity, accuracy, time on this CPU, and TensorRT's verdict.

    python benchmarks/export.py --demo demo/runs/1/checkpoint.safetensors --json export.json

The demo's network is a trained one. visformer_tiny at 224 pixels is the paper's, here with random weights and BatchNorm
statistics of real inputs (no trained weights come with the project): its accuracy says how well a precision follows
float32, and nothing else. Pictures are scenes that the project draws: base classes calibrate, validation classes measure.

Times are of one picture, on as many threads as `--threads` says, eager PyTorch and every graph in turn, `--rounds` times;
each figure is the median, and 'speed-up' that of PyTorch's median over it. fp16 and int8 graphs are made for TensorRT:
ONNX Runtime on a CPU converts half numbers to and fro and computes these int8 graphs in float, so they are slower here.
A plan is what TensorRT's builder makes of the graph for a batch of 1; building needs no GPU with TensorRT-RTX.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from PIL import Image
from untrained import untrained

from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.manifest import GRAPHS
from sp_edge.columns import table
from sp_edge.data import scenes, sets
from sp_edge.errors import SpEdgeError
from sp_edge.files import write_json
from sp_edge.precisions import EXPORTED
from sp_edge.training.checkpoint import Checkpoint
from sp_edge_calibration.pictures import Pictures
from sp_edge_export.engines.engine import EngineOptions, build_engine
from sp_edge_export.export import ExportOptions, export
from sp_edge_runtime.bench.timing import medians_ms

CALIBRATION_PER_CLASS = 2


def calibration(checkpoint: Checkpoint, folder: Path) -> Pictures:
    """Scenes of the base classes, written as files and read as a user's folder would be."""
    size = checkpoint.settings.model.image_size
    drawn = scenes.draw_split("train", size=size, per_class=CALIBRATION_PER_CLASS, seed=7)
    for number in range(0, len(drawn), max(1, len(drawn) // 400)):
        Image.fromarray(drawn.images[number]).save(folder / f"{number:05}.png")
    return Pictures.read(folder, sets.preprocess_of(checkpoint.settings))


def runners(checkpoint: Checkpoint, graph: str, files: dict[str, Path], threads: int) -> dict[str, Callable[[], object]]:
    """What is timed: a picture, and with it a prompt for 'support', to a feature."""
    rng, size = np.random.default_rng(0), checkpoint.settings.model.image_size
    inputs: dict[str, Any] = {"image": rng.integers(0, 256, (1, size, size, 3), dtype=np.uint8)}
    if graph == "support":
        inputs["prompt"] = rng.standard_normal((1, checkpoint.prompts.text.dim)).astype(np.float32)
    image, *prompt = map(torch.from_numpy, inputs.values())

    @torch.no_grad()
    def eager() -> object:
        tokens = checkpoint.network.begin(checkpoint.network.normalise(image))
        plain = checkpoint.network.finish(tokens)
        return plain, *(checkpoint.network.finish(tokens, each, plain=plain) for each in prompt)

    made: dict[str, Callable[[], object]] = {"pytorch": eager}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    for precision, file in files.items():
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        made[precision] = partial(session.run, None, inputs)
    return made


def plan_of(bundle: Bundle, graph: str, precision: str, folder: Path, flavour: str) -> tuple[str, int]:
    """TensorRT's verdict in a word or its own words, and the plan's bytes."""
    try:
        plan, _ = build_engine(bundle, graph, EngineOptions(flavour), precision=precision, folder=folder)
    except SpEdgeError as error:
        return f"{error.what}: {error.got}"[:200], 0
    return "builds", plan.path.stat().st_size


def measure(name: str, checkpoint: Checkpoint, folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each graph and precision."""
    (folder / "pictures").mkdir(parents=True)
    pictures = calibration(checkpoint, folder / "pictures")
    asked = ExportOptions("int8", max_drop=1.0, calibration=pictures, pictures=options.pictures, text="none")
    bundle = export(checkpoint, folder / "model.spedge", asked)  # has the graphs of every precision
    rows = []
    for graph in GRAPHS:
        files = {precision: bundle.graph(graph, precision) for precision in EXPORTED}
        times = medians_ms(runners(checkpoint, graph, files, options.threads), options.rounds, warm=2)
        for precision in EXPORTED:
            stage = next(stage for stage in bundle.manifest.stages if stage["stage"] == precision)
            verdict, plan = plan_of(bundle, graph, precision, folder / "engines", options.flavour)
            rows.append(
                {
                    "network": name,
                    "graph": graph,
                    "precision": precision,
                    "nodes": len(onnx.load(files[precision]).graph.node),
                    "bytes": files[precision].stat().st_size,
                    "against": stage["against"],
                    "cosine_mean": stage["cosine_mean"],
                    "cosine_min": stage["cosine_min"],
                    "accuracy": stage["accuracy"],
                    "drop": stage["drop"],
                    "ms": times[precision],
                    "speed_up": times["pytorch"] / times[precision],
                    "tensorrt": verdict,
                    "plan_bytes": plan,
                    "variant": stage.get("variant"),
                }
            )
    return rows


def line(row: dict[str, Any]) -> list[str]:
    """A row of the printed table."""
    accuracy, drop = row["accuracy"], row["drop"]
    return [
        f"{row['network']}, {row['graph']}, {row['precision']}",
        str(row["nodes"]),
        f"{row['bytes'] / 1e6:.1f}",
        f"{row['cosine_mean']:.6f}",
        f"{row['cosine_min']:.6f}",
        f"{100 * accuracy['mean']:.1f} ± {100 * accuracy['interval']:.1f}",
        f"{100 * drop['mean']:+.2f} ± {100 * drop['interval']:.2f}",
        f"{row['ms']:.1f}",
        f"{row['speed_up']:.2f}x",
        row["tensorrt"],
        f"{row['plan_bytes'] / 1e6:.1f}" if row["plan_bytes"] else "-",
    ]


HEADER = ["", "nodes", "MB", "cosine mean", "least", "accuracy %", "paired", "ms", "speed-up", "TensorRT", "plan MB"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, help="the checkpoint of `make demo`; without it, only visformer_tiny is measured")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--pictures", type=int, default=160, help="on which stages are compared")
    parser.add_argument("--flavour", default="tensorrt_rtx", choices=["tensorrt", "tensorrt_rtx"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    networks = {"demo": Checkpoint.load(options.demo)} if options.demo else {}
    networks["visformer_tiny 224, untrained"] = untrained()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for name, checkpoint in networks.items():
            rows += measure(name, checkpoint, Path(place) / str(len(rows)), options)
            print(table(HEADER, [line(row) for row in rows]), flush=True)  # all so far: the second network takes long
            if options.json:
                write_json(options.json, {"threads": options.threads, "rounds": options.rounds, "rows": rows})


if __name__ == "__main__":
    main()
