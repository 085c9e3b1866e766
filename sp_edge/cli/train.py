"""Commands on the training side: train, eval."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sp_edge import runs
from sp_edge.cli.arguments import find_checkpoint
from sp_edge.cli.common import Command
from sp_edge.cli.shared import PATH, json_option
from sp_edge.cli.training import at_work_in, recipe_and_overrides, training_device, training_options
from sp_edge.columns import table
from sp_edge.errors import DataError, SettingsError

if TYPE_CHECKING:
    from sp_edge.data.pictures import PictureSet
    from sp_edge.settings.settings import EvalSettings, Settings
    from sp_edge.training.checkpoint import Checkpoint


@click.command(cls=Command)
@training_options
@click.option("--out", type=PATH, metavar="DIR", help="Write the run into this folder.  [default: the next one in runs/]")
@click.option("--resume", type=PATH, metavar="DIR", help="Continue the interrupted run in this folder.")
def train(
    recipe: str | None,
    data: str | None,
    root: str | None,
    overrides: tuple[str, ...],
    imgsz: int | None,
    out: Path | None,
    resume: Path | None,
    init: Path | None,
    device: str,
) -> None:
    """Train a network as a classifier, then in episodes with prompts.

    The network is an SP Visformer unless model.backbone says otherwise. At the end its accuracy is measured on the classes
    in test/, which it has not seen. RECIPE is a shipped recipe, such as mini-imagenet-1shot, or a TOML file of
    settings.  [default: scenes or folder, after --data]

    \b
    Examples:
      sp-edge train --data pictures
      sp-edge train --data pictures --imgsz 96 --set model.backbone=visformer_mini --set model.layer=3-1
      sp-edge train --resume runs/1
    """
    from sp_edge.settings.begun import Begun
    from sp_edge.settings.settings import Settings

    if resume is not None:
        if overrides or any(given is not None for given in (data, root, recipe, imgsz, out, init)):
            raise SettingsError("--resume takes all settings from the run", expected="--resume alone")
        begun = Begun.read(resume)
        settings, init = begun.settings, None if begun.init is None else Path(begun.init)
    else:
        settings = Settings.load(*recipe_and_overrides(recipe, overrides, data=data, root=root, imgsz=imgsz, init=init))
        if settings.data.source == "scenes" and data is None:
            click.echo("no --data: training on the scenes that sp-edge draws itself")
    from sp_edge.training.accelerator import make_accelerator, new_run
    from sp_edge.training.run import train as run_training

    accelerator = make_accelerator(settings.precision, device)
    folder = resume or out or new_run(accelerator)
    main = accelerator.is_main_process
    if main:
        click.echo(f"run: {folder}")
    else:
        logging.disable()  # another process of the same training speaks
    to_go_on = f"sp-edge train --resume {folder}" if main else ""
    with at_work_in(folder, made=out is None and resume is None, to_go_on=to_go_on):
        novel = _novel(settings) if main else None
        trained = run_training(settings, folder, device=device, init=init)
    if main:
        click.echo(f"checkpoint: {folder / runs.CHECKPOINT}")
        _measure_novel(trained, folder, device, novel)


def _novel(settings: Settings) -> PictureSet | None:
    """The pictures of the novel classes, read before hours of training: what is wrong with one is told now. None if drawn."""
    from sp_edge.data import sets

    read = settings.data.source != "scenes" and sets.has_split(settings, "test")
    return sets.load_split(settings, "test", progress=True) if read else None


def _measure_novel(checkpoint: Checkpoint, folder: Path, device: str, novel: PictureSet | None) -> None:
    """Prints the novel classes' table, beside what the recipe's source reports, and writes it into the run's folder."""
    from sp_edge.data import sets
    from sp_edge.files import write_json
    from sp_edge.training.evaluate import evaluate_checkpoint

    settings = checkpoint.settings
    if not sets.has_split(settings, "test"):
        click.echo("no test classes: sp-edge eval --data DIR measures on others")
        return
    pictures = novel or sets.load_split(settings, "test", progress=True)
    click.echo(f"{len(pictures):,} pictures of {len(pictures.class_names)} novel classes, {_protocol(settings.eval)}")
    try:
        found = evaluate_checkpoint(checkpoint, pictures, device=device, progress=True)
    except DataError as error:  # the training is done and kept; the protocol can be another one
        click.echo(f"not measured: {error}\n  next: sp-edge eval, with the protocol as options", err=True)
        return
    click.echo(table(*found.table(settings.expected)))
    click.echo(str(found))
    if settings.expected.source:
        click.echo(_CHOSEN)
    write_json(folder / runs.EVALUATION, {**found.to_json(), "expected": dataclasses.asdict(settings.expected)})


