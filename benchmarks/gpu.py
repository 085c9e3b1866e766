"""What a GPU makes of it, within 520 seconds by default.

    python benchmarks/gpu.py ready.spedge --json gpu.json
    python benchmarks/gpu.py ready.spedge --device cpu --seconds 120      # tries the script itself

Each part runs in a process of its own. One that crashes or hangs costs only itself, and all that it started ends with it. What
it said stands in the JSON file, which is written after each part. PyTorch is measured eagerly, compiled, and as a CUDA graph;
engines through the backends; then camera to label, training (`benchmarks/train.py`) and the tests that need a GPU. It was not
yet run on a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sp_edge.bank.bank import Bank
from sp_edge.bundle.bundle import Bundle
from sp_edge.columns import table
from sp_edge.files import write_json
from sp_edge_runtime.bench.candidates import opened
from sp_edge_runtime.bench.figures import Figures
from sp_edge_runtime.bench.phases import TEST, Phases
from sp_edge_runtime.bench.provenance import PACKAGES, provenance, versions
from sp_edge_runtime.bench.timing import Spread, taken_ms
from sp_edge_runtime.recognizer import Recognizer

HERE = Path(__file__).parent
BATCHES = {"cuda": (1, 8, 64, 256), "cpu": (1, 8)}
RUNS = {"cuda": 30, "cpu": 3}
EAGER, GRAPH = "eager, float32", "CUDA graph, half"
RESERVE = 15.0  # seconds of the whole that no part gets


def machine(_bundle: Path, device: str) -> dict[str, Any]:
    """The card, the driver and the versions."""
    import torch

    told = provenance("python benchmarks/gpu.py")
    told["processor"].pop("model", None)
    told["versions"] |= versions((*PACKAGES, "torch", "timm", "nvidia-ml-py", "cuda-bindings"))
    card = torch.cuda.get_device_name() if device == "cuda" else None
    return {**told, "card": card, "torch_cuda": torch.version.cuda}


def peak(_bundle: Path, device: str) -> dict[str, float]:
    """Operations a second of a large matrix product, by precision: what a network's share stands against."""
    import torch
    from train import peak as measured

    kinds = (torch.float32, torch.bfloat16, torch.float16)[: 3 if device == "cuda" else 1]
    return {str(kind).removeprefix("torch."): measured(torch.device(device), kind) for kind in kinds}


def pytorch(_bundle: Path, device: str) -> dict[str, Any]:
    """The network in PyTorch: eager, in half precision with channels last, and that captured as a CUDA graph."""
    import torch
    from peers import network
    from torch.utils.flop_counter import FlopCounterMode

    model, fast = network()[0].to(device), halved(network()[0], device)
    found: dict[str, Any] = {}
    with torch.inference_mode():
        for size in BATCHES[device]:
            packed = example(size, device)
            ways: dict[str, Callable[[], object]] = {
                EAGER: partial(model, torch.rand(size, 3, 224, 224, device=device)),
                "eager, half": partial(fast, packed),
            }
            if device == "cuda":
                ways[GRAPH] = captured(fast, packed)
            found[str(size)] = {name: spread(way, device) for name, way in ways.items()}
        with FlopCounterMode(display=False) as counter:
            model(torch.rand(1, 3, 224, 224, device=device))
    return {"batches": found, "operations_a_picture": counter.get_total_flops()}


def compiled(_bundle: Path, device: str) -> dict[str, Any]:
    """The same compiled, which captures CUDA graphs by itself, and seconds to its first result."""
    import torch
    from peers import network

    found: dict[str, Any] = {}
    fast = torch.compile(halved(network()[0], device), mode="reduce-overhead")
    with torch.inference_mode():
        for size in (1, 64) if device == "cuda" else (1,):
            packed, began = example(size, device), time.perf_counter()
            fast(packed)
            first = time.perf_counter() - began
            found[str(size)] = {"compiled, half": spread(partial(fast, packed), device), "first_result_s": first}
    return found


def halved(model: Any, device: str) -> Any:
    """A network in half precision on a GPU, with channels last."""
    import torch

    return model.to(device, torch.float16 if device == "cuda" else torch.float32, memory_format=torch.channels_last)


def example(size: int, device: str) -> Any:
    """What such a network takes."""
    import torch

    pictures = torch.rand(size, 3, 224, 224, device=device, dtype=torch.float16 if device == "cuda" else torch.float32)
    return pictures.contiguous(memory_format=torch.channels_last)


def captured(model: Any, packed: Any) -> Callable[[], object]:
    """The network as a CUDA graph, which is replayed on the same memory."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # warms up, as capturing needs it
        for _ in range(3):
            model(packed)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model(packed)
    return graph.replay


def spread(way: Callable[[], object], device: str) -> dict[str, float]:
    """Milliseconds of a run, with the GPU waited for."""
    import torch

    def finished() -> None:
        way()
        if device == "cuda":
            torch.cuda.synchronize()

    found = Spread.of(taken_ms(finished, RUNS[device], warm=RUNS[device] // 3))
    assert found is not None  # noqa: S101 - there were runs
    return vars(found)


def building(bundle: Path, device: str) -> dict[str, Any]:
    """Engines for this GPU in the bundle's precision, of TensorRT and TensorRT-RTX; on a CPU nothing is built."""
    if device == "cpu":
        return {"built": {}}
    from sp_edge.engines.sidecar import FLAVOURS
    from sp_edge.errors import SpEdgeError
    from sp_edge_export.engines.engine import EngineOptions
    from sp_edge_export.engines.policy import build_engines

    def built(flavour: str) -> list[str]:
        try:
            made = build_engines(Bundle.load(bundle), EngineOptions(flavour=flavour), max_batch=max(BATCHES[device]))
        except SpEdgeError as error:  # its own words
            return str(error).splitlines()
        return [str(each) for each in made]

    return {"built": {flavour: built(flavour) for flavour in FLAVOURS}}


