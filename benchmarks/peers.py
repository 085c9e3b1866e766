"""What would a user get without sp-edge: the same network and photographs, through the usual ways, in one run.

    sp-edge ready --out ready.spedge
    python benchmarks/peers.py ready.spedge --json docs/measurements/peers.json

The network is EfficientNet-Lite0 with the weights of the extra `ready`. Ways take turns, round by round; each figure is a
median, and each ratio is the median over the rounds, with its quartiles. `timm, eager` is what the ratios stand against.
"""

from __future__ import annotations

import argparse
import copy
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import timm
import torch
from PIL import Image
from stream import write_video
from timm.data import create_transform
from torch import Tensor, nn

from sp_edge.bank.bank import Bank
from sp_edge.bundle.bundle import Bundle
from sp_edge.columns import table
from sp_edge.files import write_json
from sp_edge.matching.decide import row_cosines
from sp_edge.model.ready.registry import DEFAULT, find_weights
from sp_edge.photographs import Photograph, photographs
from sp_edge_runtime.backends.openvino_runtime import import_openvino
from sp_edge_runtime.bench.candidates import opened
from sp_edge_runtime.bench.provenance import processor, provenance, versions
from sp_edge_runtime.bench.timing import Spread, taken_ms
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.streams.stream import results

PACKAGES = ("torch", "timm", "easyfsl", "onnxscript", "openvino")
TAUGHT = 5  # photographs that are taught, one a class; the next ones are asked
EAGER, SCRIPT, EASYFSL = "timm, eager", "timm, OpenCV and cosine", "easyfsl"
Way = Callable[[], object]


def network() -> tuple[nn.Module, Callable[[Image.Image], Tensor]]:
    """Timm's network with the weights, and timm's own transform for them: picture -> float32 (3, 224, 224)."""
    found = find_weights(DEFAULT)
    model = timm.create_model(found.architecture, num_classes=0)
    model.load_state_dict(dict(found.weights))
    transform = create_transform(
        (3, found.image_size, found.image_size),
        interpolation=found.interpolation,
        mean=tuple(value / 255 for value in found.mean),
        std=tuple(value / 255 for value in found.std),
        crop_pct=found.crop,
    )
    return model.eval(), transform


def torch_ways(
    model: nn.Module, example: Tensor, folder: Path, *, compiled: bool
) -> tuple[dict[str, Callable[[Tensor], Any]], float | None]:
    """The ways within PyTorch, and seconds to the first result of the compiled one."""
    ways: dict[str, Callable[[Tensor], Any]] = {EAGER: model}
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    ways["timm, channels last"] = lambda x: last(x.contiguous(memory_format=torch.channels_last))
    if {"avx512_bf16", "amx_bf16", "bf16"} & set(processor()["instructions"]):
        half = copy.deepcopy(last).bfloat16()
        ways["timm, channels last, bf16"] = lambda x: half(x.bfloat16().contiguous(memory_format=torch.channels_last))
    if not compiled:
        return ways, None
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "compiled")  # so that no earlier run has compiled it
    fast, began = torch.compile(copy.deepcopy(model)), time.perf_counter()
    fast(example)
    ways["timm, torch.compile"] = fast
    return ways, time.perf_counter() - began


def exported_ways(model: nn.Module, folder: Path) -> dict[str, Callable[[Tensor], Any]]:
    """torch.onnx.export as its documentation shows it, with a batch that may vary; ONNX Runtime and OpenVINO by default."""
    path, example = folder / "plain.onnx", torch.rand(2, 3, 224, 224)
    shapes = ({0: torch.export.Dim("batch")},)
    torch.onnx.export(model, (example,), str(path), dynamic_shapes=shapes, dynamo=True, external_data=False, verbose=False)
    session = onnxruntime.InferenceSession(path)
    (entry,) = session.get_inputs()
    core = import_openvino().Core()
    graph = core.compile_model(str(path), "CPU")
    return {
        "plain ONNX, ONNX Runtime": lambda x: session.run(None, {entry.name: x.numpy()})[0],
        "plain ONNX, OpenVINO": lambda x: graph(x.numpy())[0],
    }


def in_rounds(ways: Mapping[str, Way], rounds: int, runs: int, *, warm: int) -> dict[str, list[float]]:
    """Milliseconds of each way: the median of `runs` in each round."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds):
        for place in range(len(names)):
            name = names[(place + number) % len(names)]
            taken[name].append(float(np.median(taken_ms(ways[name], runs, warm=warm))))
    return taken


def compared(taken: Mapping[str, list[float]], base: str) -> dict[str, dict[str, Any]]:
    """Of each way its time and its ratio to another's, round by round."""
    found = {}
    for name, values in taken.items():
        ratios = [value / other for value, other in zip(values, taken[base], strict=True)]
        found[name] = {"ms": asdict(_spread(values)), "ratio": asdict(_spread(ratios))}
    return found


def _spread(values: list[float]) -> Spread:
    found = Spread.of(values)
    assert found is not None, "a way that ran"  # noqa: S101
    return found


