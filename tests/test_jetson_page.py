"""The commands of docs/jetson.md exist as they stand there, and systemd understands the unit."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from sp_edge.cli import cli

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "jetson.md").read_text("utf-8")
UNIT = DOCS / "sp-edge-stream.service"


def commands() -> list[list[str]]:
    """What follows the name of sp-edge, wherever the page or the unit calls it."""
    lines = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL) for line in block.splitlines()]
    lines += re.findall(r"`(sp-edge [^`]+)`", PAGE) + re.findall(r"^ExecStart=(.*)$", UNIT.read_text("utf-8"), re.MULTILINE)
    calls = []
    for line in lines:
        words = shlex.split(line, comments=True)
        starts = [i for i, word in enumerate(words[:-1]) if re.search(r"(^|/bin/)sp-edge$", word)]
        if starts and words[0] != "pip":
            calls.append(words[starts[-1] + 1 :])
    return calls


@pytest.mark.parametrize("call", commands(), ids=" ".join)
def test_a_command_of_the_page_exists(call: list[str]) -> None:
    name, *arguments = call
    command = cli.commands[name]
    command.make_parser(click.Context(command)).parse_args(list(arguments))


def test_the_page_has_its_commands() -> None:
    assert {call[0] for call in commands()} >= {"doctor", "verify", "export", "enroll", "stream"}


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze (apt: systemd)")
    unit = tmp_path / UNIT.name
    text = UNIT.read_text("utf-8")
    assert "/opt/sp-edge/.venv/bin/sp-edge" in text
    assert "python3 -m venv --system-site-packages /opt/sp-edge/.venv" in PAGE
    unit.write_text(text.replace("/opt/sp-edge/.venv/bin/sp-edge", "/bin/true"))
    ran = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)  # noqa: S607
    said = [line for line in ran.stderr.splitlines() if UNIT.name in line]
    assert (ran.returncode, said) == (0, []), ran.stderr
