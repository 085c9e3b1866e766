"""Feeds every reader with generated inputs: each gives a value or an error of ours, reads nothing elsewhere, and stays small.

    python benchmarks/reliability/readers.py --count 1000000

An input is a good one with bytes changed, put in or cut off, or, where it is JSON, with one of its fields replaced by something
that nobody should have written. The bundle's manifest is sealed anew, so that its other checks are reached. An audit hook hears
of every file that is opened meanwhile; one outside of the reader's folder is wrong. So is any exception that is not of
`sp_edge.errors`, and an input that takes more than two seconds.
"""

from __future__ import annotations

import copy
import io
import json
import logging
import os
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import shared
import toy
import toy_plans
from hostile import damaged, paths
from sp_edge.bank.bank import Bank
from sp_edge.bank.crops import decode_crop, encode_crop
from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.manifest import Manifest, seal
from sp_edge.data.tables import read_table
from sp_edge.engines.sidecar import Sidecar
from sp_edge.errors import SpEdgeError
from sp_edge.files import refuse_constant
from sp_edge.pictures import load_image
from sp_edge.prompts.descriptions import read_descriptions
from sp_edge.prompts.familiarity import Familiarity
from sp_edge.prompts.spelling import spelling_key
from sp_edge.prompts.table import PromptTable
from sp_edge.prompts.text_prototype import TextPrototype
from sp_edge.settings.begun import Begun
from sp_edge.settings.settings import Settings
from sp_edge.text.glove import GloVe
from sp_edge.text.vectors import read_vectors
from sp_edge_runtime.page.inference import read_request
from sp_edge_runtime.sinks.publisher import split_address
from sp_edge_runtime.sources.address import redact, redact_within, source_kind
from sp_edge_runtime.sources.testsource import parse_test

SLOW = 2.0
ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**400, 0.5, 1e308, float("nan"), float("inf"), "", " ", "\0",
    "../../etc/passwd", "/etc/passwd", "a" * 5000, "\ud800", "fp32", "query", "unknown", "N", [], [[]], [1, 2], ["a", "b"], {},
    {"": {}}, {"a": 1}, {"sha256": "0" * 64, "bytes": 1},
]  # fmt: skip
Reader = Callable[[bytes], object]


def with_odd_field(value: Any, chance: random.Random) -> Any:
    """JSON with a field replaced, taken out, or doubled."""
    changed = copy.deepcopy(value)
    for _ in range(chance.choice([1, 1, 2])):
        ways = paths(changed)
        if not ways:
            return chance.choice(ODD)
        *front, last = chance.choice(ways)
        inner = changed
        for key in front:
            inner = inner[key]
        what = chance.random()
        if what < 0.7:
            inner[last] = copy.deepcopy(chance.choice(ODD))
        elif what < 0.85:
            del inner[last]
        elif isinstance(inner, list):
            inner.insert(last, copy.deepcopy(inner[last]))
        else:
            inner[f"{last}x"] = inner[last]
    return changed