def networks(bundle: Bundle, folder: Path, rounds: int, *, compiled: bool) -> dict[str, Any]:
    """The network alone, on the photographs: batches of 1 and 8."""
    model, transform = network()
    shown = [photograph.read() for photograph in photographs()]
    plain = torch.stack([transform(Image.fromarray(image)) for image in shown])
    ours = np.stack([bundle.manifest.preprocess(image) for image in shown])
    with ExitStack() as stack, torch.inference_mode():
        inside, first = torch_ways(model, plain[:1], folder, compiled=compiled)
        backends, _ = opened(bundle, stack, None)
        outside = {**inside, **exported_ways(model, folder)}

        def ways(size: int, kept: Mapping[str, Callable[[Tensor], Any]]) -> dict[str, Way]:
            mine = {
                f"sp-edge, {' '.join(key)}": partial(backend.run, "query", {"image": ours[:size]})
                for key, (backend, _) in backends.items()
            }
            return {**{name: partial(way, plain[:size]) for name, way in kept.items()}, **mine}

        reference = np.asarray(model(plain))
        cosines = {
            name: float(row_cosines(np.asarray(way(plain)), reference).min())
            for name, way in outside.items()
            if "compile" not in name  # which would compile once more for this batch
        }
        found = compared(in_rounds(ways(1, outside), rounds, 5, warm=2), EAGER)
        alike = {name: way for name, way in outside.items() if "compile" not in name}
        eight = compared(in_rounds(ways(8, alike), max(3, rounds // 2), 1, warm=1), EAGER)
    return {"batch_1": found, "batch_8": eight, "cosine_to_eager": cosines, "compile_first_result_s": first}


def files_of(folder: Path, shown: list[Photograph]) -> list[Path]:
    """The photographs as files."""
    paths = [folder / f"{photograph.name}.jpg" for photograph in shown]
    for path, photograph in zip(paths, shown, strict=True):
        path.write_bytes(photograph.content())
    return paths


def few_shots(bundle: Bundle, folder: Path, rounds: int) -> dict[str, Any]:
    """From files to a label: five classes with a picture each are taught, then one picture is recognized."""
    from easyfsl.methods import PrototypicalNetworks

    model, transform = network()
    every = list(photographs())
    paths, names = files_of(folder, every), [photograph.name for photograph in every]
    taught, asked = paths[:TAUGHT], paths[0]
    methods = PrototypicalNetworks(model).eval()

    def read(path: Path) -> Tensor:
        with Image.open(path) as image:
            return transform(image.convert("RGB"))

    def by_easyfsl() -> int:
        methods.process_support_set(torch.stack([read(path) for path in taught]), torch.arange(TAUGHT))
        return int(methods(read(asked)[None]).argmax())

    with Recognizer.load(bundle.path) as recognizer, torch.inference_mode():
        empty = Bank.empty(recognizer.bundle)
        classes = {name: [path] for name, path in zip(names, taught, strict=False)}

        def by_us() -> str:
            recognizer.replace_bank(empty)
            recognizer.enroll_many(classes)
            return recognizer.classify(asked).label

        assert by_easyfsl() == 0  # noqa: S101
        assert by_us() == names[0]  # noqa: S101
        ways: dict[str, Way] = {EASYFSL: by_easyfsl, f"sp-edge, {recognizer.backend.title}": by_us}
        return compared(in_rounds(ways, rounds, 1, warm=0), EASYFSL)


def of_a_video(bundle: Bundle, folder: Path, frames: int, rounds: int) -> dict[str, Any]:
    """From a video to labels, a frame: OpenCV, timm and cosine in a loop; and our stream."""
    video = folder / "video.mp4"
    write_video(video, frames)
    model, transform = network()
    shown = [photograph.read() for photograph in photographs()[:TAUGHT]]

    def encode(image: np.ndarray) -> Tensor:
        return nn.functional.normalize(model(transform(Image.fromarray(image))[None]))[0]

    def by_script() -> list[int]:
        capture, labels = cv2.VideoCapture(str(video)), []
        while True:
            there, frame = capture.read()
            if not there:
                capture.release()
                return labels
            labels.append(int((prototypes @ encode(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))).argmax()))

    with Recognizer.load(bundle.path) as recognizer, torch.inference_mode():
        prototypes = torch.stack([encode(image) for image in shown])
        names = [photograph.name for photograph in photographs()[:TAUGHT]]
        recognizer.enroll_many({name: [image] for name, image in zip(names, shown, strict=True)})

        def by_us() -> list[str]:
            with open_source(str(video)) as source, closing(results(recognizer, source)) as found:
                return [result.label for result in found]

        assert len(by_script()) == len(by_us()) == frames  # noqa: S101
        ways: dict[str, Way] = {SCRIPT: by_script, f"sp-edge, {recognizer.backend.title}": by_us}
        taken = in_rounds(ways, rounds, 1, warm=0)
    return compared({name: [value / frames for value in values] for name, values in taken.items()}, SCRIPT)


def show(title: str, found: Mapping[str, Mapping[str, Any]]) -> None:
    rows = [
        [name, f"{one['ms']['median']:.1f}", "{median:.2f} ({low:.2f} to {high:.2f})".format(**one["ratio"])]
        for name, one in found.items()
    ]
    print(f"\n{title}")
    print(table(["way", "ms", "ratio (quartiles)"], rows), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--frames", type=int, default=60, help="of the video")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out, which takes half a minute")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cores = processor()["cores"]
    torch.set_num_threads(cores)
    told = provenance(f"python benchmarks/peers.py {options.bundle.name}")
    told["versions"] |= versions(PACKAGES)
    bundle = Bundle.load(options.bundle)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {"networks": networks(bundle, folder, options.rounds, compiled=not options.no_compile)}
        show("the network, one picture", found["networks"]["batch_1"])
        show("the network, eight pictures", found["networks"]["batch_8"])
        found["few_shots"] = few_shots(bundle, folder, options.rounds)
        show(f"{TAUGHT} classes taught and one picture recognized, from files", found["few_shots"])
        found["video"] = of_a_video(bundle, folder, options.frames, max(3, options.rounds // 3))
        show("a video of 1280x720 to labels, a frame", found["video"])
    if options.json:
        write_json(options.json, {"schema": 1, **found, "provenance": told})


if __name__ == "__main__":
    main()
