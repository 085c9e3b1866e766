"""How every command runs: what it shows of logs and errors, and its exit code."""

from __future__ import annotations

import errno
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from sp_edge.columns import counted, shortened
from sp_edge.errors import DataError, ImageError, MissingExtraError, SpEdgeError

_EXTRAS = dict.fromkeys(
    ("torch", "torchvision", "timm", "accelerate", "matplotlib", "sklearn", "tensorboard", "easyfsl", "sentence_transformers"),
    "train",
)
_EXTRAS |= dict.fromkeys(("onnx", "onnxscript"), "export") | {"cv2": "camera"}
_EXTRAS |= dict.fromkeys(("fastapi", "uvicorn", "starlette", "pydantic", "python_multipart"), "web")
EXPLAIN = "sp_edge.explain"  # in a context's `meta`: whether engines tell what they were chosen by
_ENGINES = "sp_edge_runtime.backends"
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
            self.epilog = (
                "BUNDLE is a folder that `sp-edge export` or `sp-edge ready` wrote, such as model.spedge.  "
                "[default: the newest run's, or without a run the ready-made model, which is made once]"
            )
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
            with _shown_log(explain=ctx.meta.get(EXPLAIN, False)):
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
    errno.ELOOP,
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
        raise DataError(
            f"{f'{len(broken)} of ' if of else ''}{counted(of or len(broken), 'picture')} cannot be read, and {done}",
            expected="JPEG, PNG or other pictures",
            got=shortened(broken, SHOWN),
            next_step="replace or remove them",
        )


@contextmanager
def _shown_log(*, explain: bool) -> Iterator[None]:
    handler = _Printer()
    levels = dict.fromkeys(_PACKAGES, logging.INFO) | ({_ENGINES: logging.DEBUG} if explain else {})
    before = {logger: logger.level for logger in map(logging.getLogger, levels)}
    for logger in before:
        logger.setLevel(levels[logger.name])
    for name in _PACKAGES:
        logging.getLogger(name).addHandler(handler)
    try:
        yield
    finally:
        handler.end()
        for logger, level in before.items():
            logger.setLevel(level)
            logger.removeHandler(handler)


class _Printer(logging.Handler):
    """Shows records; of a folder whose pictures all have something to tell, the first ones."""

    def __init__(self) -> None:
        super().__init__()
        self._of_pictures = 0

    def emit(self, record: logging.LogRecord) -> None:
        self._of_pictures += (told := record.name == "sp_edge.pictures")
        if told and self._of_pictures > SHOWN:
            return
        mark = "warning: " if record.levelno >= logging.WARNING else ""
        click.echo(mark + record.getMessage(), err=True)

    def end(self) -> None:
        """Says how many were not shown."""
        if self._of_pictures > SHOWN:
            click.echo(f"warning: {self._of_pictures - SHOWN} more warnings about pictures", err=True)
