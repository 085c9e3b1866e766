"""Finds and makes the folders in `runs/`, so that each command can go on from the newest run."""

from __future__ import annotations

import re
from pathlib import Path

from sp_edge.errors import InputError

ROOT = Path("runs")
CHECKPOINT = "checkpoint.safetensors"
PRETRAINED = "pretrained.safetensors"
SETTINGS = "settings.json"
EVALUATION = "evaluation.json"
BUNDLE = "model.spedge"
BANK = "classes.spbank"


def new_run(root: Path = ROOT) -> Path:
    """Makes the next numbered folder: `runs/1`, `runs/2`, ... Safe when two commands start at once."""
    root.mkdir(parents=True, exist_ok=True)
    number = max(_numbers(root), default=0) + 1
    while True:
        folder = root / str(number)
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def has(part: str, root: Path = ROOT) -> bool:
    """Whether some run has `part`."""
    return any((root / str(number) / part).exists() for number in _numbers(root))


def newest(part: str, error: type[InputError], root: Path = ROOT) -> Path:
    """The path of `part` in the newest run that has it.

    Raises:
        error: no run has it.
    """
    for number in sorted(_numbers(root), reverse=True):
        if (root / str(number) / part).exists():
            return root / str(number) / part
    maker = {CHECKPOINT: "sp-edge train", BUNDLE: "sp-edge export"}.get(part, "sp-edge enroll")
    raise error(f"no {part} in {root}/", expected="an earlier run, or the path as an argument", next_step=maker)


def _numbers(root: Path) -> list[int]:
    if not root.is_dir():
        return []
    return [int(entry.name) for entry in root.iterdir() if entry.is_dir() and re.fullmatch(r"[1-9]\d{0,8}", entry.name)]
