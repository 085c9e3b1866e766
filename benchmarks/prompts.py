"""Do prompts help where names are real words? Trains on sets of drawn things and measures every way of using prompts.

    pip install --group study
    python benchmarks/prompts.py emoji icons characters --out runs/prompts

For each set and seed: one backbone, pre-trained on its base classes; two ways of tuning it; and for each the novel classes'
accuracy with the prompts at full strength, at the strength chosen on validation classes, and with the text prototype besides,
all as differences to the same network without prompts, on the same episodes. What is in --out already is kept.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent / "sets"))

from load import SETS, load_set
from sp_edge.accuracy import Accuracy, Difference, Scores
from sp_edge.data.pictures import PictureSet
from sp_edge.errors import DataError, SettingsError
from sp_edge.files import write_bytes
from sp_edge.model import build_network
from sp_edge.prompts.table import PromptTable
from sp_edge.settings.settings import Settings
from sp_edge.tensors import load_tensors, save_tensors
from sp_edge.text import prompt_table
from sp_edge.training.accelerator import make_accelerator
from sp_edge.training.checkpoint import Checkpoint
from sp_edge.training.classifier import CLASSIFIERS
from sp_edge.training.evaluate import sample, score, title
from sp_edge.training.pretrain import pretrain
from sp_edge.training.strength import best_of, choose_strength, shown_by_share
from sp_edge.training.text_prototype import BaseClasses, fit_text_prototype
from sp_edge.training.tune import tune

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
PLAIN = "without prompts"


@dataclass(frozen=True, eq=False)
class Run:
    """One seed's figures.

    Attributes:
        scores: (tuning, row, setting such as '1-shot, clutter') -> scores of the episodes.
        used: (tuning, row) -> strength of the prompts, and the text prototype's share of them.
        explained: tuning -> share of unseen classes' looks that text explains.
    """

    scores: Mapping[tuple[str, str, str], Scores]
    used: Mapping[tuple[str, str], tuple[float, float]]
    explained: Mapping[str, float]

    def save(self, path: Path) -> None:
        """Writes one safetensors file."""
        tensors = {"/".join(key): values for key, values in self.scores.items()}
        used = [[*key, *values] for key, values in self.used.items()]
        save_tensors(path, tensors, {"order": list(tensors), "used": used, "explained": dict(self.explained)})

    @classmethod
    def load(cls, path: Path) -> Run:
        """Reads what `save` wrote."""
        tensors, described = load_tensors(path, DataError)
        scores = {tuple(key.split("/")): tensors[key] for key in described["order"]}
        used = {(tuning, row): (strength, share) for tuning, row, strength, share in described["used"]}
        return cls(scores, used, described["explained"])


@dataclass(frozen=True, eq=False)
class Study:
    """A set: its pictures and prompts, which all seeds share, and the changes to the recipe."""

    pictures: Mapping[str, PictureSet]
    prompts: PromptTable
    overrides: tuple[str, ...]
    device: str

    @classmethod
    def of(cls, name: str, overrides: tuple[str, ...], device: str) -> Study:
        """Draws the pictures and encodes the names.

        Raises:
            SettingsError: the network is to have no prompts, or no text prototype.
        """
        settings = Settings.load("scenes", overrides)
        if settings.model.interaction == "none" or not settings.model.text_prototype:
            raise SettingsError("the study is of prompts and the text prototype", expected="a network that has both")
        pictures = {split: load_set(name, split, settings) for split in ("train", "val", "test")}
        names = [name for each in pictures.values() for name in each.class_names]
        return cls(pictures, prompt_table(names, settings.text, base=pictures["train"].class_names), overrides, device)

    def run(self, number: int, out: Path) -> Run:
        """Trains and measures with the seed `number` after the recipe's."""
        scores: dict[tuple[str, str, str], Scores] = {}
        used: dict[tuple[str, str], tuple[float, float]] = {}
        explained = {}
        pretrained = self._pretrained(self._settings(number, ()), out)
        for tuning, changes in TUNINGS.items():
            tuned = self._tuned(pretrained, self._settings(number, changes), out, tuning.replace(" ", "-"))
            measured, chosen = measure(tuned, self.pictures, self.prompts)
            scores |= {(tuning, *key): values for key, values in measured.items()}
            used |= {(tuning, row): pair for row, pair in chosen.items()}
            explained[tuning] = float(tuned.record["text_prototype"]["explained"])
        return Run(scores, used, explained)

    def _settings(self, number: int, changes: tuple[str, ...]) -> Settings:
        settings = Settings.load("scenes", [*self.overrides, *changes])
        return dataclasses.replace(settings, seed=settings.seed + number)

    def _pretrained(self, settings: Settings, out: Path) -> Checkpoint:
        file = out / "pretrained.safetensors"
        if not file.exists():
            torch.manual_seed(settings.seed)
            network = build_network(settings.model, self.prompts.text.dim)
            accelerator = make_accelerator(settings.precision, self.device)
            pretrain(network, self.pictures["train"], settings, folder=out, accelerator=accelerator)
            self._save(network, settings, "pretrained", {}, file)
            (out / "pretrain.state.safetensors").unlink(missing_ok=True)
        return self._load(file, settings)

    def _tuned(self, pretrained: Checkpoint, settings: Settings, out: Path, name: str) -> Checkpoint:
        file = out / f"{name}.safetensors"
        if not file.exists():
            torch.manual_seed(settings.seed)
            network = build_network(settings.model, self.prompts.text.dim)
            network.load_state_dict(pretrained.network.state_dict())
            accelerator = make_accelerator(settings.precision, self.device)
            tune(network, self.pictures["train"], self.prompts, settings, folder=out, accelerator=accelerator)
            fit = fit_text_prototype(network, BaseClasses.of(network.cpu().eval(), self.pictures["train"], self.prompts))
            self._save(network, settings, "tuned", {"text_prototype": dataclasses.asdict(fit)}, file)
            (out / "tune.state.safetensors").unlink(missing_ok=True)
        return self._load(file, settings)

    @property
    def _classes(self) -> dict[str, tuple[str, ...]]:
        return {split: each.class_names for split, each in self.pictures.items()}

    def _save(self, network: Any, settings: Settings, stage: str, record: dict[str, Any], file: Path) -> None:
        Checkpoint(network.cpu().eval(), settings, self.prompts, stage, self._classes, record).save(file)

    def _load(self, file: Path, settings: Settings) -> Checkpoint:
        """Reads a checkpoint of this run or of an earlier one.

        Raises:
            DataError: the earlier one had other settings or classes.
        """
        found = Checkpoint.load(file)
        if found.settings != settings or found.classes != self._classes:
            raise DataError(f"{file} is of another run", expected="its settings and classes", next_step="take another --out")
        return found


