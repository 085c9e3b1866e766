"""Measures both stages of training against a plain loop: pictures decoded from files by a DataLoader, eager float32.

    python benchmarks/train.py --backbone visformer_mini --image-size 96 --json train.json

Both loops run in turn, several rounds, and each figure is the median over the rounds. The last column is the share of the
machine's peak, which is that of one large matrix product in the precision of the training, measured in the same run.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import v2

from sp_edge.columns import table
from sp_edge.data.pictures import PictureSet
from sp_edge.files import write_json
from sp_edge.model import build_network
from sp_edge.prompts.table import PromptTable, TextSpec
from sp_edge.settings.settings import Settings
from sp_edge.training.accelerator import Share, make_accelerator
from sp_edge.training.mixing import targets
from sp_edge.training.pretrain import BaseClassifier, pretrain
from sp_edge.training.tune import EpisodeLoss, base_episodes, tune

CLASSES, PER_CLASS, TEXT_DIM = 20, 40, 384


class Files(Dataset[tuple[Tensor, int]]):
    """Pictures as a plain loop reads them: decoded, shifted, mirrored and brightened one by one."""

    def __init__(self, folder: Path, pictures: PictureSet) -> None:
        self.labels = pictures.labels
        self.paths = [folder / f"{number}.jpg" for number in range(len(pictures))]
        for path, image in zip(self.paths, pictures.images, strict=True):
            Image.fromarray(image).save(path, quality=90)
        side = pictures.images.shape[1]
        change = v2.RandomCrop(side, padding=side // 10, padding_mode="reflect")
        self.change = v2.Compose([change, v2.RandomHorizontalFlip(), v2.ColorJitter(0.2), v2.PILToTensor()])

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.paths[index]) as image:
            return self.change(image.convert("RGB")).permute(1, 2, 0), int(self.labels[index])


def loader(files: Files, batches: list[list[int]], workers: int) -> Iterator[Any]:
    return iter(DataLoader(files, batch_sampler=batches, num_workers=workers))


def plain(module: Any, batches: Iterator[Any], steps: int, device: torch.device) -> float:
    """Seconds that `steps` steps of the plain loop take; `batches` gives what the module is called with."""
    module.to(device).train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4, weight_decay=0.05)
    began = time.perf_counter()
    for _ in range(steps):
        loss, _accuracy = module(*(tensor.to(device) for tensor in next(batches)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
    return time.perf_counter() - began


def peak(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large matrix product."""
    size = 2048 if device.type == "cpu" else 8192
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    times = []
    for _ in range(6):
        began = time.perf_counter()
        (a @ b)[0, 0].item()
        times.append(time.perf_counter() - began)
    return 2 * size**3 / min(times)