class Readers:
    """Every reader, with good inputs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        bundle = toy.make_bundle(
            folder / "bundle", text_encoder=True, scored=True, text_prototype=toy.looks_of_names(), familiarity=_familiarity()
        )
        self.bundle = bundle
        manifest = json.loads((bundle / "manifest.json").read_text())
        _bank(Bundle.load(bundle)).save(folder / "good.spbank")
        table = b"n01,train\nn02,val\nn03,test\n"
        words = b"red 0.1 0.2 0.3\nbike 0.4 0.5 0.6\n"
        run = json.dumps({"settings": Settings().to_json(), "init": None}).encode()
        np.savez(folder / "v.npz", red=np.ones(4, np.float32), blue=np.zeros(4, np.float32))
        picture = encode_crop(toy.picture("red"))
        self.all: dict[str, tuple[list[bytes], Reader]] = {
            "manifest.json": ([json.dumps(manifest).encode()], lambda b: Manifest.from_json(_object(b))),
            "a bundle's folder": ([json.dumps(manifest).encode()], self._bundle),
            "sidecar": ([json.dumps(_sidecar()).encode()], lambda b: Sidecar.from_json(_object(b))),
            "bank": ([(folder / "good.spbank").read_bytes()], self._file("x.spbank", Bank.read)),
            "prompt table": ([(bundle / "prompts.safetensors").read_bytes()], lambda b: PromptTable.read(b, "x")),
            "text prototype": ([(bundle / "names.safetensors").read_bytes()], lambda b: TextPrototype.read(b, "x")),
            "familiarity": ([(bundle / "familiarity.safetensors").read_bytes()], lambda b: Familiarity.read(b, "x")),
            "vectors": ([(folder / "v.npz").read_bytes()], self._file("x.npz", read_vectors)),
            "word vectors": ([words], self._file("x.txt", lambda path: GloVe(path).encode(["red bike"]))),
            "descriptions": (
                [b'{"mug": ["a cup", "with a handle"], "key": "it opens"}'],
                self._file("x.json", read_descriptions),
            ),
            "descriptions in TOML": ([b'mug = ["a cup"]\n"door key" = "it opens"\n'], self._file("x.toml", read_descriptions)),
            "split table": ([table, b"class,split\na,train\n"], self._file("x.csv", read_table)),
            "names table": ([b'{"n01": "red fox"}'], self._file("y.json", read_table)),
            "recipe": ([b'seed = 3\n[model]\nimage_size = 64\n[text]\nencoder = "minilm"\n'], self._file("r.toml", _settings)),
            "a run's settings": ([run], self._file("run/settings.json", lambda path: Begun.read(path.parent))),
            "inference request": ([json.dumps(_REQUEST).encode()], lambda b: read_request(b, None)),
            "picture": ([picture, _png()], load_image),
            "a bank's crop": ([picture], decode_crop),
            "address of a source": (_ADDRESSES, _address),
            "address to publish to": ([b"mqtt://user:secret@host:1883/topic/x", b"https://host/path?x=1"], _publish),
            "class name": (["Zürcher Kaffeetasse".encode(), "赤い 自転車".encode()], _name),
        }

    def _file(self, name: str, read: Callable[[Path], object]) -> Reader:
        path = self.folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)

        def reader(content: bytes) -> object:
            path.write_bytes(content)
            return read(path)

        return reader

    def _bundle(self, content: bytes) -> object:
        value = _object(content)
        try:
            value["seal"] = seal(value)
        except (TypeError, ValueError, UnicodeError):
            return None
        (self.bundle / "manifest.json").write_text(json.dumps(value), "utf-8", "surrogatepass")
        return Bundle.load(self.bundle)


_REQUEST = {
    "id": "1",
    "inputs": [{"name": "image", "shape": [1, 2, 2, 3], "datatype": "UINT8", "data": [*range(12)]}],
    "outputs": [{"name": "label", "parameters": {"binary_data": False}}],
}
_ADDRESSES = [
    b"rtsp://user:secret@10.0.0.1:554/Streaming/101?channel=1", b"http://cam/video.mjpg", b"/dev/video0", b"csi://0", b"0",
    b"test://?fail=3&hang=4", b"v4l2:///dev/video2", b"videotestsrc ! videoconvert ! appsink", b"shots/*.jpg", b"2024:05.mp4",
]  # fmt: skip


def _object(content: bytes) -> dict[str, Any]:
    """As `sp_edge.files.read_json` gives it."""
    try:
        value = json.loads(content, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as cause:
        raise SpEdgeError("not JSON") from cause
    return value if isinstance(value, dict) else {}


def _settings(path: Path) -> object:
    return Settings.load(str(path))


def _address(content: bytes) -> object:
    text = content.decode("utf-8", "surrogateescape")
    shown = redact(text)
    if "secret" in shown and "user:secret@" in text:
        raise AssertionError(f"a password is shown: {shown!r}")
    redact_within(f"cannot open {text}", text)
    return parse_test(text) if source_kind(text) == "test" else None


def _publish(content: bytes) -> object:
    return split_address(content.decode("utf-8", "surrogateescape"), ("mqtt", "https"), "mqtt://host/topic")


def _name(content: bytes) -> object:
    return spelling_key(content.decode("utf-8", "surrogateescape"))


def _familiarity() -> Familiarity:
    return Familiarity.of(toy.prompts().vectors)


def _bank(bundle: Bundle) -> Bank:
    bank = Bank.empty(bundle)
    for name in toy.COLOURS:
        images = np.stack([toy.picture(name, seed=seed) for seed in (1, 2)])
        vector = bundle.prompts.vector(name)
        seen, query = toy.features(images, vector), toy.features(images)
        bank = bank.add(name, vector, seen, query, [encode_crop(image) for image in images], description=["a color"])
    return bank.add_reject("red", query, [encode_crop(image) for image in images])


def _sidecar() -> dict[str, Any]:
    return toy_plans.sidecar("0" * 64, "1" * 64).to_json()


def _png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(toy.picture("green")).save(file, "PNG")
    return file.getvalue()


class Outside:
    """Counts files that are opened outside of the allowed folders, while `watching`."""

    def __init__(self, *allowed: str) -> None:
        self._allowed = tuple(map(os.path.realpath, allowed))
        self.watching, self.opened = False, Counter[str]()
        sys.addaudithook(self._heard)

    def _heard(self, event: str, details: tuple[Any, ...]) -> None:
        if self.watching and event == "open" and isinstance(details[0], str | bytes):
            path = os.path.realpath(os.fsdecode(details[0]))
            if not path.startswith(self._allowed):
                self.opened[path] += 1


class Feeding:
    """Feeds readers, and keeps what goes wrong: each fault once, with its input."""

    def __init__(self, chance: random.Random, outside: Outside) -> None:
        self._chance, self._outside = chance, outside
        self.taken = 0

    def __call__(self, seeds: list[bytes], read: Reader, count: int) -> tuple[dict[str, str], float]:
        """What went wrong with a reader, and how long its slowest input took."""
        values = [json.loads(seed) for seed in seeds] if seeds[0][:1] == b"{" else []
        wrong: dict[str, str] = {}
        slowest = 0.0
        for _ in range(count):
            if values and self._chance.random() < 0.7:
                content = json.dumps(with_odd_field(self._chance.choice(values), self._chance)).encode()
            else:
                content = damaged(self._chance.choice(seeds), self._chance.randrange(1 << 40), 4096)
            began = time.monotonic()
            error = self._error(read, content)
            took = time.monotonic() - began
            slowest = max(slowest, took)
            if error is None and took > SLOW:
                error = TimeoutError(f"{took:.1f} s")
            if error is not None:
                last = traceback.extract_tb(error.__traceback__)[-1:]
                at = f"{type(error).__name__} {Path(last[0].filename).name}:{last[0].lineno}" if last else type(error).__name__
                wrong.setdefault(at, f"{at}: {str(error)[:150]}; input {content[:200]!r}")
        return wrong, slowest

    def _error(self, read: Reader, content: bytes) -> Exception | None:
        """What a reader raises that is not of ours."""
        self._outside.watching = True
        try:
            read(content)
            self.taken += 1
        except SpEdgeError:
            pass
        except Exception as error:
            return error
        finally:
            self._outside.watching = False
        return None


SHARES = {"a bundle's folder": 0.02, "picture": 0.2, "bank": 0.6, "recipe": 0.3, "a run's settings": 0.5}  # of the slow ones


def main() -> None:
    options = shared.arguments(__doc__, 100_000)
    warnings.simplefilter("ignore")
    logging.disable()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:  # noqa: S108
        readers = Readers(Path(name))
        for seeds, read in readers.all.values():
            for seed in seeds:
                read(seed)  # imports what it needs, and shows that the good ones are
        outside = Outside(name, sys.prefix, sys.base_prefix, str(Path(__file__).parents[2]))
        feed = Feeding(random.Random(options.seed), outside)
        every: list[str] = []
        tried, before = 0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        weight = sum(SHARES.get(kind, 1.0) for kind in readers.all)
        for kind, (seeds, read) in readers.all.items():
            count = max(1, round(options.count * SHARES.get(kind, 1.0) / weight))
            wrong, slowest = feed(seeds, read, count)
            shared.row(kind, count, list(wrong.values()), f"slowest {1000 * slowest:.0f} ms")
            tried += count
            every += [f"{kind}: {line}" for line in wrong.values()]
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        every += [f"{path} was opened {count} times" for path, count in outside.opened.items()]
        shared.row("all readers", tried, every, f"{feed.taken:,} taken; memory grew by at most {grown:.0f} MiB")


if __name__ == "__main__":
    main()
