"""The commands that README.md and docs/ show exist, and take the options that they are shown with."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from sp_edge.cli import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "docs" / "sp-edge-stream.service"]


def calls() -> dict[str, tuple[list[str], bool]]:
    """Page and command line -> its words after sp-edge, and whether it is one to type: from a block, or from a sentence."""
    found = {}
    for page in PAGES:
        text = page.read_text("utf-8").replace("\\\n", " ")
        blocks = re.findall(r"```(?:sh)?\n(.*?)```", text, flags=re.DOTALL) + re.findall(r"^ExecStart=.*$", text, re.MULTILINE)
        typed = [line for block in blocks for line in block.splitlines()] + re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE)
        said = [re.sub(r"\s+", " ", span) for span in re.findall(r"`((?:sp-edge|torchrun) [^`]+)`", text)]
        for line in typed + said:
            match = re.match(r"(?:.*[ /=])?(?:sp-edge|-m sp_edge) (.*)", line.partition(" | ")[0].partition("  #")[0])
            if match and not re.match(r"(pip|from|import|sudo (mkdir|cp|chown|useradd)) ", line):
                found[f"{page.name}: {line.strip()}"] = (shlex.split(match[1], comments=True), line in typed)
    return found


CALLS = calls()


@pytest.mark.parametrize("line", CALLS)
def test_a_command_of_the_pages_exists(line: str) -> None:
    (words, typed), command = CALLS[line], cli
    words = list(words)
    while isinstance(command, click.Group) and words[0] in command.commands:
        command = command.commands[words.pop(0)]
        if not words:
            return
    if isinstance(command, click.Group):
        assert words == ["COMMAND", "--help"], f"no command {words[0]}"
    elif typed:
        command.make_context("sp-edge", words)
    else:
        known = {name for option in command.params for name in option.opts}
        assert {word for word in words if word.startswith("--")} <= known


def test_the_pages_have_their_commands() -> None:
    shown = {" ".join(words[:2]) if words[0] in ("bank", "data") else words[0] for words, _ in CALLS.values()}
    assert shown >= {"train", "eval", "export", "enroll", "bank check", "bank test", "classify", "stream", "doctor", "verify"}
    assert shown >= {"data check", "prompts", "calibrate", "import", "ablate"}
