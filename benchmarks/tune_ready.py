"""How long does `sp-edge train --init ready` take on a few thousand photographs, and what does it gain?

    python benchmarks/sets/clutter.py /tmp/clutter
    python benchmarks/tune_ready.py --grocery grocery --clutter /tmp/clutter

The grocery photographs are divided by class: 15 classes to ask about, 12 to choose the prompts' strength on, the rest to learn
from. `speed` compares tuning that keeps the layers before the prompt (`tune.cached_views`, what `--init ready` does) with
tuning of the whole network, in turns, in one process. `whole run` is the wall time of the commands that a user types. Accuracy
is that of the bundles on the 15 classes, as the runtime uses them: the tuned one, and the ready-made one. `clutter` asks about
objects that have nothing to do with groceries, taught beside another object and asked alone (`benchmarks/ready.py`), and so
tells whether names still mean what they meant. Both bundles have one and the same query graph. The ready-made one gets the
tuned one's metric here, as its own was measured on these very photographs.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from ready import BASE, NAMES, PLAIN, TAUGHT, Array, pictures, reported, scores
from ready_bundles import pool

from sp_edge import runs
from sp_edge.accuracy import Accuracy, Difference
from sp_edge.bundle.bundle import Bundle
from sp_edge.columns import table
from sp_edge.data import sets
from sp_edge.data.folder import labelled
from sp_edge.files import write_json
from sp_edge.model import build_network
from sp_edge.settings.settings import Settings
from sp_edge.text import prompt_table
from sp_edge.training.accelerator import make_accelerator
from sp_edge.training.lower_layers import keep
from sp_edge.training.start import settings_of, start_from
from sp_edge.training.tune import tune, tuning_augmentation

READY = Path("ready")
ASKED, CHOOSING, LEAST = 15, 12, 20  # classes, classes, and pictures that each needs


def divide(grocery: Path, out: Path) -> int:
    """Lays out train/, val/ and test/ with other classes each, as links; returns how many pictures there are."""
    files: dict[str, list[Path]] = {}
    for part in ("train", "val"):
        listing = labelled(grocery / part)
        for name, label in zip(listing.pictures, listing.labels.tolist(), strict=True):
            files.setdefault(listing.class_names[label], []).append(Path(name).resolve())
    enough = [name for name, own in sorted(files.items()) if len(own) >= LEAST]
    drawn = [enough[row] for row in np.random.default_rng(0).permutation(len(enough))]
    for number, name in enumerate([*drawn, *sorted(set(files) - set(enough))]):
        folder = out / ("test" if number < ASKED else "val" if number < ASKED + CHOOSING else "train") / name
        folder.mkdir(parents=True)
        for row, file in enumerate(files[name]):
            (folder / f"{row}{file.suffix}").symlink_to(file)
    return sum(map(len, files.values()))


def speed(data: Path, steps: int, rounds: int) -> dict[str, list[float]]:
    """Episodes a second of both ways, round by round. What is kept is computed within the time of the recipe's steps."""
    overrides = [*settings_of(READY, lambda: ""), f'data.source="{data}"', "tune.choose_strength=false"]
    settings = Settings.load("folder", overrides)
    accelerator = make_accelerator(settings.precision, "cpu")
    shown = sets.load_split(settings, "train")
    prompts = prompt_table(list(shown.class_names), settings.text, base=shown.class_names)
    found: dict[str, list[float]] = {"whole network": [], "kept layers": []}
    for _ in range(rounds):
        for way, taken in found.items():
            network = build_network(settings.model, prompts.text.dim).to(memory_format=torch.channels_last)
            start_from(network, READY, settings, prompts)
            count = steps if way == "whole network" else settings.tune.steps
            stage = replace(settings.tune, steps=count)
            with tempfile.TemporaryDirectory() as folder:
                place: dict[str, Any] = {"folder": Path(folder), "accelerator": accelerator}
                began = time.monotonic()
                kept = None
                if way == "kept layers":
                    options = {"views": stage.cached_views, "seed": settings.seed}
                    kept = keep(network, shown.images, tuning_augmentation(settings), **options, **place)
                tune(network, shown, prompts, replace(settings, tune=stage), kept=kept, **place)
            taken.append(count * stage.episodes_per_step / (time.monotonic() - began))
    return found


