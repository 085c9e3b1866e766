"""Commands about data sets: data list, data check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sp_edge.cli.common import Command, Ordered
from sp_edge.cli.shared import json_option
from sp_edge.cli.training import recipe_and_overrides
from sp_edge.columns import table
from sp_edge.errors import DataError, InputError, SettingsError

if TYPE_CHECKING:
    from sp_edge.settings.settings import TextSettings

_SHOWN = 10  # of each kind of finding; the JSON file has all


@click.group(cls=Ordered)
def data() -> None:
    """List benchmarks, and check pictures before training."""


@data.command("list", cls=Command)
def list_benchmarks() -> None:
    """List the benchmarks and what each one's folder must hold."""
    from sp_edge.data import benchmarks, cache

    rows = []
    for name in benchmarks.NAMES:
        facts = benchmarks.load(name)
        counts = " / ".join(str(len(classes)) for classes in facts.classes.values())
        rows.append(f"{name:<16} {counts:<15} {facts.pictures}")
    click.echo("benchmark        classes         data.root holds")
    click.echo("\n".join(rows))
    folder = cache.default_folder()
    size = sum(file.stat().st_size for file in folder.glob("*.npy")) if folder.is_dir() else 0
    click.echo(f"\nprepared pictures are kept in {folder} ({size / 1e9:.1f} GB now)")


@data.command(cls=Command)
@click.option(
    "--data",
    "source",
    required=True,
    metavar="DIR|NAME",
    help="Check a folder with train/, val/ and test/<class>/*.jpg, or a benchmark.",
)
@click.option("--root", metavar="DIR", help="Read a benchmark's pictures from this folder (data.root); see sp-edge data list.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change a setting, such as eval.n_query=10. Repeat it for several.",
)
@json_option("everything that was found")
def check(source: str, root: str | None, overrides: tuple[str, ...], json_file: Path | None) -> None:
    """Read every picture, count, and say what is wrong.

    It finds files that cannot be read, classes with too few pictures for an episode, and pictures that are in two splits. It
    finds names that differ in case, spaces or the form of characters alone, and names that the text encoder cannot tell apart.
    The exit code is 2 if training could not use everything.

    \b
    Example:
      sp-edge data check --data pictures
    """
    from sp_edge.data.check import Need
    from sp_edge.data.check import check as look
    from sp_edge.data.sets import open_source
    from sp_edge.files import write_json
    from sp_edge.settings.settings import Settings

    settings = Settings.load(*recipe_and_overrides("folder", overrides, data=source, root=root))
    if source == "scenes":
        raise SettingsError("the scenes are drawn anew for each run", expected="a folder or a benchmark", got="scenes")
    tune, test = settings.tune, settings.eval
    measured = Need(test.n_way, max(test.n_shot) + test.n_query)
    needs = {"train": Need(tune.n_way, max(tune.n_shot) + tune.n_query), "val": measured, "test": measured}
    source_of = open_source(settings.data)
    report = look(source_of, needs, progress=True)
    if json_file:
        write_json(json_file, report.to_json())
    header = ["split", "classes", "pictures", "fewest", "most", "broken", "tiny"]
    rows = [[s.split, s.classes, s.pictures, s.fewest, s.most, s.broken, s.tiny] for s in report.splits]
    click.echo(table(header, rows))
    for note in report.notes:
        click.echo(note)
    findings = {
        "cannot be read": [f"{picture}: {why}" for picture, why in report.broken.items()],
        "too few for the protocol": list(report.too_few),
        "in two splits": [f"{t.picture} is {t.twin}" for t in report.duplicates],
        "nearly the same in two splits": [f"{t.picture} is like {t.twin} ({t.bits} of 128 bits differ)" for t in report.near],
        "spellings of one name: are they one class?": list(report.names),
        "tiny": [f"{picture}: {width}x{height}" for picture, (width, height) in report.tiny.items()],
    }
    for what, lines in findings.items():
        if lines:
            click.echo(f"\n{what}: {len(lines)}")
            click.echo("\n".join(f"  {line}" for line in lines[:_SHOWN]))
            if len(lines) > _SHOWN:
                click.echo("  ..." + ("" if json_file else " (--json FILE has all)"))
    _encode({split: source_of.class_names(split) for split in source_of.splits}, settings.text)
    if not report.usable:
        raise DataError(
            f"{source} cannot be used as it is",
            expected="pictures that can be read, and enough of each class",
            got=f"{len(report.broken)} that cannot, {len(report.too_few)} shortages",
            next_step="replace or add pictures, or lower n_way, n_shot or n_query of tune and eval",
        )


def _encode(names: Mapping[str, Sequence[str]], settings: TextSettings) -> None:
    """Makes the classes' prompts, which logs names that the text encoder cannot read or tell apart."""
    try:
        from sp_edge.text import prompt_table

        prompt_table([name for several in names.values() for name in several], settings, base=names.get("train", ()))
    except (ModuleNotFoundError, InputError) as cause:
        why = cause.what if isinstance(cause, InputError) else f"{cause.name} is not installed"
        click.echo(f"\nthe names were not encoded: {why}")
