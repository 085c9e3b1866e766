"""What do names that say nothing cost? Measures a network on its novel classes under their own names and under others.

    python benchmarks/names.py scenes runs/1/checkpoint.safetensors
    python benchmarks/names.py emoji runs/prompts/emoji/seed-0/ours.safetensors --strength 0.6 --text-share 1

Each class is called by its own name, by a number, by a word that is none, and by another class's name; prompts act at full
strength for all, and in proportion to each one's familiarity. Differences to no prompts, on the same episodes.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).parent / "sets"))

from load import SETS, load_set
from sp_edge.accuracy import Accuracy, Difference
from sp_edge.columns import table
from sp_edge.files import write_json
from sp_edge.text import extend_table
from sp_edge.training.checkpoint import Checkpoint
from sp_edge.training.classifier import CLASSIFIERS
from sp_edge.training.evaluate import encode, sample, score, title

SYLLABLES = ("ba", "dri", "fen", "gor", "ke", "lo", "mi", "nu", "plu", "ra", "se", "ti", "vo", "zu")


def names_for(own: tuple[str, ...]) -> dict[str, list[str]]:
    """How to call the classes: kind of name -> a name for each class."""
    rng = np.random.default_rng(0)
    words: dict[str, None] = {}
    while len(words) < len(own):
        words["".join(rng.choice(SYLLABLES, rng.integers(2, 5)))] = None
    order = rng.permutation(len(own))
    other = dict(zip(order, np.roll(order, 1), strict=True))  # a round: no class keeps its name
    return {
        "own names": list(own),
        "'class 1', 'class 2', ...": [f"class {number + 1}" for number in range(len(own))],
        "nonsense words": list(words),
        "another class's name": [own[other[number]] for number in range(len(own))],
    }


@click.command()
@click.argument("name", type=click.Choice(SETS))
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--strength", type=click.FloatRange(0, 1), help="[default: the checkpoint's]")
@click.option("--text-share", type=click.FloatRange(0, 1), help="[default: the checkpoint's]")
@click.option("--episodes", type=click.IntRange(2), help="[default: the checkpoint's]")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(
    name: str,
    file: Path,
    strength: float | None,
    text_share: float | None,
    episodes: int | None,
    json_file: Path | None,
) -> None:
    """Print the table."""
    checkpoint = Checkpoint.load(file)
    network = checkpoint.network
    network.strength = network.strength if strength is None else strength
    network.text_share = network.text_share if text_share is None else text_share
    protocol = checkpoint.settings.eval
    protocol = dataclasses.replace(protocol, classifier="cosine", episodes=episodes or protocol.episodes)
    pictures = load_set(name, "test", checkpoint.settings)
    drawn, classify = sample(pictures, protocol, seed=0), CLASSIFIERS[protocol.classifier]
    plain = None
    rows: dict[str, dict[str, str]] = {}
    kinds = names_for(pictures.class_names)
    known = extend_table(checkpoint.prompts, [name for names in kinds.values() for name in names], checkpoint.settings.text)
    for kind, names in kinds.items():
        prompts = known.select(names)
        shown = encode(network, pictures.images, prompts[pictures.labels], strength=1.0, progress=True)
        if plain is None:
            plain = score(shown.query, shown, np.zeros(len(pictures)), pictures, drawn, classify)
            rows["no prompts"] = {"familiarity": ""} | {title(s): str(Accuracy.of(v)) for s, v in plain.items()}
        familiarity = network.familiarity_of(prompts)
        scaled = network.strength * familiarity[pictures.labels]
        for how, strengths in (("", np.full(len(pictures), network.strength)), (", by familiarity", scaled)):
            found = score(shown.query, shown, strengths, pictures, drawn, classify)
            rows[kind + how] = {"familiarity": f"{np.median(familiarity):.3f}" if how else ""} | {
                title(s): str(Difference.between(v, plain[s])) for s, v in found.items()
            }
    said = f"{name}: strength {network.strength}, {network.text_share} of it text prototype"
    click.echo(f"{said}; {protocol.n_way}-way, {protocol.episodes} episodes, %; familiarity: median")
    header = list(rows["no prompts"])
    click.echo(table(["", *header], [[row, *(values[column] for column in header)] for row, values in rows.items()]))
    if json_file:
        write_json(json_file, {"set": name, "strength": network.strength, "text_share": network.text_share, "rows": rows})


if __name__ == "__main__":
    main()
