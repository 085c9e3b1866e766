"""`--json -`: the JSON alone on standard output, whatever the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
from PIL import Image

import toy
from command_line import commands
from sp_edge.cli import cli

Call = Callable[..., tuple[int, str, str]]


def walked(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in commands(group).items():
        if isinstance(command, click.Group):
            yield from walked(command, (*path, name))
        else:
            yield (*path, name), command


def test_every_command_takes_a_dash_for_standard_output() -> None:
    found = {
        path: option.help or ""
        for path, command in walked(cli)
        for option in command.params
        if isinstance(option, click.Option) and "--json" in option.opts
    }
    assert {("bank", "list"), ("bank", "check"), ("enroll",), ("classify",), ("stream",), ("doctor",)} <= set(found)
    assert all("'-'" in said for said in found.values()), "else a file called '-' would be written"


def test_json_on_standard_output_is_utf_8_and_all_that_is_there(place: Path, call: Call, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    Image.fromarray(np.asarray(toy.picture("red"))).save(picture)
    name = "赤い 自転車"
    assert call("enroll", "--name", name, picture)[0] == 0
    Image.fromarray(toy.picture("red", seed=1)).save(picture)
    for command in (["bank", "list"], ["bank", "check"], ["enroll", "--name", "red", "--force", str(picture)]):
        ran = subprocess.run(
            [sys.executable, "-m", "sp_edge", *command, "--json", "-"],
            capture_output=True,
            check=True,
            cwd=place,
            env=os.environ | {"PYTHONIOENCODING": "latin-1"},
        )
        read = json.loads(ran.stdout.decode("utf-8"))
        assert read
        assert ran.stderr, "what the command says otherwise"
        if command == ["bank", "list"]:
            assert [entry["name"] for entry in read["classes"]] == [name]
    assert not (place / "-").exists()
