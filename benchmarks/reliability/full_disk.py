"""Runs commands on a disk that has room for less and less of what they write: a clear error, and earlier files whole.

    python benchmarks/reliability/full_disk.py --count 400

The disk is a small tmpfs, mounted in a namespace of its own (`unshare -rm`), so that no right is needed. Each command is run
with no free page, with one, and so on until it works; of commands that write much, in as many steps as --count has for each.
After one that failed

- the exit code is not 0, and the error says that the disk is full, or that there is no room, without a traceback;
- every file that was there before is as it was. JSON lines begin as before, and all are whole. A video may be a new one that
  plays up to there. A bank may be the new one where only the report had no room;
- nothing is left that was not there before, but for new JSON lines and undo files that hold a whole bank.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import shared
import toy
from killed import Training, picture
from shared import Ended, sp_edge
from sp_edge.bank.bank import Bank

PAGE = 4096
SIZE = 64 << 20
WORDS = ("disk is full", "No space left", "room", "not complete", "was not written")


@dataclass(frozen=True)
class Case:
    """A command on the small disk: the files that are there first, and which of them may grow by lines."""

    words: tuple[object, ...]
    files: dict[str, Path]
    lines: tuple[str, ...] = ()
    may_stay: tuple[str, ...] = field(default=())


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder, by its path there: a digest of its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def fill(disk: Path, free: int) -> None:
    """Leaves this many bytes free."""
    status = os.statvfs(disk)
    left = status.f_bavail * status.f_frsize - free
    with (disk / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(left, PAGE))


def verdict(case: Case, ended: Ended, disk: Path, before: dict[str, str], was: dict[str, bytes]) -> str:
    """What is wrong after a command that failed."""
    if "Traceback" in ended.said or ended.code not in (1, 2):
        return f"exit code {ended.code}: {ended.said[-400:]}"
    if not any(word in ended.said for word in WORDS):
        return f"the error does not say what is wrong: {ended.said[-400:]}"
    after = tree(disk)
    after.pop("filler", None)
    for name in case.lines:
        content = (disk / name).read_bytes() if name in after else b""
        if not content.startswith(was.get(name, b"")) or (content and not content.endswith(b"\n")) or b"\0" in content:
            return f"{name} was spoilt"
        [json.loads(line) for line in content.splitlines()]
    changed = [
        name
        for name, digest in before.items()
        if name not in case.lines and after.get(name) != digest and not _whole(disk / name, ended)
    ]
    if changed:
        return f"changed or gone: {changed}"
    for name in sorted(after.keys() - before.keys() - set(case.lines)):
        if ".undo/" in name:
            Bank.read(disk / name)
        elif not any(name.startswith(allowed) for allowed in case.may_stay):
            return f"left behind: {name}"
    return ""


def _whole(path: Path, ended: Ended) -> bool:
    """Whether a changed file is what was asked for: a video that plays up to there, a bank that was taught."""
    if path.suffix == ".mp4":
        import av

        with suppress(av.FFmpegError), av.open(str(path)) as video:  # the last packet may be cut: players pass it over
            return next(video.decode(video=0), None) is not None
        return False
    return path.suffix == ".spbank" and "taught" in ended.said and len(Bank.read(path).names) > 0


def cases(folder: Path, disk: Path) -> dict[str, Case]:
    """Every command of a device that writes, with what it needs."""
    bundle, other = (
        toy.make_bundle(folder / "one.spedge", text_encoder=True),
        toy.make_bundle(folder / "two.spedge", strength=0.5),
    )
    red, green, blue = (picture(folder / f"{name}.png", name, seed) for seed, name in enumerate(("red", "green", "blue")))
    for bank, name, shown in (("bank", "red", red), ("more", "blue", blue)):
        ended = shared.command(sp_edge("enroll", bundle, shown, "--name", name, "--bank", folder / f"{bank}.spbank"))
        assert ended.code == 0, ended.said
    ended = shared.command(sp_edge("enroll", bundle, green, "--name", "green", "--bank", folder / "bank.spbank"))
    assert ended.code == 0, ended.said
    shown = folder / "shown"
    shown.mkdir()
    for number in range(40):
        picture(shown / f"{number:02}.png", ("red", "green")[number % 2], number)
    shelf = folder / "shelf" / "orange"
    shelf.mkdir(parents=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(shelf / "1.png")
    lines = folder / "earlier.jsonl"
    lines.write_text("".join(json.dumps({"earlier": number, "text": "x" * 300}) + "\n" for number in range(20)))
    vectors = folder / "earlier.json"
    vectors.write_text(json.dumps({"earlier": True}))
    bank, here = {"b.spbank": folder / "bank.spbank"}, disk / "b.spbank"
    undo = {**bank, ".b.spbank.undo": folder / ".bank.spbank.undo"}
    shop = folder / "bank.spbank"
    report, video, lines_file = disk / "t.json", disk / "v.mp4", disk / "r.jsonl"
    with_report = {**bank, "t.json": vectors}
    from_shelf = ("enroll", bundle, "--from", folder / "shelf", "--bank", here, "--force", "--json", report)
    streamed = ("stream", bundle, shown, "--bank", shop, "--headless")
    grown: dict[str, Any] = {"files": {"r.jsonl": lines}, "lines": ("r.jsonl",)}
    return {
        "enroll": Case(("enroll", bundle, blue, "--name", "blue", "--bank", here), bank),
        "enroll a first class": Case(("enroll", bundle, blue, "--name", "blue", "--bank", here), {}),
        "enroll --from": Case(from_shelf, with_report),
        "enroll --not": Case(("enroll", bundle, blue, "--not", "red", "--bank", here), bank),
        "bank merge": Case(("bank", "merge", bundle, folder / "more.spbank", "--bank", here), bank),
        "bank set": Case(("bank", "set", bundle, "--name", "red", "--strength", "0.5", "--bank", here), bank),
        "bank remove": Case(("bank", "remove", bundle, "--name", "red", "--bank", here), bank),
        "bank undo": Case(("bank", "undo", bundle, "--bank", here), undo),
        "bank renew": Case(("bank", "renew", other, "--bank", here), bank),
        "bank list --json": Case(("bank", "list", bundle, "--bank", here, "--json", report), with_report),
        "bank export": Case(("bank", "export", bundle, disk / "page", "--bank", shop), {}),
        "prompts --out": Case(("prompts", "unicycle", "--like", bundle, "--out", disk / "n.safetensors"), {}),
        "classify --json": Case(("classify", bundle, shown, "--bank", shop, "--json", lines_file), **grown),
        "stream --json": Case((*streamed, "--json", lines_file), **grown),
        "stream --out": Case((*streamed, "--out", video), {"v.mp4": vectors}),
    }


def training_cases(folder: Path, disk: Path) -> dict[str, Case]:
    """The commands about training."""
    training = Training(folder)
    run = shared.command(sp_edge(*training.train))
    assert run.code == 0, run.said
    to = list(training.train)
    to[to.index("--out") + 1] = disk / "run"
    checkpoint = training.run / "checkpoint.safetensors"
    small = [word for name in ("tune.n_way", "tune.n_query", "eval.n_way", "eval.n_query") for word in ("--set", f"{name}=2")]
    check = ("data", "check", "--data", folder / "data", "--json", disk / "t.json", *small, "--set", "eval.n_shot=1")
    return {
        "data check --json": Case(check, {"t.json": folder / "earlier.json"}),
        "export": Case(
            ("export", checkpoint, "--out", disk / "m.spedge", "--with-text", "none", "--max-drop", 1),
            {"m.spedge": folder / "one.spedge"},
        ),
        "train": Case(tuple(to), {}, may_stay=("run/",)),
    }


def main() -> None:
    options = shared.arguments(__doc__, 400)
    if os.environ.get("SMALL_DISK") != "mounted":
        os.environ["SMALL_DISK"] = "mounted"
        raise SystemExit(subprocess.call(["unshare", "-rm", sys.executable, __file__, *sys.argv[1:]]))
    warnings.simplefilter("ignore")
    logging.disable()
    needs_training = not options.only or bool(set(options.only) & {"data check --json", "export", "train"})
    shared.import_what_forks_need(training=needs_training)
    with tempfile.TemporaryDirectory() as name:
        folder, disk = Path(name), Path(name) / "disk"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(disk)], check=True)
        every, tried = [], 0
        known = cases(folder, disk) | (training_cases(folder, disk) if needs_training else {})
        for what, case in known.items():
            if options.only and what not in options.only:
                continue
            wrong, count = _steps(case, disk, max(3, options.count // len(known)))
            every += [f"{what}: {line}" for line in wrong]
            tried += count
            shared.row(what, count, wrong)
        shared.row("all", tried, every)
        subprocess.run(["umount", str(disk)], check=True)


def _steps(case: Case, disk: Path, most: int) -> tuple[list[str], int]:
    """Runs a command with more and more room until it works; what was wrong, and how often it was run."""

    def restore() -> tuple[dict[str, str], dict[str, bytes]]:
        for path in disk.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for place, source in case.files.items():
            shutil.copytree(source, disk / place) if source.is_dir() else shutil.copy(source, disk / place)
        return tree(disk), {name: (disk / name).read_bytes() for name in case.lines if (disk / name).exists()}

    def used() -> int:
        status = os.statvfs(disk)
        return (status.f_blocks - status.f_bfree) * status.f_frsize

    restore()
    before = used()
    ended = shared.command(sp_edge(*case.words))
    assert ended.code == 0, f"with room: {ended.said}"
    needed = 2 * max(used() - before, PAGE) + (1 << 20 if case.may_stay else 64 << 10)
    step = max(PAGE, needed // most // PAGE * PAGE)
    wrong, count = [], 0
    for free in range(0, needed, step):
        digests, was = restore()
        fill(disk, free)
        ended = shared.command(sp_edge(*case.words))
        count += 1
        if ended.code == 0:
            break
        (disk / "filler").unlink()
        if said := verdict(case, ended, disk, digests, was):
            wrong.append(f"{free:,} bytes free: {said}")
    return wrong, count


if __name__ == "__main__":
    main()
