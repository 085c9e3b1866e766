"""Commands for banks, the files of taught classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sp_edge.cli.arguments import bank_and_others, bank_beside, existing_bank, split_bundle
from sp_edge.cli.banks import lines_of, merge, show_diff
from sp_edge.cli.common import Command, Ordered
from sp_edge.cli.shared import PATH, backend_options, bank_option, json_option, prompts_option
from sp_edge.cli.trial import test
from sp_edge.columns import counted, table
from sp_edge.errors import BankError, SettingsError

if TYPE_CHECKING:
    from sp_edge.bank.file import BankFile


@click.group(cls=Ordered)
def bank() -> None:
    """Look at what was taught, measure, change and merge it.

    What was taught is a file, the bank: classes.spbank beside the bundle, unless --bank names another.
    """


@bank.command("list", cls=Command)
@click.argument("arguments", nargs=-1, type=PATH, metavar="[BUNDLE]")
@bank_option
@json_option("the list")
def list_classes(arguments: tuple[Path, ...], bank_file: Path | None, json_file: Path | None) -> None:
    """List the taught classes.

    Shows the shots, threshold, strength and descriptions of each class. A class with 'its name' in place of shots is known by
    its name alone. `not 'mug'` holds pictures that are not of the class mug.
    """
    from sp_edge.bank.head import Head
    from sp_edge.bank.page import describe
    from sp_edge.files import write_json

    file = _file(arguments, bank_file)
    loaded = _existing(file)
    described = describe(loaded)
    head = Head.of(loaded, file.bundle.background(), file.bundle.manifest.calibration)
    header = ["class", "shots", "threshold", "strength"] + ["description"] * bool(loaded.descriptions)
    rows = []
    for c, threshold in zip(described["classes"], head.thresholds.tolist(), strict=True):
        c["threshold_set"], c["threshold"] = c["threshold"] is not None, threshold
        numbers = [f"{threshold:.3f}" + " (set)" * c["threshold_set"], f"{c['strength']:.3f}"]
        if c["not"] is not None:
            numbers = ["", ""]  # it is never believed, and has no name
        rows.append(
            [c["name"], "its name" if c["by_name"] else c["shots"], *numbers, " | ".join(c["descriptions"])][: len(header)]
        )
    click.echo(table(header, rows, text=["description"]))
    shots = sum(map(loaded.shots, loaded.names))
    fit = "" if loaded.fit == "crop" else f", fit {loaded.fit}"
    click.echo(
        f"{file.path}: version {loaded.version}, {counted(len(loaded.classes), 'class')}, {counted(shots, 'shot')}" + fit
    )
    if json_file:
        write_json(json_file, {"bank": str(file.path), **described})


@bank.command(cls=Command)
@click.argument("arguments", nargs=-1, type=PATH, metavar="[BUNDLE]")
@bank_option
@click.option("--name", help="Forget this class.")
@click.option("--not", "rejected", metavar="NAME", help="Forget what `enroll --not NAME` taught.")
@click.option("--shot", type=click.IntRange(0), help="Forget only this picture of it, counted from 0.")
def remove(
    arguments: tuple[Path, ...], bank_file: Path | None, name: str | None, rejected: str | None, shot: int | None
) -> None:
    """Forget a class, or one shot of it."""
    from sp_edge.bank.bank import reject_name

    if (name is None) == (rejected is None):
        raise SettingsError("nothing says which class is to be forgotten, or two do", expected="--name NAME, or --not NAME")
    file = _file(arguments, bank_file)
    title = _existing(file).spelling(reject_name(rejected or "") if name is None else name)
    told = title if name is None else f"'{title}'"
    file.change(lambda bank: bank.remove(title, shot))
    click.echo(f"forgot {told}" + ("" if shot is None else f", shot {shot}"))


@bank.command("set", cls=Command)
@click.argument("arguments", nargs=-1, type=PATH, metavar="[BUNDLE]")
@bank_option
@click.option("--name", required=True, help="Change this class.")
@click.option(
    "--strength", type=click.FloatRange(0, 1), help="Set how much its name counts beside one picture, 0 to 1; 0 ignores it."
)
@click.option(
    "--threshold",
    type=click.FloatRange(-1, 1),
    help="Accept the class from this cosine on, -1 to 1. Below it, a picture is unknown.",
)
@click.option("--auto-threshold", is_flag=True, help="Let the calibration choose the threshold again.")
def set_class(
    arguments: tuple[Path, ...],
    bank_file: Path | None,
    name: str,
    strength: float | None,
    threshold: float | None,
    auto_threshold: bool,
) -> None:
    """Change a class's strength or threshold. No pictures are needed.

    \b
    Examples:
      sp-edge bank set --name mug --threshold 0.7
      sp-edge bank set --name mug --auto-threshold
    """
    if strength is None and threshold is None and not auto_threshold:
        raise SettingsError("nothing to set", expected="--strength, --threshold or --auto-threshold")
    if threshold is not None and auto_threshold:
        raise SettingsError("the threshold is set and left to the calibration", expected="--threshold or --auto-threshold")
    file = _file(arguments, bank_file)
    name = _existing(file).spelling(name)

    def change(bank: Any) -> Any:
        changed = bank if strength is None else bank.with_strength(name, strength)
        return changed if threshold is None and not auto_threshold else changed.with_threshold(name, threshold)

    file.change(change)
    given = {"strength": strength, "threshold": threshold}
    said = [f"{what} {value:g}" for what, value in given.items() if value is not None]
    click.echo(f"'{name}': " + ", ".join(said + ["calibrated threshold"] * auto_threshold))


@bank.command(cls=Command)
@click.argument("arguments", nargs=-1, type=PATH, metavar="[BUNDLE]")
@bank_option
@json_option("the report")
def check(arguments: tuple[Path, ...], bank_file: Path | None, json_file: Path | None) -> None:
    """Judge a bank by its own shots.

    Shows which classes may be confused, which shots are odd, and what to add. No other pictures are needed. To measure on
    other pictures, use `sp-edge bank test FOLDER`.
    """
    from sp_edge.bank.advice import review
    from sp_edge.bank.head import Head
    from sp_edge.files import write_json

    file = _file(arguments, bank_file)
    loaded = _existing(file)
    report = review(loaded, Head.of(loaded, file.bundle.background(), file.bundle.manifest.calibration))
    rows = [[c.name, c.other, f"{100 * c.probability:.0f} %"] for c in report.confusions]
    if rows:
        click.echo(table(["class", "may be taken for", "probability"], rows, text=["may be taken for"]))
    for line in report.lines() or ["nothing to say against this bank"]:
        click.echo(line)
    if json_file:
        write_json(json_file, report.to_json())


bank.add_command(test)
bank.add_command(merge)
bank.add_command(show_diff)


@bank.command(cls=Command)
@click.argument("arguments", nargs=-1, type=PATH, metavar="[BUNDLE] FOLDER")
@bank_option
@backend_options
def export(arguments: tuple[Path, ...], bank_file: Path | None, **options: Any) -> None:
    """Write the shots' pictures and a page to look at into a folder.

    That is index.html, with bank.json beside it. FOLDER is new, empty, or an earlier export. Where the bundle's network tells
    it, a second picture of each shot shows where the name of its class was found.
    """
    from sp_edge.bank.page import PAGE, export_bank
    from sp_edge_runtime.recognizer import Recognizer

    file, others = bank_and_others(arguments, bank_file)
    if len(others) != 1:
        raise BankError(
            "a bank is exported to one folder", expected="[BUNDLE] FOLDER", got=" ".join(map(str, others)) or "none"
        )
    loaded, heats = _existing(file), None
    if file.bundle.manifest.scores is not None:
        with Recognizer.load(file.bundle.path, **options) as recognizer:
            recognizer.replace_bank(loaded)
            heats = recognizer.heats()
    export_bank(loaded, others[0], heats)
    click.echo(f"bank: {others[0] / PAGE}")


@bank.command(cls=Command)
@click.argument("arguments", nargs=-1, type=PATH, metavar="[BUNDLE]")
@bank_option
@prompts_option
@json_option("what changed")
@backend_options
def renew(
    arguments: tuple[Path, ...], bank_file: Path | None, extra: tuple[Path, ...], json_file: Path | None, **options: Any
) -> None:
    """Teach a bank's classes again with another BUNDLE.

    They are taught from the pictures that the bank keeps. Names and descriptions stay. Strengths are chosen as `enroll`
    chooses them. A threshold that you set is calibrated again if the two bundles' cosines differ. The output names each
    such change. `sp-edge bank undo` takes it back.

    \b
    Example:
      sp-edge bank renew new.spedge --bank shop.spbank
    """
    from sp_edge.files import write_json
    from sp_edge.prompts.table import PromptTable
    from sp_edge_runtime.renewal import renew as run

    path, others = split_bundle(arguments)
    _check_alone(others)
    file = existing_bank(bank_file or bank_beside(path))
    further = None
    for table_file in extra:
        read = PromptTable.load(table_file)
        further = read if further is None else further.with_table(read)
    renewal = run(file, path, prompts=further, **options)
    for line in renewal.lines():
        click.echo(line)
    shots = sum(one.shots for one in renewal.classes)
    if renewal.bundle[0] != renewal.bundle[1]:
        click.echo(
            f"bank: {file} with {counted(len(renewal.classes), 'class')}, {counted(shots, 'shot')} taught again with {path}"
        )
    if json_file:
        write_json(json_file, {"bank": str(file), **renewal.to_json()})


@bank.command(cls=Command)
@click.argument("arguments", nargs=-1, type=PATH, metavar="[BUNDLE]")
@bank_option
def undo(arguments: tuple[Path, ...], bank_file: Path | None) -> None:
    """Take the last change of a bank back.

    Repeat it to take back earlier changes, up to ten.
    """
    from sp_edge.bank.diff import diff

    file = _file(arguments, bank_file)
    existing_bank(file.path)
    undone, now = file.undo()
    for line in lines_of(diff(now, undone)):
        click.echo(f"taken back: {line}")
    more = counted(file.undoable(), "more change")
    click.echo(f"{file.path}: version {now.version}, {counted(len(now.classes), 'class')}; {more} can be taken back")
    if now.fingerprint != file.bundle.fingerprint:
        click.echo(f"the bank belongs to another bundle again: {now.fingerprint[:12]}, not {file.bundle.fingerprint[:12]}")


def _file(arguments: tuple[Path, ...], bank_file: Path | None) -> BankFile:
    file, others = bank_and_others(arguments, bank_file)
    _check_alone(others)
    return file


def _check_alone(others: tuple[Path, ...]) -> None:
    if others:
        raise BankError("only the bundle is an argument here", expected="[BUNDLE]", got=", ".join(map(str, others)))


def _existing(file: BankFile) -> Any:
    """The bank of a file that must be there."""
    from sp_edge.bank.bank import Bank

    return Bank.load(existing_bank(file.path), file.bundle)