def timed(*arguments: object) -> float:
    """Seconds that a command of sp-edge takes."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "sp_edge", *map(str, arguments)], check=True)  # noqa: S603
    return time.monotonic() - began


def accuracy(ready: Bundle, tuned: Bundle, test: Path, clutter: Path, count: int) -> dict[str, dict[str, Array]]:
    """Title -> bundle -> accuracy of each episode."""
    kept = reported(len(labelled(clutter / "alone").class_names)).__contains__
    found: dict[str, dict[str, Array]] = {}
    for title, bundle in (("ready-made", ready), ("tuned", tuned)):
        preprocess = bundle.manifest.preprocess
        shown = [pictures(test, preprocess, LEAST)]
        shown += [pictures(clutter / kind, preprocess, TAUGHT, kept) for kind in ("clutter", "alone")]
        groceries, mixed, alone = (replace(pool(bundle, "fp32", one), background=tuned.background()) for one in shown)
        for asked, pair in (("groceries", (groceries, groceries)), ("clutter", (mixed, alone))):
            for shots in (1, 5):
                for row, values in scores([pair], 5, shots, count, title).items():
                    if row in (BASE, PLAIN, NAMES):
                        found.setdefault(f"{asked}, {row}, {shots}-shot", {})[title] = values
    return found


@click.command()
@click.option("--grocery", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--clutter", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--steps", default=4, show_default=True, type=click.IntRange(1), help="Of the whole network, a round.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1))
@click.option("--episodes", "count", default=600, show_default=True, type=click.IntRange(4), help="Of each accuracy.")
@click.option("--set", "overrides", multiple=True, help="As `sp-edge train` takes it.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures to a file, too.")
def main(
    grocery: Path,
    clutter: Path,
    steps: int,
    rounds: int,
    count: int,
    overrides: tuple[str, ...],
    json_file: Path | None,
) -> None:
    """Print the tables."""
    with tempfile.TemporaryDirectory() as place:
        data, run, ready = Path(place, "data"), Path(place, "run"), Path(place, "ready.spedge")
        photographs = divide(grocery, data)
        changed = [argument for override in (f'data.cache="{place}/cache"', *overrides) for argument in ("--set", override)]
        seconds = {
            "train": timed("train", "--data", data, "--init", "ready", "--out", run, *changed),
            "export": timed("export", run),
        }
        timed("ready", "--out", ready)
        click.echo(
            f"\n{photographs:,} photographs, whole run: {sum(seconds.values()):.0f} s, "
            + ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
        )
        found = accuracy(Bundle.load(ready), Bundle.load(run / runs.BUNDLE), data / "test", clutter, count)
        shown = {
            title: [str(Accuracy.of(own["ready-made"])), f"{Accuracy.of(own['tuned'])} ({_gain(own)})"]
            for title, own in found.items()
        }
        click.echo(table([f"{count} episodes, 5-way, %", "ready-made", "tuned"], [[t, *cells] for t, cells in shown.items()]))
        rates = speed(data, steps, rounds)
    medians = {way: statistics.median(values) for way, values in rates.items()}
    ratio = statistics.median(b / a for a, b in zip(*rates.values(), strict=True))
    click.echo("\n" + table(["tuning", "episodes/s"], [[way, f"{value:.2f}"] for way, value in medians.items()]))
    click.echo(f"kept layers over the whole network: {ratio:.0f} times")
    if json_file:
        write_json(
            json_file,
            {
                "photographs": photographs,
                "seconds": seconds,
                "accuracy": shown,
                "episodes_per_second": rates,
                "ratio": ratio,
            },
        )


def _gain(own: dict[str, Array]) -> Difference:
    return Difference.between(own["tuned"], own["ready-made"])


if __name__ == "__main__":
    main()