_CHOSEN = (
    "sp-edge chooses networks and prompt strength on validation classes. The release chose its best checkpoint on the test "
    "classes: expect somewhat lower figures than its own."
)


def _protocol(protocol: EvalSettings) -> str:
    views = f" on {protocol.views} views" if protocol.classifier == "lr" else ""
    return f"{protocol.n_way}-way, {protocol.episodes:,} episodes, {protocol.classifier}{views}; % with 95 % interval"


@click.command("eval", cls=Command)
@click.argument("checkpoint", type=PATH, required=False)
@click.option("--data", metavar="DIR|NAME", help="Measure on this data set.  [default: the training's]")
@click.option("--root", metavar="DIR", help="Read a benchmark's pictures from this folder.  [default: the training's]")
@click.option(
    "--split", default="test", show_default=True, metavar="train|val|test", help="Measure on the classes of this split."
)
@click.option("--n-way", type=click.IntRange(2), help="Draw this many classes an episode.  [default: the run's]")
@click.option(
    "--n-shot",
    multiple=True,
    type=click.IntRange(1),
    help="Give this many support pictures a class. Repeat it to measure several.  [default: the run's]",
)
@click.option("--n-query", type=click.IntRange(1), help="Classify this many query pictures a class.  [default: the run's]")
@click.option("--episodes", type=click.IntRange(2), help="Measure on this many episodes.  [default: the run's]")
@click.option(
    "--classifier",
    type=click.Choice(["cosine", "lr"]),
    help="Decide by the nearest prototype (cosine) or by logistic regression (lr).  [default: the run's]",
)
@click.option(
    "--views",
    type=click.IntRange(1),
    help="Let lr learn from this many augmented views of a support picture.  [default: the run's]",
)
@click.option(
    "--strength", type=click.FloatRange(0, 1), help="Set how strongly a prompt counts, 0 to 1.  [default: what training chose]"
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="Draw the episodes by this number; another one draws others.",
)
@training_device
@json_option("the figures")
def evaluate(
    checkpoint: Path | None,
    data: str | None,
    root: str | None,
    split: str,
    strength: float | None,
    seed: int,
    device: str,
    json_file: Path | None,
    **protocol: Any,
) -> None:
    """Measure few-shot accuracy on new classes.

    The table shows % with the 95 % interval: with prompts, without, and the difference on the same episodes. The protocol
    (classes, shots, queries, episodes, classifier) is the run's own (`eval` in its settings) where no option
    changes it. CHECKPOINT is a file or a run's folder.  [default: the newest run's]

    \b
    Examples:
      sp-edge eval
      sp-edge eval runs/1 --data pictures --n-way 3 --n-shot 1 --n-shot 5
    """
    from sp_edge.data import sets
    from sp_edge.files import write_json
    from sp_edge.training.checkpoint import Checkpoint
    from sp_edge.training.evaluate import evaluate_checkpoint

    file = find_checkpoint(checkpoint)
    loaded = Checkpoint.load(file)
    settings = loaded.settings
    given = {name: value for name, value in protocol.items() if value not in (None, ())}
    measured = dataclasses.replace(settings.eval, **given)
    if data is not None or root is not None:
        settings = dataclasses.replace(settings, data=settings.data.elsewhere(data or settings.data.source, root or ""))
    # The network goes on seeing pictures as its own data set prepared them, and as its bundle will.
    pictures = sets.load_split(settings, split, preprocess=sets.preprocess_of(loaded.settings), progress=True)
    click.echo(f"{file}: {len(pictures):,} pictures of {len(pictures.class_names)} classes ({split}), {_protocol(measured)}")
    found = evaluate_checkpoint(loaded, pictures, measured, seed=seed, strength=strength, device=device, progress=True)
    if loaded.network.prompt is not None:
        known = f", familiarity of the names {found.familiarity:.2f}" if loaded.network.familiarity is not None else ""
        click.echo(f"prompt strength {found.strength}{known}")
    own = data is None and split == "test" and not given
    click.echo(table(*found.table(settings.expected if own else None)))
    click.echo(str(found))
    if json_file:
        write_json(json_file, {"checkpoint": str(file), "data": settings.data.source, "split": split, **found.to_json()})