def measure(
    tuned: Checkpoint, pictures: Mapping[str, PictureSet], prompts: PromptTable
) -> tuple[dict[tuple[str, str], Scores], dict[str, tuple[float, float]]]:
    """Scores of one tuned network on the novel classes, (row, setting) -> scores; and row -> strength, and share of it text.

    Raises:
        DataError: too few validation pictures.
    """
    network, protocol, novel = tuned.network, tuned.settings.eval, pictures["test"]
    found = choose_strength(network, pictures["val"], prompts, protocol)
    if found is None:
        raise DataError("too few validation pictures", expected="enough for episodes")
    # What the choice is without the text prototype: the same rule, on the same figures.
    gains = {
        (tried["strength"], 0.0): {name: Difference(**each["difference"]) for name, each in tried["settings"].items()}
        for tried in found["tried"]
        if tried["text_share"] == 0
    }
    used = {
        PLAIN: (0.0, 0.0),
        "full strength": (1.0, 0.0),
        "chosen strength": best_of(gains),
        "chosen strength and text prototype": (float(found["strength"]), float(found["text_share"])),
    }
    vectors = prompts.select(novel.class_names)[novel.labels]
    familiar = network.familiarity_of(vectors)
    episodes, classify = sample(novel, protocol, seed=0), CLASSIFIERS[protocol.classifier]
    shown = shown_by_share(network, novel, vectors)
    query = shown[0.0].query
    scores = {
        (row, title(setting)): values
        for row, (strength, share) in used.items()
        for setting, values in score(query, shown[share], strength * familiar, novel, episodes, classify).items()
    }
    return scores, used


def table(runs: Sequence[Run]) -> str:
    """The rows as Markdown, in %: accuracies without prompts, otherwise differences to them, each with its 95 % interval.

    Scores of several seeds are averaged, episode by episode, before anything is made of them; their standard deviation
    stands in brackets.
    """
    settings = list(dict.fromkeys(setting for _, _, setting in runs[0].scores))
    lines = [["", *settings, "strength (of it text)"], ["---"] * (len(settings) + 2)]
    for tuning, row in runs[0].used:
        cells = []
        for setting in settings:
            ours = np.stack([run.scores[tuning, row, setting] for run in runs])
            plain = np.stack([run.scores[tuning, PLAIN, setting] for run in runs])
            if row == PLAIN:
                cell, each = str(Accuracy.of(ours.mean(0))), ours.mean(1)
            else:
                cell, each = str(Difference.between(ours.mean(0), plain.mean(0))), (ours - plain).mean(1)
            cells.append(cell + (f" [{100 * each.std(ddof=1):.1f}]" if len(runs) > 1 else ""))
        used = [f"{strength:g} ({share:g})" for strength, share in (run.used[tuning, row] for run in runs)]
        lines.append([f"{tuning}, {row}", *cells, "" if row == PLAIN else ", ".join(used)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


@click.command()
@click.argument("names", nargs=-1, required=True, type=click.Choice(SETS))
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/prompts"), show_default=True)
@click.option("--seeds", default=1, show_default=True, type=click.IntRange(1), help="Trainings of each set.")
@click.option("--set", "overrides", multiple=True, help="A setting, such as pretrain.steps=2000.")
@click.option("--device", default="auto", show_default=True)
def main(names: tuple[str, ...], out: Path, seeds: int, overrides: tuple[str, ...], device: str) -> None:
    """Print a table for each set, and write it."""
    for name in names:
        study = None
        runs = []
        for number in range(seeds):
            folder = out / name / f"seed-{number}"
            file = folder / "scores.safetensors"
            if not file.exists():
                study = study or Study.of(name, overrides, device)
                study.run(number, folder).save(file)
            runs.append(Run.load(file))
        explained = np.mean([list(run.explained.values()) for run in runs])
        text = f"{name}: text explains {explained:.0%} of how a class left out of the fit looks; 5-way, %\n\n{table(runs)}\n"
        write_bytes(out / name / "table.md", text.encode())
        click.echo(f"\n{text}")


if __name__ == "__main__":
    main()
