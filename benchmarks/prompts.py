"""Do prompts help where names are real words? Trains on sets of drawn things and measures every way of using prompts.

    pip install --group study
    python benchmarks/prompts.py emoji icons characters --out runs/prompts

For each set: one backbone, pre-trained on its base classes; two ways of tuning it; and for each the novel classes' accuracy
with the prompts at full strength, at the strength chosen on validation classes, and with the text prototype besides,
all as differences to the same network without prompts, on the same episodes. What is in --out already is kept.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from pathlib import Path
from typing import Any

import click
import torch

sys.path.insert(0, str(Path(__file__).parent / "sets"))

from sp_edge.cli.common import table
from sp_edge.data.episodes import Difference
from sp_edge.data.pictures import PictureSet
from sp_edge.errors import DataError
from sp_edge.files import read_json, write_json
from sp_edge.model import build_network
from sp_edge.prompts import PromptTable
from sp_edge.settings import Settings
from sp_edge.text import prompt_table
from sp_edge.training.accelerator import make_accelerator
from sp_edge.training.checkpoint import Checkpoint
from sp_edge.training.evaluate import DIFFERENCE, WITHOUT, class_prompts, evaluate
from sp_edge.training.pretrain import pretrain
from sp_edge.training.strength import best_of, choose_strength
from sp_edge.training.text_prototype import fit_text_prototype
from sp_edge.training.tune import tune

PER_CLASS = {"train": 24, "val": 20, "test": 20}
# The paper's rates, temperature and episodes; and those of the scenes' recipe, gentler on the network, with what keeps
# prototypes from being learned from text alone.
TUNINGS = {
    "the paper's tuning": (
        *("tune.lr=1e-6", "tune.prompt_lr=5e-4", "tune.channel_lr=1e-6", "tune.schedule=constant", "tune.temperature=0.2"),
        *("tune.n_way=5", "tune.n_shot=1", "tune.n_query=15"),
    ),
    "ours": (
        *("tune.lr=1e-4", "tune.prompt_lr=1e-3", "tune.channel_lr=1e-3"),
        *("tune.prompt_dropout=0.3", "tune.text_noise=0.3"),
    ),
}


def study(name: str, settings: Settings, overrides: tuple[str, ...], out: Path, device: str) -> dict[str, Any]:
    """All rows of one set: row -> '1-shot, clutter' -> the value as text, and what was chosen."""
    builder = importlib.import_module(name)
    pictures = {split: builder.build(split, settings.model.image_size, count) for split, count in PER_CLASS.items()}
    classes = {split: each.class_names for split, each in pictures.items()}
    prompts = prompt_table([n for names in classes.values() for n in names], settings.text, base=classes["train"])
    accelerator = make_accelerator(settings.precision, device)
    pretrained = out / "pretrained.safetensors"
    if not pretrained.exists():
        torch.manual_seed(settings.seed)
        network = build_network(settings.model, prompts.text.dim)
        pretrain(network, pictures["train"], settings, folder=out, accelerator=accelerator)
        Checkpoint(network.cpu().eval(), settings, prompts, "pretrained", classes).save(pretrained)
    rows: dict[str, Any] = {}
    for label, changes in TUNINGS.items():
        tuned = Settings.load("scenes", [*overrides, *changes])
        file = out / f"{label.replace(' ', '-')}.safetensors"
        if not file.exists():
            torch.manual_seed(settings.seed)
            network = build_network(tuned.model, prompts.text.dim)
            network.load_state_dict(Checkpoint.load(pretrained).network.state_dict())
            tune(network, pictures["train"], prompts, tuned, folder=out, accelerator=accelerator)
            (out / "tune.state.safetensors").unlink(missing_ok=True)
            fit = fit_text_prototype(network.cpu().eval(), pictures["train"], prompts)
            Checkpoint(network, tuned, prompts, "tuned", classes, {"text_prototype": dataclasses.asdict(fit)}).save(file)
        rows |= measure(label, Checkpoint.load(file), pictures, prompts)
    return rows


def measure(label: str, tuned: Checkpoint, pictures: dict[str, PictureSet], prompts: PromptTable) -> dict[str, Any]:
    """The rows of one tuned network."""
    network, protocol = tuned.network, tuned.settings.eval
    vectors = class_prompts(network, pictures["test"], prompts)
    found = choose_strength(network, pictures["val"], prompts, protocol)
    if found is None:
        raise DataError("too few validation pictures", expected="enough for episodes")
    # What the choice is without the text prototype: the same rule, on the same figures.
    gains = {
        (tried["strength"], 0.0): {name: Difference(**each["difference"]) for name, each in tried["settings"].items()}
        for tried in found["tried"]
        if tried["text_share"] == 0
    }
    alone, _ = best_of(gains)
    rows: dict[str, Any] = {}
    for name, strength, share in (
        ("full strength", 1.0, 0.0),
        (f"strength {alone}, chosen", alone, 0.0),
        (f"strength {found['strength']}, {found['text_share']} of it text prototype", found["strength"], found["text_share"]),
    ):
        network.text_share = share
        measured = evaluate(network, pictures["test"], vectors, protocol, strength=strength).rows()
        if not rows:
            rows[f"{label}, without prompts"] = {f"{k}-shot, {g}": str(v) for (k, g), v in measured[WITHOUT].items()}
        rows[f"{label}, {name}"] = {f"{k}-shot, {g}": str(v) for (k, g), v in measured[DIFFERENCE].items()}
    rows[f"{label}, without prompts"]["text explains"] = f"{tuned.record['text_prototype']['explained']:.2f}"
    return rows


@click.command()
@click.argument("names", nargs=-1, required=True, type=click.Choice(["emoji", "icons", "characters"]))
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/prompts"), show_default=True)
@click.option("--set", "overrides", multiple=True, help="A setting, such as pretrain.steps=2000.")
@click.option("--device", default="auto", show_default=True)
def main(names: tuple[str, ...], out: Path, overrides: tuple[str, ...], device: str) -> None:
    """Print a table for each set, and write it as JSON."""
    settings = Settings.load("scenes", overrides)
    for name in names:
        file = out / name / "rows.json"
        (out / name).mkdir(parents=True, exist_ok=True)
        rows = read_json(file, DataError) if file.exists() else study(name, settings, overrides, out / name, device)
        write_json(file, rows)
        header = list(next(iter(rows.values())))[:-1]
        explained = next(iter(rows.values()))["text explains"]
        click.echo(f"\n{name}: text explains {explained} of how a class left out of the fit looks; 5-way, %")
        click.echo(table(["", *header], [[row, *(values[column] for column in header)] for row, values in rows.items()]))


if __name__ == "__main__":
    main()