def operations(module: Any, batch: tuple[Tensor, ...]) -> int:
    """Of one step, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        module(*batch)[0].backward()
    return int(counter.get_total_flops())


def drawn(side: int) -> tuple[PictureSet, PromptTable]:
    """Coarse noise of 20 classes, 40 pictures each, and a random prompt a class."""
    rng = np.random.default_rng(0)
    count = CLASSES * PER_CLASS
    coarse = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    images = np.stack([np.asarray(Image.fromarray(image).resize((side, side))) for image in coarse])
    names = tuple(f"class {number}" for number in range(CLASSES))
    pictures = PictureSet(images, np.arange(count) % CLASSES, names, {"all": np.arange(count)})
    vectors = rng.standard_normal((CLASSES, TEXT_DIM)).astype(np.float32)
    return pictures, PromptTable(TextSpec("random", "0", "{name}", 9.0, TEXT_DIM), names, vectors)


def batches(
    files: Files, pictures: PictureSet, prompts: PromptTable, settings: Settings, workers: int
) -> dict[str, Iterator[Any]]:
    """What the plain loop calls each stage's module with."""
    steps, size, number = settings.pretrain.steps, settings.pretrain.batch_size, settings.tune.episodes_per_step
    rows = [np.random.default_rng(step).permutation(len(pictures))[:size].tolist() for step in range(steps)]
    _, [sampler], _ = base_episodes(pictures, settings, Share())
    groups = [[sampler.episode(step * number + extra) for extra in range(number)] for step in range(steps)]
    chosen = [np.concatenate([e.support.ravel() for e in g] + [e.query.ravel() for e in g]).tolist() for g in groups]
    texts = [torch.from_numpy(np.stack([prompts.vectors[e.classes] for e in group])) for group in groups]
    everyone = torch.ones(number, settings.tune.n_way, dtype=torch.bool)
    return {
        "pretrain": ((x, targets(y, CLASSES, 0.0)) for x, y in loader(files, rows, workers)),
        "tune": ((x, text, everyone) for (x, _), text in zip(loader(files, chosen, workers), texts, strict=True)),
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="visformer_mini")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--episodes", type=int, default=1, help="a step")
    parser.add_argument("--steps", type=int, default=8, help="a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0, help="of the plain DataLoader")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--precision", default="auto", help="of sp-edge: auto, fp32 or bf16")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    steps, side = options.steps, options.image_size
    settings = Settings.from_mapping(
        {
            "model": {"backbone": options.backbone, "image_size": side, "layer": "3-1"},
            "pretrain": {"steps": steps, "batch_size": options.batch_size},
            "tune": {"steps": steps, "episodes_per_step": options.episodes},
            "precision": options.precision,
        }
    )
    accelerator = make_accelerator(settings.precision, options.device)
    device, dtype = accelerator.device, torch.bfloat16 if accelerator.mixed_precision == "bf16" else torch.float32
    pictures, prompts = drawn(side)
    episode = settings.tune.n_way * (settings.tune.n_shot[0] + settings.tune.n_query)
    size = {"pretrain": options.batch_size, "tune": options.episodes * episode}
    seconds: dict[tuple[str, str], list[float]] = {(stage, loop): [] for stage in size for loop in ("plain", "sp-edge")}
    flops: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        files = Files(Path(folder), pictures)
        for turn in range(options.rounds + 1):  # the first warms up
            network = build_network(settings.model, TEXT_DIM)
            modules = {
                "pretrain": BaseClassifier(network, CLASSES),
                "tune": EpisodeLoss(network, n_query=settings.tune.n_query, temperature=settings.tune.temperature),
            }
            ours = build_network(settings.model, TEXT_DIM)
            run: dict[str, Any] = {"folder": Path(folder) / f"run{turn}", "accelerator": accelerator}
            stages = {
                "pretrain": partial(pretrain, ours, pictures, settings, **run),
                "tune": partial(tune, ours, pictures, prompts, settings, **run),
            }
            for stage, given in batches(files, pictures, prompts, settings, options.workers).items():
                if turn == 0:
                    first = next(iter(batches(files, pictures, prompts, settings, 0)[stage]))
                    flops[stage] = operations(modules[stage], first)
                took = plain(modules[stage], given, steps, device), stages[stage]().seconds
                if turn:
                    for loop, value in zip(("plain", "sp-edge"), took, strict=True):
                        seconds[stage, loop].append(value)
    best = peak(device, dtype)
    rows, found = [], []
    for stage, number in size.items():
        rate = {loop: number * steps / statistics.median(seconds[stage, loop]) for loop in ("plain", "sp-edge")}
        share, ratio = flops[stage] / number * rate["sp-edge"] / best, rate["sp-edge"] / rate["plain"]
        rows.append([stage, f"{rate['plain']:.0f}", f"{rate['sp-edge']:.0f}", f"{ratio:.2f}x", f"{100 * share:.0f} %"])
        found.append({"stage": stage, "images_per_second": rate, "ratio": ratio, "share_of_peak": share})
    kind = str(dtype).removeprefix("torch.")
    place = f"{options.backbone} {side} px, {device.type}, {kind}, {torch.get_num_threads()} threads"
    print(f"{place}; peak {best / 1e9:.0f} GFLOP/s")
    print(table(["images/s", "plain", "sp-edge", "ratio", "of peak"], rows))
    if options.json:
        rounds = {" ".join(key): value for key, value in seconds.items()}
        write_json(options.json, {"place": place, "peak": best, "seconds": rounds, "stages": found})


if __name__ == "__main__":
    main()
