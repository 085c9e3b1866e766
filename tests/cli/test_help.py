"""The command line answers, and runs a bundle, where none of training's packages is installed."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from command_line import commands
from sp_edge.cli import cli
from without_training import BLOCK

PROGRAM = (
    BLOCK
    + """
import json
from sp_edge.cli import cli
from sp_edge.cli.common import run
heavy = {"numpy", "onnxruntime", "PIL", "cv2", "safetensors"} & set(sys.modules)
assert not heavy, f"{heavy} are imported before a command runs"
for arguments in json.loads(sys.argv[1]):
    print(">", *arguments, flush=True)
    print("<", run(cli, arguments), flush=True)
"""
)


def blocked(*arguments: list[str], cwd: Path, errors: bool = False) -> list[tuple[str, str, int]]:
    """Runs command lines one after another in one process: what was typed, said (with errors if asked for), returned."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, json.dumps(arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if errors else subprocess.PIPE,
        text=True,
        check=False,
        cwd=cwd,
    )
    assert ran.returncode == 0, ran.stderr
    answers = []
    for answer in ran.stdout.split("> ")[1:]:
        typed, _, rest = answer.partition("\n")
        said, _, code = rest.rpartition("< ")
        answers.append((typed, said, int(code)))
    assert len(answers) == len(arguments)
    return answers


def test_a_command_is_alone() -> None:
    program = """
import sys
from sp_edge.cli import cli
assert cli.main(["classify", "--help"], standalone_mode=False) == 0
others = [name for name in sys.modules if name in {"sp_edge.cli.train", "sp_edge.cli.stream", "sp_edge.cli.bank"}]
assert not others, f"{others} are imported for nothing"
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_every_command_explains_itself(tmp_path: Path) -> None:
    names = [[name] for name in commands(cli)] + [["bank", name] for name in ("list", "remove")]
    names += [["data", name] for name in ("list", "check")]
    assert len(names) >= 12
    for typed, said, code in blocked(["--help"], ["-h"], *([*name, "--help"] for name in names), cwd=tmp_path):
        assert code == 0, typed
        assert said.startswith("Usage: sp-edge"), typed
        assert "Options:" in said
        assert "--debug" in said or typed in ("--help", "-h", "bank --help", "data --help")
    assert not list(tmp_path.iterdir())


def test_commands_stand_in_the_order_of_work(tmp_path: Path) -> None:
    ((_, said, _),) = blocked(["--help"], cwd=tmp_path)
    places = [said.index(f"\n  {name} ") for name in ("data", "train", "eval", "export", "enroll", "classify", "stream")]
    assert places == sorted(places)


def test_teaching_and_recognizing_need_no_torch(toy_bundle: Path, toy_pictures: Path, tmp_path: Path) -> None:
    bank = ["--bank", "classes.spbank"]
    (tmp_path / "labelled" / "red").mkdir(parents=True)
    shutil.copy(toy_pictures / "0 red.png", tmp_path / "labelled" / "red")
    answers = blocked(
        ["enroll", str(toy_bundle), str(toy_pictures / "0 red.png"), "--name", "red", *bank],
        ["enroll", str(toy_bundle), str(toy_pictures / "2 blue.png"), "--name", "blue", *bank],
        ["classify", str(toy_bundle), str(toy_pictures), "--json", "-", *bank],
        ["stream", str(toy_bundle), str(toy_pictures), "--json", "frames.jsonl", *bank],
        ["bank", "list", str(toy_bundle), *bank],
        ["bank", "test", str(toy_bundle), "labelled", *bank],
        ["verify", str(toy_bundle)],
        cwd=tmp_path,
    )
    assert [code for _, _, code in answers] == [0] * 7
    assert [json.loads(line)["topk"][0]["name"] for line in answers[2][1].splitlines()][::2] == ["red", "blue"]
    assert len((tmp_path / "frames.jsonl").read_text("utf-8").splitlines()) == 3
    assert "2 classes, 2 shots" in answers[4][1]
    assert "1 of 1 pictures of taught classes" in answers[5][1]


def test_looking_at_pictures_needs_no_torch(toy_pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(toy_pictures, tmp_path / "data" / "train" / "red")
    needs = ["--set", "tune.n_way=2", "--set", "tune.n_query=2"]
    answers = blocked(["data", "list"], ["data", "check", "--data", "data", *needs], cwd=tmp_path, errors=True)
    assert [code for _, _, code in answers] == [0, 2]
    assert "train: 1 class, and an episode takes 2" in answers[1][1]


def test_commands_that_need_torch_say_what_to_install(toy_bundle: Path, toy_pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(toy_pictures, tmp_path / "data" / "train" / "red")
    (tmp_path / "checkpoint.safetensors").touch()
    lines = [
        ["eval", "."],
        ["export", "."],
        ["prompts", "--like", "."],
        ["train", "--data", "data"],
        ["ablate"],
        ["demo"],
        ["import", "a.pth", "--data", "data"],
    ]
    for typed, said, code in blocked(*lines, cwd=tmp_path, errors=True):
        assert code == 2, said
        assert f"error: 'sp-edge {typed.split()[0]}' cannot run here\n  expected: the package " in said
        assert "next: pip install 'sp-edge[train]'" in said
        assert "Traceback" not in said


def every(group: click.Group) -> Iterator[click.Command]:
    for command in commands(group).values():
        yield from every(command) if isinstance(command, click.Group) else [command]


def test_every_option_says_what_it_is_for_and_one_of_a_name_says_it_in_the_same_words() -> None:
    said: dict[str, set[str]] = {}
    for command in every(cli):
        for option in command.params:
            if isinstance(option, click.Option):
                words = option.help or ""
                assert words, f"{command.name} {option.opts[0]}"
                assert ". [" not in words, f"{command.name} {option.opts[0]}: two blanks stand before a default"
                said.setdefault(option.opts[0], set()).add(words.replace(" (engine, triton)", "").lower())
    assert said.keys() >= {"--bank", "--engines", "--json", "--device"}
    assert len(said["--engines"]) == 1
    for option in ("--bank", "--device"):
        assert len(said[option]) == 2, said[option]  # of recognition, and of training or export
    assert all("file" in words for words in said["--json"] if "'-'" not in words)


def test_what_a_command_does_fits_into_its_line(tmp_path: Path) -> None:
    for _, said, _ in blocked(["--help"], ["bank", "--help"], ["data", "--help"], cwd=tmp_path):
        assert "..." not in said.partition("Commands:")[2]


def test_examples_are_command_lines() -> None:
    lines = [line for command in [cli, *every(cli)] for line in (command.help or "").splitlines() if "  sp-edge " in line]
    assert len(lines) > 20
    for line in lines:
        command: click.Command = cli
        words = shlex.split(re.sub(r"(\S) {2,}\S.*", r"\1", line.strip()))[1:]  # what follows two blanks explains it
        while isinstance(command, click.Group):
            command = commands(command)[words.pop(0)]
        command.make_context("sp-edge", words)
