"""The commands about several banks: merge, diff."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sp_edge.cli.arguments import bank_and_others
from sp_edge.cli.common import Command
from sp_edge.cli.shared import PATH, bank_option, json_option
from sp_edge.columns import counted, table
from sp_edge.errors import BankError

if TYPE_CHECKING:
    from sp_edge.bank.bank import Bank
    from sp_edge.bank.diff import ClassChange


@click.command(cls=Command)
@click.argument("arguments", nargs=-1, type=PATH, metavar="[BUNDLE] BANKS...")
@bank_option
@click.option(
    "--prefer",
    type=click.Choice(["ours", "theirs"]),
    help="Take the values of ours (--bank) or theirs where the banks differ.  [default: refuse]",
)
def merge(arguments: tuple[Path, ...], bank_file: Path | None, prefer: Any) -> None:
    """Take the classes and shots of other banks into one.

    A shot that is in several banks is taken once. A class with another prompt, threshold or strength is refused, unless
    --prefer says whose values count. If the prompts differ, all shots of the class come from the preferred bank.

    \b
    Example:
      sp-edge bank merge from-the-other-jetson.spbank --bank classes.spbank
    """
    from sp_edge.bank.bank import Bank
    from sp_edge.bank.diff import diff
    from sp_edge.bank.merge import merge as merged

    file, others = bank_and_others(arguments, bank_file)
    if not others:
        raise BankError("nothing to merge", expected="[BUNDLE] BANKS...", got="no bank")
    theirs = [(other, Bank.load(other, file.bundle)) for other in others]
    before: list[Bank] = []

    def change(bank: Bank) -> Bank:
        before.append(bank)
        for other, loaded in theirs:
            with _about(other):
                bank = merged(bank, loaded, prefer=prefer)
        return bank

    after = file.change(change)
    for line in lines_of(diff(before[0], after)):
        click.echo(line)
    shots = counted(sum(map(after.shots, after.names)), "shot")
    click.echo(f"bank: {file.path} with {counted(len(after.classes), 'class')}, {shots}")


@click.command("diff", cls=Command)
@click.argument("arguments", nargs=-1, type=PATH, metavar="[BUNDLE] OLD NEW")
@json_option("the differences")
@click.pass_context
def show_diff(context: click.Context, arguments: tuple[Path, ...], json_file: Path | None) -> None:
    """Show what NEW has that OLD has not, and what it lacks.

    The exit code is 0 where both hold the same, 1 where they differ, and 2 where one cannot be read.
    """
    from sp_edge.bank.bank import Bank
    from sp_edge.bank.diff import diff
    from sp_edge.files import write_json

    file, others = bank_and_others(arguments, None)
    if len(others) != 2:
        raise BankError("two banks are compared", expected="[BUNDLE] OLD NEW", got=" ".join(map(str, others)) or "none")
    changes = diff(*(Bank.load(other, file.bundle) for other in others))
    if changes:
        rows = [
            [
                *(change.name, change.change, f"+{change.shots_added} -{change.shots_removed}"),
                *(_pair(values, change.change) for values in (change.threshold, change.strength)),
                "another" if change.prompt else "",
            ]
            for change in changes
        ]
        click.echo(table(["class", "change", "shots", "threshold", "strength", "prompt"], rows))
    if json_file:
        write_json(json_file, {"old": str(others[0]), "new": str(others[1]), "classes": [c.to_json() for c in changes]})
    context.exit(1 if changes else 0)


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """Says which bank an error is about."""
    try:
        yield
    except BankError as error:
        raise BankError(f"{path}: {error.what}", expected=error.expected, got=error.got, next_step=error.next_step) from error


def lines_of(changes: tuple[ClassChange, ...]) -> list[str]:
    """What each change did, in words."""
    lines = []
    for change in changes:
        done = []
        if change.shots_added:
            done.append(f"{change.shots_added} shot{'s' * (change.shots_added != 1)} added")
        if change.shots_removed:
            done.append(f"{change.shots_removed} shot{'s' * (change.shots_removed != 1)} removed")
        if change.by_name[1] and not change.by_name[0]:
            done.append("by its name alone")
        if change.change == "changed":
            pairs = (("threshold", change.threshold), ("strength", change.strength))
            done += [f"{what} {_pair(values)}" for what, values in pairs if values[0] != values[1]]
            done += ["another prompt"] * change.prompt
        lines.append(f"'{change.name}' {change.change}: {', '.join(done)}".removesuffix(": "))
    return lines


def _pair(values: tuple[float | None, float | None], change: str = "changed") -> str:
    """An old and a new number as text; one where they are the same, or where the class is in one bank alone."""
    old, new = ("calibrated" if value is None else f"{value:.3f}" for value in values)
    if change == "changed" and old != new:
        return f"{old} -> {new}"
    return old if change == "removed" else new
