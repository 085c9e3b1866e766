"""Kills commands with SIGKILL at random moments: nothing that was acknowledged is lost, and nothing is half-written.

    python benchmarks/reliability/killed.py --count 200

Each case starts from the same files, runs the command in a fork of this process, and kills it at a moment that is drawn evenly
from the time that the command takes. Then

- a bank must be the one before or the one after, and the one after where the command had said so; teaching goes on, and hidden
  files that the killed one left are gone afterwards;
- a bundle's folder must hold the earlier bundle or the new one, whole;
- a training run must have whole files only, and --resume must bring it to its end;
- of a stream, FILE must hold whole lines, among them every frame that the broker had passed on; the broker must say that the
  publisher is offline, and no process may be left.
"""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import shared
import toy
from shared import Ended, sp_edge
from sp_edge.bank.bank import Bank
from sp_edge.bank.file import digest
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import SpEdgeError

SHARES = {"enroll": 0.3, "bank merge": 0.25, "bank renew": 0.2, "stream": 0.15, "train": 0.06, "export": 0.04}


@dataclass(frozen=True)
class Case:
    """What is killed.

    Attributes:
        work: the command.
        restore: brings the files back to where they were.
        wrong: what is wrong afterwards, in words; empty where nothing is.
    """

    work: Callable[[], int]
    restore: Callable[[], None]
    wrong: Callable[[Ended], str]


def picture(path: Path, name: str, seed: int) -> Path:
    Image.fromarray(toy.picture(name, side=40, seed=seed)).save(path)
    return path


def hidden(folder: Path) -> list[str]:
    """Names that writers use while they write, outside of what is kept for undo."""
    return sorted(path.name for path in folder.rglob(".*") if not path.name.endswith(".undo"))