def engines(bundle: Path, device: str) -> dict[str, Any]:
    """Every backend of the device, with copies to it and back: batches, and from a camera to the label."""
    loaded = Bundle.load(bundle)
    images = loaded.golden().images
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        backends, missing = opened(loaded, stack, None, ("cuda", "tensorrt") if device == "cuda" else ("cpu",))
        for key, (backend, cosine) in backends.items():
            batches: dict[str, Any] = {}
            for size in BATCHES[device]:
                batch = {"image": images[np.arange(size) % len(images)]}
                run = partial(backend.run, "query", batch)
                batches[str(size)] = vars(Spread.of(taken_ms(run, RUNS[device], warm=2)))
            figures = Figures(*key, backend.title, cosine)
            recognizer = Recognizer(loaded, Bank.empty(loaded), backend)
            phases = Phases(loaded, [recognizer], [figures], folder=folder, source=TEST, engines=None, meter=None)
            with phases.sources:
                phases.camera(0)
            told = figures.to_json()
            found[figures.name] = {"batches": batches, **{name: told[name] for name in ("cosine", "camera", "failed")}}
    return {"backends": found, "missing": missing}


def training(_bundle: Path, device: str) -> Any:
    """Both stages over the plain loop, as `benchmarks/train.py` measures them."""
    steps = ["--steps", "20" if device == "cuda" else "1", "--rounds", "2" if device == "cuda" else "1"]
    network = ["--backbone", "visformer_tiny", "--image-size", "224"] if device == "cuda" else ["--batch-size", "8"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "train.json"
        command = [sys.executable, str(HERE / "train.py"), "--device", device, *steps, *network, "--json", str(out)]
        subprocess.run(command, check=True)  # noqa: S603
        return json.loads(out.read_text("utf-8"))["stages"]


def marked_tests(bundle: Path, device: str) -> dict[str, Any]:
    """The tests that need a GPU; a CPU has none to run."""
    if device == "cpu":
        return {"code": None, "said": []}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/runtime"]
    environment = {**os.environ, "SP_EDGE_GPU_BUNDLE": str(bundle.resolve())}
    ran = subprocess.run(command, cwd=HERE.parent, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    return {"code": ran.returncode, "said": ran.stdout.splitlines()[-15:]}


# Part -> seconds that it may take at most on a GPU; what matters most comes first.
PARTS: dict[str, tuple[Callable[[Path, str], Any], float]] = {
    "machine": (machine, 30),
    "peak": (peak, 30),
    "building": (building, 150),
    "engines": (engines, 90),
    "pytorch": (pytorch, 60),
    "compiled": (compiled, 100),
    "training": (training, 120),
    "marked_tests": (marked_tests, 90),
}


def run_part(name: str, bundle: Path, device: str, seconds: float) -> dict[str, Any]:
    """One part in a process of its own: what it found, or its last words."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "part.json"
        command = [sys.executable, __file__, str(bundle), "--device", device, "--part", name, "--json", str(out)]
        said = Path(folder) / "said"
        with said.open("wb") as errors:
            process = subprocess.Popen(  # noqa: S603
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True
            )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return {"failed": f"not done after {seconds:.0f} s", "seconds": round(time.monotonic() - began, 1)}
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it started, too
            process.wait()
        took = round(time.monotonic() - began, 1)
        if code != 0 or not out.exists():
            last = said.read_text("utf-8", errors="replace").strip().splitlines()[-12:]
            return {"failed": f"ended with {code}", "said": last, "seconds": took}
        return {"found": json.loads(out.read_text("utf-8")), "seconds": took}


def goals(parts: dict[str, Any]) -> list[list[str]]:
    """What was aimed at and what was found, of what was measured."""
    rows = []
    batches = parts.get("pytorch", {}).get("found", {}).get("batches", {}).get("1", {})
    if graph := batches.get(GRAPH):
        rows.append(["ms at batch 1, CUDA graph", f"{graph['median']:.3f}", "<= 0.35"])
        rows.append(["eager over CUDA graph", f"{batches[EAGER]['median'] / graph['median']:.1f}", ">= 8"])
    stages = parts.get("training", {}).get("found", [])
    return rows + [[f"training over the plain loop, {one['stage']}", f"{one['ratio']:.1f}", ">= 5"] for one in stages]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--seconds", type=float, default=520.0, help="of the whole, at most")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--part", choices=list(PARTS), help="run only this one, in this process")
    options = parser.parse_args()
    if options.part:
        write_json(options.json, PARTS[options.part][0](options.bundle, options.device))
        return
    until = time.monotonic() + options.seconds - RESERVE
    parts: dict[str, Any] = {}
    for name, (_, most) in PARTS.items():
        left = until - time.monotonic()
        parts[name] = (
            run_part(name, options.bundle, options.device, min(most, left)) if left > 1 else {"failed": "no time left"}
        )
        print(f"{name}: {parts[name].get('failed', 'done')}, {parts[name].get('seconds', 0)} s", flush=True)
        for line in parts[name].get("said", []):
            print(f"    {line}", flush=True)
        if options.json:
            write_json(options.json, {"schema": 1, "device": options.device, "parts": parts})
    if rows := goals(parts):
        print(table(["", "measured", "goal"], rows))


if __name__ == "__main__":
    main()
