"""The command that compares variants of a recipe: ablate."""

from __future__ import annotations

from pathlib import Path

import click

from sp_edge import runs
from sp_edge.cli.common import Command
from sp_edge.cli.shared import PATH
from sp_edge.cli.training import at_work_in, recipe_and_overrides, training_options
from sp_edge.columns import table
from sp_edge.errors import SettingsError


@click.command(cls=Command)
@training_options
@click.option(
    "--vary",
    multiple=True,
    metavar="NAME=VALUE,VALUE",
    help="Try these values of a setting, such as model.layer=2-1,3-2. Repeat it for several settings.",
)
@click.option(
    "--paper",
    is_flag=True,
    help="Vary what the paper varies, at full strength: interaction, layer, pooling, projector, beta, classifier.",
)
@click.option("--grid", is_flag=True, help="Try all combinations.  [default: change one setting at a time]")
@click.option("--seeds", default=1, show_default=True, type=click.IntRange(1), help="Train each variant this many times.")
@click.option(
    "--out",
    type=PATH,
    metavar="DIR",
    help="Write runs and figures into this folder, and keep finished runs in it.  [default: the next one in runs/]",
)
def ablate(
    recipe: str | None,
    data: str | None,
    root: str | None,
    imgsz: int | None,
    vary: tuple[str, ...],
    paper: bool,
    grid: bool,
    seeds: int,
    overrides: tuple[str, ...],
    out: Path | None,
    init: Path | None,
    device: str,
) -> None:
    """Train variants of a recipe and compare them.

    All variants are measured on the same episodes; the first one is the reference. A table (Markdown, JSON) and a plot are
    written. Variants with the same pre-training share its backbone. To continue an interrupted command, give it again with
    the same --out.

    \b
    Examples:
      sp-edge ablate --vary model.layer=2-1,3-1 --out runs/layers
      sp-edge ablate --paper --out runs/paper
    """
    from sp_edge.settings.settings import Settings
    from sp_edge.training.ablate import ablate as run_ablation
    from sp_edge.training.ablation_report import caption, report
    from sp_edge.training.ablation_report import table as lines_of
    from sp_edge.training.variants import PAPER_BASE, paper_rows, plan

    if paper and grid:
        raise SettingsError("--paper varies one setting at a time", expected="--grid with --vary alone")
    recipe, common = recipe_and_overrides(recipe, overrides, data=data, root=root, imgsz=imgsz)
    common = [*(PAPER_BASE if paper else ()), *common]
    base = Settings.load(recipe, common)
    variants = plan(recipe, common, [*(paper_rows(base) if paper else ()), *vary], grid=grid)
    folder = out or runs.new_run()
    click.echo(f"{len(variants)} variants in {folder}")
    with at_work_in(folder, made=out is None, to_go_on=f"the same command with --out {folder}"):
        rows = run_ablation(variants, base, folder, seeds=seeds, init=init, device=device)
    protocol = base.eval
    report(rows, protocol, folder)
    click.echo("\n" + table(*lines_of(rows)))
    click.echo(caption(rows, protocol))
    click.echo(f"table: {folder / 'ablation.md'}\nfigures: {folder / 'ablation.json'}\nplot: {folder / 'ablation.png'}")