class Banks:
    """The commands that change a bank."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bundle = toy.make_bundle(folder / "one.spedge")
        self.other = toy.make_bundle(folder / "two.spedge", strength=0.5)
        self.good = folder / "good"
        self.good.mkdir()
        for number, name in enumerate(("red", "green", "blue")):
            picture(folder / f"{name}.png", name, number)
        for bank, name in (("bank", "red"), ("more", "blue")):
            self._works(
                sp_edge("enroll", self.bundle, folder / f"{name}.png", "--name", name, "--bank", self.good / f"{bank}.spbank")
            )
        self.place = folder / "place"
        self.bank = self.place / "bank.spbank"

    def cases(self) -> dict[str, Case]:
        teach = ("enroll", self.bundle, self.folder / "green.png", "--name", "green", "--bank", self.bank)
        merge = ("bank", "merge", self.bundle, self.good / "more.spbank", "--bank", self.bank)
        renew = ("bank", "renew", self.other, "--bank", self.bank)
        return {
            "enroll": self._case(teach, self.bundle, "taught 'green'"),
            "bank merge": self._case(merge, self.bundle, "bank: "),
            "bank renew": self._case(renew, self.other, "bank: "),
        }

    def _case(self, words: tuple[object, ...], bundle: Path, said: str) -> Case:
        self.restore()
        before = digest(Bank.read(self.bank))
        self._works(sp_edge(*words))
        after = digest(Bank.read(self.bank))

        def wrong(ended: Ended) -> str:
            found = digest(Bank.read(self.bank))
            if found not in (before, after):
                return "the bank is neither the one before nor the one after"
            if said in ended.said and found != after:
                return "what was acknowledged is not in the bank"
            more = ("--name", "x", "--prompts", self._names(), "--bank", self.bank, "--force")
            again = shared.command(sp_edge("enroll", bundle, self.folder / "green.png", *more))
            if found == after or bundle == self.bundle:
                if again.code != 0:
                    return f"teaching does not go on: {again.said[-300:]}"
                if left := hidden(self.place):
                    return f"left behind: {left}"
            return ""

        return Case(sp_edge(*words), self.restore, wrong)

    def restore(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.copytree(self.good, self.place)

    def _names(self) -> Path:
        path = self.folder / "names.safetensors"
        if not path.exists():
            from sp_edge.prompts.table import PromptTable

            PromptTable(toy.TEXT, ("x",), toy.prompts().select(("red",))).save(path)
        return path

    def _works(self, work: Callable[[], int]) -> None:
        ended = shared.command(work)
        assert ended.code == 0, ended.said


class Training:
    """Training and export, of the smallest network on a data set of some colors."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = {"train": ("ant", "bee", "cat", "dog"), "val": ("gnu", "hen"), "test": ("ibis", "jay", "koi")}
        for split, classes in names.items():
            for name in classes:
                rng = np.random.default_rng(list(name.encode()))
                color = rng.integers(40, 216, 3)
                (folder / "data" / split / name).mkdir(parents=True)
                for number in range(5):
                    pixels = np.clip(color + rng.integers(-40, 41, (64, 64, 3)), 0, 255).astype(np.uint8)
                    Image.fromarray(pixels).save(folder / "data" / split / name / f"{number}.png")
        vectors = {name: np.random.default_rng(len(name)).normal(size=8) for several in names.values() for name in several}
        np.savez(folder / "vectors.npz", **{name: vector + n for n, (name, vector) in enumerate(vectors.items())})
        settings = {
            "data.resize_ratio": 1.0, "model.backbone": "visformer_mini", "model.image_size": 64, "model.layer": "3-1",
            "pretrain.steps": 8, "pretrain.batch_size": 6, "tune.steps": 8, "tune.n_way": 3, "tune.n_query": 2,
            "precision": "fp32", "text.encoder": "file", "text.path": folder / "vectors.npz",
            "data.cache": folder / "prepared", "eval.n_way": 2, "eval.n_query": 2, "eval.n_shot": 1,
        }  # fmt: skip
        words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        self.run = folder / "run"
        self.train = ("train", "--data", folder / "data", "--out", self.run, "--device", "cpu", *words)
        self.out = folder / "model.spedge"

    def cases(self) -> dict[str, Case]:
        first = shared.command(sp_edge(*self.train))
        assert first.code == 0, first.said
        checkpoint = shutil.copy(self.run / "checkpoint.safetensors", self.folder / "checkpoint.safetensors")
        export = sp_edge("export", checkpoint, "--out", self.out, "--with-text", "none", "--max-drop", 1)
        first = shared.command(export)
        assert first.code == 0, first.said
        before = Bundle.load(self.out).fingerprint

        def no_run() -> None:
            shutil.rmtree(self.run, ignore_errors=True)

        def trained(_: Ended) -> str:
            if not (self.run / "settings.json").exists():
                return "" if not self.run.exists() or not list(self.run.glob("*.safetensors")) else "a run without settings"
            ended = shared.command(sp_edge("train", "--resume", self.run, "--device", "cpu"))
            if ended.code != 0 or not (self.run / "checkpoint.safetensors").exists():
                return f"it is not resumed: {ended.said[-300:]}"
            return ""

        def exported(_: Ended) -> str:
            try:
                found = Bundle.load(self.out)
            except SpEdgeError as error:
                return str(error)
            return "" if found.fingerprint == before else "another bundle"

        return {
            "train": Case(sp_edge(*self.train), no_run, trained),
            "export": Case(export, lambda: None, exported),
        }


