"""What every command shares: how errors are shown, and how the defaults of a run are found."""

from __future__ import annotations

import errno
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from sp_edge import runs
from sp_edge.errors import (
    BankError,
    BundleError,
    CheckpointError,
    DataError,
    ImageError,
    MissingExtraError,
    SettingsError,
    SpEdgeError,
)
from sp_edge.precisions import PRECISIONS
from sp_edge_runtime.backends.choices import DEVICES

_EXTRAS = dict.fromkeys(
    ("torch", "torchvision", "timm", "accelerate", "matplotlib", "sklearn", "tensorboard", "easyfsl", "sentence_transformers"),
    "train",
)
_EXTRAS |= dict.fromkeys(("onnx", "onnxscript"), "export") | {"cv2": "camera"}
_PACKAGES = ("sp_edge", "sp_edge_calibration", "sp_edge_export", "sp_edge_runtime")


class Ordered(click.Group):
    """Lists its commands in the order of work."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they were added."""
        return list(self.commands)


class Command(click.Command):
    """A command that takes `--debug`, and says what a BUNDLE is where it takes one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if any((param.metavar or "").startswith("[BUNDLE]") for param in self.params if isinstance(param, click.Argument)):
            self.epilog = "BUNDLE is a folder that `sp-edge export` wrote, such as model.spedge.  [default: the newest run's]"
        self.params.append(
            click.Option(["--debug"], is_flag=True, expose_value=False, callback=_keep_debug, help="Show tracebacks of errors.")
        )

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command, and shows what our packages log meanwhile, on standard error.

        A broken pipe is kept from click, which would end the process with 1.

        Raises:
            MissingExtraError: an optional package that the command imports is not installed.
        """
        try:
            with _shown_log():
                return super().invoke(ctx)
        except BrokenPipeError as cause:
            raise _ReaderGoneError from cause
        except ModuleNotFoundError as cause:
            package = (cause.name or "").partition(".")[0]
            if package not in _EXTRAS:
                raise
            raise MissingExtraError(
                f"'sp-edge {ctx.info_name}' cannot run here", package=package, extra=_EXTRAS[package]
            ) from cause


class _ReaderGoneError(Exception):
    """Nobody reads our output any more, as in `| head`."""


_debug = False
SHOWN = 10  # of a list that may be long; where there is a JSON file, it has all


def _keep_debug(_context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    global _debug  # noqa: PLW0603 - one flag for the process, read where errors are shown
    _debug = value


# What the system says of a path that cannot be used, as against what breaks on the way.
_GIVEN = {
    errno.EBUSY,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOENT,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
}


def run(group: click.Group, arguments: Sequence[str]) -> int:
    """Runs a command line.

    Returns:
        The exit code: 0; 2 for what the user gave; 1 for what failed on our side; 130 after Ctrl-C.
    """
    try:
        code = group.main(args=list(arguments), prog_name="sp-edge", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("stopped", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except _ReaderGoneError:
        _drop_output()
        return 0
    except SpEdgeError as error:
        return _show(str(error), error.exit_code)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            try:
                sys.stdout.flush()
            except OSError:
                _drop_output()
            return _show(f"the disk is full: {error}", 1)
        return _show(str(error), 2 if error.errno in _GIVEN else 1)
    return code if isinstance(code, int) else 0


def _drop_output() -> None:
    """Lets go of what could not be written; Python would complain of it once more, with its own exit code, when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show(message: str, code: int) -> int:
    if _debug:
        traceback.print_exc()
    click.echo(f"error: {message}", err=True)
    return code


def unreadable(broken: dict[str, str], file: Path | str, error: ImageError) -> None:
    """Names a picture that cannot be read, and keeps why, so that the command can go on."""
    broken[str(file)] = error.got or error.what
    click.echo(f"cannot read {file}: {broken[str(file)]}", err=True)


def refuse_unreadable(broken: Mapping[str, str], done: str, *, of: int | None = None) -> None:
    """Ends a command that went on over pictures which cannot be read.

    Args:
        broken: picture -> why.
        done: what became of them.
        of: how many pictures there were.

    Raises:
        DataError: there is such a picture.
    """
    if broken:
        more = f" and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
        raise DataError(
            f"{len(broken)}{f' of {of}' if of else ''} pictures cannot be read, and {done}",
            expected="JPEG, PNG or other pictures",
            got=", ".join(list(broken)[:SHOWN]) + more,
            next_step="replace or remove them",
        )


@contextmanager
def _shown_log() -> Iterator[None]:
    handler = _Printer()
    before = {logger: logger.level for logger in map(logging.getLogger, _PACKAGES)}
    for logger in before:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in before.items():
            logger.setLevel(level)
            logger.removeHandler(handler)


class _Printer(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        mark = "warning: " if record.levelno >= logging.WARNING else ""
        click.echo(mark + record.getMessage(), err=True)


PATH = click.Path(path_type=Path)


def together(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """One decorator for several options, which help lists in this order."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def json_option(what: str) -> Callable[[Any], Any]:
    """The option with which a command that prints a table writes it as JSON, too."""
    return click.option("--json", "json_file", type=PATH, metavar="FILE", help=f"Write {what} to a JSON file, too.")


engines_option = click.option(
    "--engines",
    type=PATH,
    metavar="DIR",
    help="Find and keep TensorRT engines in this folder.  [default: ~/.cache/sp-edge/engines]",
)
# What every command that runs a bundle's graphs lets its user choose; `sp_edge_runtime.backends.devices` says what each is.
backend_options = together(
    click.option(
        "--device",
        default="auto",
        show_default=True,
        type=click.Choice(list(DEVICES)),
        help=f"Choose what runs the network. auto takes {DEVICES['auto']}; 0 is {DEVICES['0']}.",
    ),
    click.option(
        "--precision",
        type=click.Choice(list(PRECISIONS)),
        help="Choose the precision of the graphs. bf16 needs OpenVINO.  [default: the bundle's; on a CPU, fp32]",
    ),
    engines_option,
)
# How the commands that recognize decide.
deciding_options = together(
    click.option(
        "--threshold",
        type=click.FloatRange(-1, 1),
        help="Call a picture unknown below this cosine, -1 to 1.  [default: each class's own]",
    ),
    click.option(
        "--classifier",
        type=click.Choice(["prototype", "lr"]),
        default="prototype",
        show_default=True,
        help="Decide by the nearest prototype, or by logistic regression (lr) on the shots.",
    ),
)
bank_option = click.option(
    "--bank",
    "bank_file",
    type=PATH,
    metavar="FILE",
    help="Use this file of taught classes.  [default: classes.spbank beside the bundle]",
)


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
    """Takes the bundle off the front of the arguments, or finds the newest run's."""
    if arguments and means_bundle(arguments[0]):
        return arguments[0], arguments[1:]
    return runs.newest(runs.BUNDLE, BundleError), arguments


def bank_beside(bundle: Path) -> Path:
    """Where a bundle's bank is kept unless told otherwise; never inside the bundle, which an export replaces."""
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
