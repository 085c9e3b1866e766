from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from sp_edge.cli import cli
from sp_edge.cli.common import Command, run
from sp_edge.columns import table
from sp_edge.errors import BackendError, SettingsError

Raiser = Callable[[BaseException], click.Group]


@pytest.fixture
def raising() -> Raiser:
    """`raising(error)` is a group whose command `go` raises it."""

    def group_of(error: BaseException) -> click.Group:
        group = click.Group()

        @group.command(cls=Command)
        def go() -> None:
            raise error

        return group

    return group_of


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (
            SettingsError("bad value", expected="1", got="2", next_step="try 1"),
            2,
            "error: bad value\n  expected: 1\n  got: 2\n  next: try 1\n",
        ),
        (BackendError("engine failed"), 1, "error: engine failed\n"),
        (OSError(errno.ENOSPC, "No space left on device", "a.json"), 1, "error: the disk is full: [Errno 28]"),
        (PermissionError(errno.EACCES, "Permission denied", "a.json"), 2, "Permission denied: 'a.json'"),
        (OSError(errno.EROFS, "Read-only file system"), 2, "Read-only file system"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a"), 2, "Not a directory: 'a'"),
        (OSError(errno.ELOOP, "Too many levels of symbolic links", "a"), 2, "Too many levels of symbolic links: 'a'"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "a"), 2, "Is a directory: 'a'"),
        (OSError(errno.ENAMETOOLONG, "File name too long"), 2, "File name too long"),
        (click.UsageError("no such thing"), 2, "no such thing"),
        (KeyboardInterrupt(), 130, "stopped\n"),
    ],
)
def test_errors_are_messages_and_exit_codes(
    raising: Raiser, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, words: str
) -> None:
    assert run(raising(error), ["go"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert "Traceback" not in err


def test_debug_shows_where_and_only_then(raising: Raiser, capsys: pytest.CaptureFixture[str]) -> None:
    group = raising(SettingsError("bad value"))
    assert run(group, ["go", "--debug"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "in go" in err
    assert err.endswith("error: bad value\n")
    assert run(group, ["go"]) == 2
    assert "Traceback" not in capsys.readouterr().err, "one command's --debug is not the next one's"


def test_what_our_packages_log_is_shown_on_stderr_while_a_command_runs(capsys: pytest.CaptureFixture[str]) -> None:
    group = click.Group()

    @group.command(cls=Command)
    def go() -> None:
        for name in ("sp_edge.any", "sp_edge_export.any", "sp_edge_runtime.any", "sp_edge_calibration.any"):
            logging.getLogger(name).info(f"{name} goes on")
            logging.getLogger(name).warning(f"{name} wonders")
        logging.getLogger("of.others").warning("chatter")
        click.echo("a result")

    for _ in range(2):  # once each, whatever ran before
        assert run(group, ["go"]) == 0
        out, err = capsys.readouterr()
        assert out == "a result\n"
        assert err.splitlines()[:2] == ["sp_edge.any goes on", "warning: sp_edge.any wonders"]
        assert len(err.splitlines()) == 8
    logging.getLogger("sp_edge.any").info("after it")
    assert capsys.readouterr().err == ""


def test_a_fault_of_ours_is_not_hidden(raising: Raiser) -> None:
    with pytest.raises(ZeroDivisionError):
        run(raising(ZeroDivisionError()), ["go"])


def test_success_is_zero(capsys: pytest.CaptureFixture[str]) -> None:
    group = click.Group()

    @group.command(cls=Command)
    def go() -> str:
        click.echo("done")
        return "a value that is no exit code"

    assert run(group, ["go"]) == 0
    assert run(cli, ["--version"]) == 0
    assert "sp-edge, version" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["clasify"], "No such command 'clasify'"),
        (["train", "--no-such"], "--no-such"),
        (["bank", "set"], "--name"),
        (["stream", "x", "--max-frames", "none"], "--max-frames"),
        (["classify", "x", "--threshold", "2"], "--threshold"),
        (["export", "--precision", "fp8"], "fp8"),
    ],
)
def test_what_cannot_be_parsed_is_the_users(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    assert run(cli, arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert "Usage: sp-edge" in err


def test_tables_align(capsys: pytest.CaptureFixture[str]) -> None:
    assert table(["class", "shots"], [("a", 1), ("longer", 10)]).splitlines() == [
        "class   shots",
        "------  -----",
        "a           1",
        "longer     10",
    ]
    assert table(["class", "shots", "said"], [("a", 1, "some words"), ("b", 10, "none")], text=["said"]).splitlines() == [
        "class  shots  said",
        "-----  -----  ----------",
        "a          1  some words",
        "b         10  none",
    ]


# --- as a process ---

COMMAND = [sys.executable, "-W", "error", "-c", "from sp_edge.cli import main; main()"]
MANY = """
import click, sys
from sp_edge.cli.common import Command, run
group = click.Group()
@group.command(cls=Command)
def go():
    for _ in range(100_000):
        click.echo("a line of output")
sys.exit(run(group, ["go"]))
"""


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices")
def test_a_reader_that_leaves_is_no_error() -> None:
    with subprocess.Popen([sys.executable, "-c", MANY], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "a line of output\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_behind_the_output() -> None:
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run([sys.executable, "-c", MANY], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: the disk is full")
    assert len(ran.stderr.splitlines()) == 1


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="no folder that not even root may write to")
def test_a_folder_that_may_not_be_written(toy_bundle: Path, toy_pictures: Path) -> None:
    arguments = ["enroll", str(toy_bundle), str(toy_pictures), "--name", "red", "--bank", "/sys/kernel/b.spbank"]
    ran = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stderr.splitlines()[-1].startswith("error: [Errno ")
    assert "Traceback" not in ran.stderr


def test_an_unknown_command_as_a_process() -> None:
    ran = subprocess.run([*COMMAND, "recognize"], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "No such command 'recognize'" in ran.stderr


def test_a_folder_of_odd_pictures_does_not_fill_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    group = click.Group()

    @group.command(cls=Command)
    def go() -> None:
        for number in range(25):
            logging.getLogger("sp_edge.pictures").warning(f"{number}.tiff: odd")
        logging.getLogger("sp_edge.bank").warning("something else")

    assert run(group, ["go"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[9:] == ["warning: 9.tiff: odd", "warning: something else", "warning: 15 more warnings about pictures"]
