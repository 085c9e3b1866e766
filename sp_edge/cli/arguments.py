"""What the arguments of a command name, and what is taken where they name nothing: the newest run's, or the ready bundle."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from sp_edge import runs
from sp_edge.cli.default import default_bundle, is_default
from sp_edge.errors import BankError, BundleError, CheckpointError, SettingsError

if TYPE_CHECKING:
    from sp_edge.bank.file import BankFile


def find_checkpoint(given: Path | None) -> Path:
    """A checkpoint file, from a file, a run's folder, or the newest run."""
    if given is None:
        return runs.newest(runs.CHECKPOINT, CheckpointError)
    return given / runs.CHECKPOINT if given.is_dir() else given


def means_bundle(path: Path) -> bool:
    """Whether an argument stands for a bundle: it is one, or is called like one and its faults are to be told."""
    from sp_edge.bundle.manifest import is_bundle

    return path.suffix == ".spedge" or is_bundle(path)


def refuse_idle(context: click.Context, names: Iterable[str], where: str, instead: str) -> None:
    """Refuses options that were given and would do nothing.

    Args:
        names: of the command's parameters that have no effect.
        where: with what they have none.
        instead: with what they would have some.

    Raises:
        SettingsError: one of them stands on the command line.
    """
    idle = set(names)
    for option in context.command.params:
        if option.name in idle and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            raise SettingsError(f"{option.opts[0]} does nothing with {where}", expected=f"{instead}, or no {option.opts[0]}")


def split_bundle(arguments: tuple[Path, ...]) -> tuple[Path, tuple[Path, ...]]:
    """Takes the bundle off the front of the arguments; else the newest run's, or where no run trained anything the ready one.

    Raises:
        BundleError: a run was trained and not exported, or the ready bundle cannot be made here.
    """
    if arguments and means_bundle(arguments[0]):
        return arguments[0], arguments[1:]
    if runs.has(runs.BUNDLE) or runs.has(runs.CHECKPOINT):
        return runs.newest(runs.BUNDLE, BundleError), arguments
    return default_bundle(), arguments


def bank_beside(bundle: Path) -> Path:
    """Where a bundle's bank is kept unless told otherwise; never inside the bundle, which an export replaces.

    That of the ready bundle, which lies in the user's cache, is kept in the current folder.
    """
    if is_default(bundle):
        return Path(runs.BANK)
    return bundle.resolve().parent / runs.BANK if bundle.name in ("", "..") else bundle.parent / runs.BANK


def existing_bank(file: Path) -> Path:
    """The path of a bank, for a command that makes none.

    Raises:
        BankError: there is no such file.
    """
    if not file.exists():
        raise BankError(
            f"no bank at {file}", expected="a file of taught classes", next_step="sp-edge enroll --name NAME PICTURES"
        )
    return file


def bank_and_others(arguments: tuple[Path, ...], bank_file: Path | None) -> tuple[BankFile, tuple[Path, ...]]:
    """The bank that a command is about, whether it is there or not, and the command's further arguments."""
    from sp_edge.bank.file import BankFile
    from sp_edge.bundle.bundle import Bundle

    path, others = split_bundle(arguments)
    return BankFile(bank_file or bank_beside(path), Bundle.load(path)), others
