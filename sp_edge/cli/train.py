"""Commands on the training side: train, eval, prompts."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sp_edge import runs
from sp_edge.cli.common import PATH, Command, find_checkpoint, is_bundle, table
from sp_edge.errors import CheckpointError, PromptError, SettingsError

if TYPE_CHECKING:
    from sp_edge.prompts import PromptTable


@click.command(cls=Command)
@click.option("--data", metavar="DIR|scenes", help="Folder with train/, val/ and test/<class>/ pictures, or the drawn scenes.")
@click.option("--recipe", metavar="NAME|FILE", help="Settings to start from. [default: scenes or folder, after --data]")
@click.option("--set", "overrides", multiple=True, metavar="NAME=VALUE", help="Change a setting, such as tune.steps=500.")
@click.option("--imgsz", type=int, help="Side of the network's input, pixels (model.image_size).")
@click.option("--out", type=PATH, help="Folder of the run. [default: the next in runs/]")
@click.option("--resume", type=PATH, help="Go on with a run that was cut off.")
@click.option("--init", type=PATH, help="Checkpoint whose backbone to start from, instead of pre-training.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
def train(
    data: str | None,
    recipe: str | None,
    overrides: tuple[str, ...],
    imgsz: int | None,
    out: Path | None,
    resume: Path | None,
    init: Path | None,
    device: str,
) -> None:
    """Train an SP Visformer: pre-training, then episodes with prompts."""
    from sp_edge.files import read_json
    from sp_edge.settings import Settings

    if resume is not None:
        if overrides or any(given is not None for given in (data, recipe, imgsz, out, init)):
            raise SettingsError("--resume takes all settings from the run", expected="--resume alone")
        described = read_json(resume / runs.SETTINGS, CheckpointError)
        settings, folder = Settings.from_mapping(described.get("settings", {})), resume
        init = Path(described["init"]) if described.get("init") else None
    else:
        named = {override.partition("=")[0].strip() for override in overrides}
        for option, given, setting in (("--data", data, "data.source"), ("--imgsz", imgsz, "model.image_size")):
            if given is not None and setting in named:
                raise SettingsError(f"{option} and --set {setting} say the same thing twice", expected="one of them")
        extra = [f"data.source={json.dumps(data, ensure_ascii=False)}"] if data is not None else []  # a TOML text, too
        extra += [f"model.image_size={imgsz}"] if imgsz is not None else []
        settings = Settings.load(recipe or "scenes", [*overrides, *extra])
        if recipe is None and settings.data.source != "scenes":
            settings = Settings.load("folder", [*overrides, *extra])
        if settings.data.source == "scenes" and data is None:
            click.echo("no --data: training on the scenes that sp-edge draws itself")
        folder = out or runs.new_run()
    click.echo(f"run: {folder}")
    from sp_edge.training.run import train as run_training

    try:
        run_training(settings, folder, device=device, init=init, say=click.echo)
    except KeyboardInterrupt:
        click.echo(f"\nto go on: sp-edge train --resume {folder}", err=True)
        raise
    finally:
        if out is None and resume is None:
            with contextlib.suppress(OSError):
                folder.rmdir()  # succeeds only if nothing was begun in it
    click.echo(f"checkpoint: {folder / runs.CHECKPOINT}")


@click.command("eval", cls=Command)
@click.argument("checkpoint", type=PATH, required=False)
@click.option("--data", metavar="DIR|scenes", help="Data set to measure on. [default: the one it was trained on]")
@click.option("--split", default="test", show_default=True, help="train, val or test.")
@click.option("--n-way", default=5, show_default=True, type=click.IntRange(2))
@click.option("--n-shot", "shots", multiple=True, default=(1, 5), show_default=True, type=click.IntRange(1))
@click.option("--n-query", default=15, show_default=True, type=click.IntRange(1))
@click.option("--episodes", default=2000, show_default=True, type=click.IntRange(2))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--json", "json_file", type=PATH, help="Write the figures to a file, too.")
def evaluate(
    checkpoint: Path | None,
    data: str | None,
    split: str,
    n_way: int,
    shots: tuple[int, ...],
    n_query: int,
    episodes: int,
    seed: int,
    json_file: Path | None,
) -> None:
    """Measure few-shot accuracy on new classes, with prompts and without, in % with its 95 % interval."""
    from sp_edge.data import sets
    from sp_edge.files import write_json
    from sp_edge.text import extend_table
    from sp_edge.training.checkpoint import Checkpoint
    from sp_edge.training.evaluate import class_prompts
    from sp_edge.training.evaluate import evaluate as measure

    file = find_checkpoint(checkpoint)
    loaded = Checkpoint.load(file)
    settings = loaded.settings
    if data is not None:
        settings = dataclasses.replace(settings, data=dataclasses.replace(settings.data, source=data))
    # The network goes on seeing pictures as its own data set prepared them, and as its bundle will.
    pictures = sets.load_split(settings, split, preprocess=sets.preprocess_of(loaded.settings), progress=True)
    click.echo(f"{file}: {len(pictures):,} pictures of {len(pictures.class_names)} classes ({split}), {n_way}-way")
    rows = {}
    if loaded.network.prompt is not None:
        prompts = class_prompts(loaded.network, pictures, extend_table(loaded.prompts, pictures.class_names))
        rows["with prompts"] = prompts
    rows["without prompts"] = None
    figures = {
        name: measure(
            loaded.network, pictures, prompts, n_way=n_way, shots=shots, n_query=n_query, episodes=episodes, seed=seed
        )
        for name, prompts in rows.items()
    }
    header = ["", *(f"{shot}, {group}" for shot, groups in figures["without prompts"].items() for group in groups)]
    lines = [[name, *(str(a) for groups in shots.values() for a in groups.values())] for name, shots in figures.items()]
    click.echo(table(header, lines))
    if json_file:
        write_json(
            json_file,
            {n: {s: {g: dataclasses.asdict(a) for g, a in gs.items()} for s, gs in f.items()} for n, f in figures.items()},
        )


@click.command(cls=Command)
@click.argument("names", nargs=-1)
@click.option("--names-file", type=PATH, help="Text file with a name a line.")
@click.option("--out", type=PATH, help="Where to write the table. [default: only print]")
@click.option("--like", type=PATH, help="Bundle or checkpoint that the prompts are for. [default: the newest run's]")
def prompts(names: tuple[str, ...], names_file: Path | None, out: Path | None, like: Path | None) -> None:
    """Encode class names as prompts, for classes that a bundle does not know yet.

    Without NAMES, lists those that it knows.
    """
    from sp_edge.prompts import PromptTable, clean_name

    known = _known_prompts(like)
    every = list(names)
    if names_file:
        try:
            every += [line for line in names_file.read_text("utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as cause:
            raise PromptError(f"cannot read {names_file}", expected="a UTF-8 text file", got=str(cause)) from cause
    made = known
    if every:
        from sp_edge.text import extend_table

        wanted = tuple(dict.fromkeys(clean_name(name) for name in every))
        made = PromptTable(known.text, wanted, extend_table(known, wanted).select(wanted))
    if out:
        made.save(out)
    click.echo(f"{len(made.names)} names, {made.text.encoder}, '{made.text.template}', {made.text.dim} numbers each")
    for name in made.names:
        click.echo(f"  {name}")
    if out:
        click.echo(f"prompts: {out}")


def _known_prompts(like: Path | None) -> PromptTable:
    from sp_edge.bundle import Bundle

    if like is not None and is_bundle(like):
        return Bundle.load(like).prompts
    from sp_edge.training.checkpoint import Checkpoint

    return Checkpoint.load(find_checkpoint(like)).prompts
