"""The command that measures a bank on labeled pictures: bank test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sp_edge.cli.arguments import bank_beside, existing_bank, split_bundle
from sp_edge.cli.common import SHOWN, Command, refuse_unreadable, unreadable
from sp_edge.cli.shared import PATH, backend_options, bank_option, crop_option, deciding_options, json_option, packed
from sp_edge.columns import table
from sp_edge.errors import DataError, ImageError

if TYPE_CHECKING:
    from sp_edge.bank.trial import Trial
    from sp_edge.data.listing import Listing
    from sp_edge.matching.decide import Match
    from sp_edge.view import Region
    from sp_edge_runtime.recognizer import Recognizer


@click.command(cls=Command)
@click.argument("arguments", nargs=-1, type=PATH, metavar="[BUNDLE] FOLDER")
@bank_option
@packed("how", backend_options, deciding_options)
@crop_option
@json_option("all figures")
def test(
    arguments: tuple[Path, ...],
    bank_file: Path | None,
    how: Mapping[str, Any],
    region: Region | None,
    json_file: Path | None,
) -> None:
    """Measure what was taught on labeled pictures, FOLDER/<class>/.

    A folder with the name of a taught class shows how often the class is recognized, and what it is taken for instead.
    Pictures in any other folder should be 'unknown'; those that are accepted are counted. Use other pictures than you taught
    from. Every share has its 95 % interval.

    \b
    Example:
      sp-edge bank test pictures/test
    """
    from sp_edge.bank.trial import check_taught, trial
    from sp_edge.data.folder import labelled
    from sp_edge.files import write_json
    from sp_edge.picture_files import pictures_in
    from sp_edge_runtime.recognizer import Recognizer

    path, places = split_bundle(arguments)
    if len(places) != 1:
        raise DataError(
            "pictures are taken from one folder", expected="[BUNDLE] FOLDER", got=" ".join(map(str, places)) or "none"
        )
    pictures = labelled(places[0])
    for note in pictures.notes:
        click.echo(note, err=True)
    file = existing_bank(bank_file or bank_beside(path))
    broken: dict[str, str] = {}
    with Recognizer.load(
        path,
        bank=file,
        **how,
    ) as recognizer:
        bank = recognizer.bank
        names = tuple(map(bank.spelling, pictures.class_names))
        check_taught(names, bank.classes)
        click.echo(f"{path} through {recognizer.backend.description}", err=True)
        try:
            found = trial(_recognized(recognizer, pictures, names, region, broken), bank.classes)
        except DataError as error:  # those of taught classes are all broken
            refuse_unreadable(broken, "were not counted", of=len(pictures))
            raise error from None
    _show(found)
    for written, name in zip(pictures.class_names, names, strict=True):
        if written != name:
            click.echo(f"'{written}' counts as the bank's class '{name}'")
    if loose := pictures_in(places[0], deep=False).files:
        click.echo(f"pictures directly in {places[0]} have no class: {len(loose)} left out")
    if json_file:
        described = {"bundle": str(path), "bank": str(file), "bank_version": bank.version, "folder": str(places[0])}
        write_json(json_file, {**described, **found.to_json(), "unreadable": broken, "left_out": dict(pictures.left_out)})
    refuse_unreadable(broken, "were not counted", of=len(pictures))


def _recognized(
    recognizer: Recognizer, pictures: Listing, names: Sequence[str], region: Region | None, broken: dict[str, str]
) -> Iterator[tuple[str, Match]]:
    """Each picture's class, by the bank's name for it, and what it is recognized as; of those that cannot be read, why."""
    from tqdm import tqdm

    for row in tqdm(range(len(pictures)), desc="recognizing", leave=False, disable=None):
        try:
            image = pictures.read(row)
        except ImageError as error:
            unreadable(broken, pictures.pictures[row], error)
            continue
        yield names[int(pictures.labels[row])], recognizer.classify(image, region=region)


def _show(found: Trial) -> None:
    from sp_edge.accuracy import Share

    rows = [[row.name, row.pictures, row.right, row.taken, row.unknown, Share(row.right, row.pictures)] for row in found.taught]
    click.echo(table(["class", "pictures", "right", "other class", "unknown", "right (95 % interval)"], rows))
    if found.foreign:
        rows = [[row.name, row.pictures, row.accepted, Share(row.accepted, row.pictures)] for row in found.foreign]
        click.echo("\n" + table(["not taught", "pictures", "accepted", "accepted (95 % interval)"], rows))
    if found.mistaken:
        pairs = [[pair.name, pair.other, pair.pictures] for pair in found.mistaken[:SHOWN]]
        click.echo("\n" + table(["pictures of", "taken for", "how many"], pairs, text=["taken for"]))
        if len(found.mistaken) > SHOWN:
            click.echo(f"... {len(found.mistaken) - SHOWN} more pairs (--json FILE has all)")
    right, unknown, accepted = found.accuracy, found.unknown, found.accepted
    nearest = sum(row.nearest for row in found.taught)
    click.echo(f"\naccuracy: {right}, {right.count} of {right.total} pictures of taught classes")
    so = f", {nearest} of them nearest to their own class" if unknown.count else ""
    click.echo(f"called unknown: {unknown}, {unknown.count} of {unknown.total}{so}")
    if accepted is not None:
        click.echo(f"wrongly accepted: {accepted}, {accepted.count} of {accepted.total} pictures of other classes")
    if found.untried:
        some, more = ", ".join(found.untried[:SHOWN]), len(found.untried) - SHOWN
        click.echo(f"taught, and without a picture here: {some}" + (f" and {more} more" if more > 0 else ""))