class Streaming:
    """A stream with JSON lines and a real broker, mosquitto."""

    def __init__(self, folder: Path, banks: Banks) -> None:
        from paho.mqtt import client, enums

        self.folder = folder
        self.file = folder / "results.jsonl"
        self.lines: list[dict[str, object]] = []
        self.status = threading.Event()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.broker = subprocess.Popen(["mosquitto", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1)
        self.listener = client.Client(enums.CallbackAPIVersion.VERSION2)
        self.listener.on_message = self._heard
        self.listener.connect("127.0.0.1", port)
        self.listener.subscribe("kill/#", qos=1)
        self.listener.loop_start()
        to = ("--json", self.file, "--mqtt", f"mqtt://127.0.0.1:{port}/kill", "--headless", "--max-frames", 60)
        self.words = ("stream", banks.bundle, "test://", "--bank", banks.good / "bank.spbank", *to)

    def _heard(self, _client: object, _data: object, message: object) -> None:
        topic, content = message.topic, message.payload  # type: ignore[attr-defined]
        if topic.endswith("/status"):
            (self.status.set if content == b"offline" else self.status.clear)()
            self.online = self.online or content == b"online"
        else:
            self.lines.append(json.loads(content))

    def cases(self) -> dict[str, Case]:
        return {"stream": Case(sp_edge(*self.words), self._restore, self._wrong)}

    def _restore(self) -> None:
        self.file.unlink(missing_ok=True)
        self.lines.clear()
        self.status.clear()
        self.online = False

    def _wrong(self, _: Ended) -> str:
        time.sleep(0.3)
        if self.online and not self.status.wait(10):
            return "the broker does not say that it is offline"
        content = self.file.read_bytes() if self.file.exists() else b""
        if content and not content.endswith(b"\n"):
            return "FILE ends in half a line"
        written = [json.loads(line) for line in content.splitlines()]
        frames = {line["frame_id"] for line in written if "event" not in line}
        lost = [line["frame_id"] for line in self.lines if "event" not in line and line["frame_id"] not in frames]
        if lost:
            return f"frames that were published are not in FILE: {lost}"
        patience = time.monotonic() + 5  # a process that is about to begin ends as soon as it looks for its request
        while (left := self._left()) and time.monotonic() < patience:
            time.sleep(0.1)
        return f"processes are left: {left}" if left else ""

    def _left(self) -> list[str]:
        """Captures of ours whose parent is gone."""
        found = subprocess.run(["pgrep", "-f", "sp_edge_runtime.sources.capture"], capture_output=True, text=True, check=False)
        return [pid for pid in found.stdout.split() if _parent(int(pid)) == 1 and _began_here(int(pid), self.folder)]

    def close(self) -> None:
        self.listener.loop_stop()
        self.listener.disconnect()
        self.broker.terminate()
        self.broker.wait()


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _began_here(pid: int, folder: Path) -> bool:
    try:
        return f"RELIABILITY={folder}" in Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False


def _takes(case: Case) -> float:
    """How long a command takes, seconds; of a quick one the shortest of five times, as the first has more to load."""
    took = []
    for _ in range(5):
        case.restore()
        took.append(shared.command(case.work).seconds)
        if took[0] > 5:
            break
    return min(took)


def main() -> None:
    options = shared.arguments(__doc__, 200)
    chance = random.Random(options.seed)
    warnings.simplefilter("ignore")
    logging.disable()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["RELIABILITY"] = str(folder)
        wanted = set(options.only or SHARES)
        shared.import_what_forks_need(training=bool(wanted & {"train", "export"}))
        banks = Banks(folder)
        cases = banks.cases() | (Training(folder).cases() if wanted & {"train", "export"} else {})
        streaming = Streaming(folder, banks) if "stream" in wanted and shutil.which("mosquitto") else None
        cases |= streaming.cases() if streaming else {}
        wrong_in_all, tried = [], 0
        for what, case in cases.items():
            if what not in wanted:
                continue
            takes = _takes(case)
            wrong, ended_before = [], 0
            count = max(1, round(options.count * SHARES[what] / sum(SHARES[one] for one in wanted)))
            for _ in range(count):
                case.restore()
                after = chance.uniform(0, 1.05 * takes)
                ended = shared.command(case.work, kill_after=after)
                ended_before += ended.code != -9
                if said := case.wrong(ended):
                    wrong.append(f"{what}, killed after {after:.3f} of {takes:.3f} s: {said}")
            tried += count
            wrong_in_all += wrong
            shared.row(what, count, wrong, f"takes {takes:.2f} s; {ended_before} had ended before")
        shared.row("all", tried, wrong_in_all)
        if streaming:
            streaming.close()


if __name__ == "__main__":
    main()
