"""Commands that teach a device: enroll, bank."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sp_edge.cli.common import PATH, Command, bank_beside, split_bundle, table
from sp_edge.errors import BankError

if TYPE_CHECKING:
    from sp_edge.bank import Bank


@click.command(cls=Command)
@click.argument("arguments", nargs=-1, type=PATH, metavar="[BUNDLE] PICTURES...")
@click.option("--name", required=True, help="Of the class, as a person would say it.")
@click.option("--bank", "bank_file", type=PATH, help="File of the taught classes. [default: classes.spbank beside the bundle]")
@click.option("--prompts", "extra", type=PATH, multiple=True, help="Further class names, from `sp-edge prompts --out`.")
@click.option(
    "--strength",
    type=click.FloatRange(0, 1),
    help="Of the name against all the class's pictures; 0 ignores it. [default: the class's own, of a new one the bundle's]",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "int8"]), help="[default: the bundle's]")
def enroll(
    arguments: tuple[Path, ...],
    name: str,
    bank_file: Path | None,
    extra: tuple[Path, ...],
    strength: float | None,
    device: str,
    precision: str | None,
) -> None:
    """Teach a class from one to five pictures, or from a folder of them."""
    from sp_edge.files import locked
    from sp_edge.preprocess import load_image, pictures_at
    from sp_edge.prompts import PromptTable
    from sp_edge_runtime.recognizer import Recognizer

    path, places = split_bundle(arguments)
    images = [load_image(file) for file in pictures_at(places)]
    bank_file = bank_file or bank_beside(path)
    with (
        locked(bank_file),
        Recognizer.load(path, bank=bank_file if bank_file.exists() else None, device=device, precision=precision) as recognizer,
    ):
        known = recognizer.bundle.prompts
        for file in extra:
            known = known.with_table(PromptTable.load(file))
        prompt = known.vector(name) if extra else None
        recognizer.enroll(name, images, prompt=prompt, strength=strength)
        recognizer.bank.save(bank_file)
        shots = recognizer.bank.shots(name)
        click.echo(f"taught '{name}' from {len(images)} picture{'s' * (len(images) != 1)}, {shots} in all")
        click.echo(f"bundle: {path}, {recognizer.backend.description}")
        click.echo(f"bank: {bank_file} with {len(recognizer.bank.names)} classes")


@click.group()
def bank() -> None:
    """Look at the taught classes, or forget some."""


@bank.command("list", cls=Command)
@click.argument("arguments", nargs=-1, type=PATH, metavar="[BUNDLE]")
@click.option("--bank", "bank_file", type=PATH, help="[default: classes.spbank beside the bundle]")
@click.option("--json", "json_file", type=PATH, help="Write the list to a file, too.")
def list_classes(arguments: tuple[Path, ...], bank_file: Path | None, json_file: Path | None) -> None:
    """List the taught classes."""
    from sp_edge.files import write_json

    path, file = _places(arguments, bank_file)
    loaded = _load(path, file)
    numbers = zip(loaded.names, loaded.thresholds, loaded.strengths, strict=True)
    rows = [(name, loaded.shots(name), f"{threshold:.3f}", f"{strength:.3f}") for name, threshold, strength in numbers]
    shown = 4 if (loaded.strengths != loaded.bundle_strength).any() else 3
    click.echo(table(["class", "shots", "threshold", "strength"][:shown], [row[:shown] for row in rows]))
    click.echo(f"{file}: version {loaded.version}, {len(rows)} classes, {len(loaded.owners)} shots")
    if json_file:
        classes = [{"name": n, "shots": k, "threshold": float(t), "strength": float(s)} for n, k, t, s in rows]
        write_json(json_file, {"bank": str(file), "version": loaded.version, "classes": classes})


@bank.command(cls=Command)
@click.argument("arguments", nargs=-1, type=PATH, metavar="[BUNDLE]")
@click.option("--bank", "bank_file", type=PATH, help="[default: classes.spbank beside the bundle]")
@click.option("--name", required=True, help="The class to forget.")
@click.option("--shot", type=click.IntRange(0), help="Only this shot of it, counted from 0.")
def remove(arguments: tuple[Path, ...], bank_file: Path | None, name: str, shot: int | None) -> None:
    """Forget a class, or one shot of it."""
    from sp_edge.files import locked

    path, file = _places(arguments, bank_file)
    with locked(file):
        _load(path, file).remove(name, shot).save(file)
    click.echo(f"forgot '{name}'" + ("" if shot is None else f", shot {shot}"))


def _places(arguments: tuple[Path, ...], bank_file: Path | None) -> tuple[Path, Path]:
    """The bundle, and the file of its bank."""
    path, rest = split_bundle(arguments)
    if rest:
        raise BankError("only the bundle is an argument here", expected="[BUNDLE]", got=", ".join(map(str, rest)))
    return path, bank_file or bank_beside(path)


def _load(path: Path, file: Path) -> Bank:
    from sp_edge.bank import Bank
    from sp_edge.bundle import Bundle

    return Bank.load(file, Bundle.load(path))
