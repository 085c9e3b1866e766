"""What the commands about training share: their options, the settings that these stand for, and a run that is cut off."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from sp_edge.cli.shared import PATH, together
from sp_edge.errors import SettingsError

_log = logging.getLogger(__name__)
training_device = click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda", help="Compute on this device."
)
# What every command that trains is told: the recipe, its changes, where to start from and on which device.
training_options = together(
    click.argument("recipe", required=False),
    click.option(
        "--data",
        metavar="DIR|NAME",
        help="Train on a folder with train/, val/ and test/<class>/*.jpg, a benchmark, or scenes.  [default: the recipe's]",
    ),
    click.option(
        "--root", metavar="DIR", help="Read a benchmark's pictures from this folder (data.root); see sp-edge data list."
    ),
    click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="NAME=VALUE",
        help="Change a setting, such as tune.steps=500. Repeat it for several.",
    ),
    click.option(
        "--imgsz",
        type=int,
        metavar="PIXELS",
        help="Set the side of the network's input, in pixels (model.image_size).  [default: the recipe's]",
    ),
    click.option(
        "--init",
        type=PATH,
        metavar="FILE|ready|timm/NAME|timm",
        help="Start from this checkpoint or ready-made network and skip pre-training. A ready-made network brings its model, "
        "picture size, preprocessing and how it is tuned with it; timm gives weights for the model of the settings.",
    ),
    training_device,
)


def recipe_and_overrides(
    recipe: str | None,
    overrides: Sequence[str],
    *,
    data: str | None,
    root: str | None,
    imgsz: int | None = None,
    init: Path | None = None,
) -> tuple[str, list[str]]:
    """What `Settings.load` takes, from a command's options.

    Args:
        recipe: as given; by default scenes, or folder where another data set is named.
        overrides: of `--set`.
        data, root, imgsz: of the options of these names, which stand for settings.
        init: of the option of this name, whose network may bring settings. `--set` and the other options come after them, and
            what a recipe that was named says of `tune`.

    Raises:
        SettingsError: an option and `--set` name the same setting, or what `Settings.load` refuses.
    """
    from sp_edge.settings.settings import Settings

    def named_or_usual(settings: Sequence[str]) -> str:
        if recipe is not None:
            return recipe
        return "scenes" if Settings.load("scenes", settings).data.source == "scenes" else "folder"

    named = {override.partition("=")[0].strip() for override in overrides}
    every = list(overrides)
    options = (("--data", "data.source", data), ("--root", "data.root", root), ("--imgsz", "model.image_size", imgsz))
    for option, setting, value in options:
        if value is not None:
            if setting in named:
                raise SettingsError(f"{option} and --set {setting} say the same thing twice", expected="one of them")
            every.append(f"{setting}={json.dumps(value, ensure_ascii=False)}")  # a JSON text or number is TOML's, too
    if init is not None:
        from sp_edge.settings.recipe import read
        from sp_edge.training.start import settings_of

        given = tuple(every)
        brought = settings_of(init, lambda: Settings.load(named_or_usual(given), given).model.backbone)
        own = {} if recipe is None else read(recipe).get("tune", {})  # how to tune is the recipe's where the user names one
        passed = [one for one in brought if one.startswith("tune.") and one.partition("=")[0][5:] in own]
        if passed:
            _log.info(f"as {recipe} says how to tune, {init} does not: {', '.join(passed)}")
        every = [*(one for one in brought if one not in passed), *given]
        model = Settings.load(named_or_usual(every), every).model
        if (model.interaction, model.layer) != ("spatial", "last"):  # where no names are known that long steps could lose
            every = [one for one in every if one in given or not one.startswith("tune.prompt_lr=")]
    return named_or_usual(every), every


@contextmanager
def at_work_in(folder: Path, *, made: bool, to_go_on: str) -> Iterator[None]:
    """While the block trains in a folder: says after Ctrl-C how to go on, and leaves no folder in which nothing was begun.

    Args:
        folder: of the run.
        made: whether the command made it, rather than its user.
        to_go_on: what to type; empty where another process says it.
    """
    try:
        yield
    except KeyboardInterrupt:
        if to_go_on:
            click.echo(f"\nto go on: {to_go_on}", err=True)
        raise
    finally:
        if made:
            with suppress(OSError):
                folder.rmdir()  # succeeds only if it is empty
