"""The command that takes over checkpoints from elsewhere: import."""

from __future__ import annotations

from pathlib import Path

import click

from sp_edge.cli.common import Command
from sp_edge.cli.shared import PATH
from sp_edge.cli.training import recipe_and_overrides
from sp_edge.errors import SettingsError


@click.command("import", cls=Command)
@click.argument("checkpoint", type=PATH)
@click.option(
    "--out", type=PATH, metavar="FILE", help="Write our checkpoint to this file.  [default: beside CHECKPOINT, as .safetensors]"
)
@click.option("--data", metavar="DIR|NAME", help="Name the data set of the training, as for sp-edge train.")
@click.option("--root", metavar="DIR", help="Read a benchmark's pictures from this folder (data.root); see sp-edge data list.")
@click.option(
    "--recipe", default="folder", show_default=True, metavar="NAME|FILE", help="Start from the settings of this recipe."
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set what the file does not tell, such as model.layer=3-1. Repeat it for several.",
)
@click.option(
    "--prompts", type=PATH, metavar="FILE", help="Read the prompts from this file, which `sp-edge prompts --out` wrote."
)
def import_(
    checkpoint: Path,
    out: Path | None,
    data: str | None,
    root: str | None,
    recipe: str,
    overrides: tuple[str, ...],
    prompts: Path | None,
) -> None:
    """Convert a checkpoint of the Semantic Prompt authors.

    A checkpoint of VT-FSL works, too. Backbone, picture size, interaction, stage and projector are read off the file. No code
    in it is run.

    \b
    Example:
      sp-edge import checkpoint_epoch_best.pth --recipe mini-imagenet-1shot --root /data/mini-imagenet
    """
    from sp_edge.settings.settings import Settings
    from sp_edge.training.importer import import_checkpoint

    settings = Settings.load(*recipe_and_overrides(recipe, overrides, data=data, root=root))
    named = {override.partition("=")[0].strip() for override in overrides}
    if data is None and "data.source" not in named and settings.data.source == "scenes":
        raise SettingsError(
            "which pictures was the network trained on?",
            expected="--data with a folder or a benchmark, or a --recipe that names one. It decides how pictures are prepared",
        )
    target = out or checkpoint.parent / f"{checkpoint.stem}.safetensors"
    if target.resolve() == checkpoint.resolve() or (out is None and target.exists()):
        raise SettingsError(f"{target} would be overwritten", expected="--out with another name")
    imported = import_checkpoint(checkpoint, settings, named=named, prompts=prompts)
    imported.save(target)
    model, text = imported.settings.model, imported.prompts.text
    click.echo(f"{checkpoint}: {model.backbone} at {model.image_size} px, {imported.stage}")
    if imported.network.prompt is not None:
        click.echo(f"prompts: {model.interaction} at {model.layer}, {model.projector} projector, {text.encoder} ({text.dim})")
        assumed = imported.record["imported"]["assumed"]
        click.echo(
            "the file does not tell these, so they are assumed: "
            + ", ".join(f"{name} {value}" for name, value in assumed.items())
        )
        if text.norm == 0:
            click.echo(
                "the length of its prompts is the mean of its base classes'. Make their table: sp-edge prompts "
                f"--set text.encoder={text.encoder} --set text.norm=0 --names-file BASE.txt --out base.safetensors; "
                "then import with --prompts base.safetensors"
            )
    if not imported.classes:
        click.echo(f"the data set {imported.settings.data.source} is not here: the checkpoint names no classes")
    click.echo(f"checkpoint: {target}")
