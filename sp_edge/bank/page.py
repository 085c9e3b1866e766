"""Writes a bank as files that a person can look at: pictures in a folder a class, a JSON description, a page."""

from __future__ import annotations

import html
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from sp_edge.bank.bank import Bank
from sp_edge.bank.crops import decode_crop, encode_crop
from sp_edge.bank.heat import heat_picture
from sp_edge.columns import counted
from sp_edge.errors import BankError
from sp_edge.files import write_bytes, write_json
from sp_edge.folders import atomic_folder, holds_earlier
from sp_edge.matching.decide import Floats
from sp_edge.matching.evidence import LEAST, evidence

DESCRIPTION = "bank.json"
PAGE = "index.html"
_OTHERS = (PAGE, "[0-9][0-9][0-9][0-9]*")  # the last are the classes' folders


def describe(bank: Bank) -> dict[str, Any]:
    """What a bank holds, as JSON: its bundle's fingerprint, its version, how pictures become the network's square, its classes.

    A threshold that nobody has set is null: it is calibrated anew when the bank changes. `by_name` marks a class that is
    known by its name alone, without a shot; `not` is the class that a reject is told from, and null of a class.
    """
    counts = np.bincount(bank.owners, minlength=len(bank.names)) * ~bank.by_name
    numbers = zip(
        bank.names, counts.tolist(), bank.thresholds.tolist(), bank.strengths.tolist(), bank.by_name.tolist(), strict=True
    )
    return {
        "kind": "bank",
        "fingerprint": bank.fingerprint,
        "version": bank.version,
        "fit": bank.fit,
        "classes": [
            {
                "name": name,
                "shots": shots,
                "threshold": None if math.isnan(threshold) else threshold,
                "strength": strength,
                "descriptions": list(bank.descriptions.get(name, ())),
                "by_name": by_name,
                "not": bank.rejects.get(name),
            }
            for name, shots, threshold, strength, by_name in numbers
        ],
    }


def export_bank(bank: Bank, folder: Path, heats: Sequence[Floats | None] | None = None) -> None:
    """Writes the shots' pictures as JPEG files into a folder a class, `bank.json`, and `index.html`, which shows them.

    Features and prompts are left out: what is written cannot be made a bank again.

    Args:
        bank: what to write.
        folder: new, empty, or one that this function wrote, which is replaced.
        heats: of each of the bank's shots where its class's name is in it, float32 (h, w), as `Recognizer.heats` gives them;
            a picture beside the shot shows it.

    Raises:
        BankError: the folder holds something else.
    """
    holds_earlier(folder, DESCRIPTION, _OTHERS, BankError, what="an exported bank")
    described = describe(bank)
    with atomic_folder(folder) as temporary:
        for number, entry in enumerate(described["classes"]):
            place = f"{number:04} {_readable(entry['name'])}".strip()
            (temporary / place).mkdir()
            entry["pictures"] = [f"{place}/{shot}.jpg" for shot in range(entry["shots"])]
            entry["looks"] = []
            rows = np.flatnonzero(bank.owners == number).tolist()[: entry["shots"]]
            for shot, row in enumerate(rows):
                (temporary / entry["pictures"][shot]).write_bytes(bank.crops[row])
                heat = None if heats is None else heats[row]
                if heat is not None:
                    look = f"{place}/{shot} name.jpg"
                    (temporary / look).write_bytes(encode_crop(heat_picture(decode_crop(bank.crops[row]), heat)))
                    entry["looks"].append({"picture": look, "evidence": float(evidence(heat))})
        write_json(temporary / DESCRIPTION, described)
        write_bytes(temporary / PAGE, _page(described).encode())


def _readable(name: str) -> str:
    """As much of a class's name as can stand in the name of a folder on any system."""
    plain = re.sub(r'[\\/:*?"<>|\s]+', " ", name)
    return plain.encode()[:80].decode(errors="ignore").strip(" .")


def _shown(picture: str, look: Mapping[str, Any] | None) -> str:
    """A shot, and where its class's name is in it."""
    shot = f'<img src="{quote(picture)}" alt="">'
    if look is None:
        return shot
    heat = f'<img src="{quote(look["picture"])}" alt="where its name is">'
    return f"<figure>{shot}{heat}<figcaption>name: {look['evidence']:.1f}</figcaption></figure>"


def _page(described: dict[str, Any]) -> str:
    sections = []
    for entry in described["classes"]:
        pictures = "".join(_shown(*pair) for pair in itertools.zip_longest(entry["pictures"], entry["looks"]))
        threshold = "calibrated" if entry["threshold"] is None else f"{entry['threshold']:.3f}"
        shots = "known by its name alone" if entry["by_name"] else counted(entry["shots"], "shot")
        numbers = f"{shots}, threshold {threshold}, strength {entry['strength']:.3f}"
        if entry["not"] is not None:
            numbers = f"{shots}: what is nearest to them is unknown"
        said = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in entry["descriptions"])
        sections.append(f"<h2>{html.escape(entry['name'])}</h2>{said}<p>{numbers}</p><div>{pictures}</div>")
    head = (
        '<!doctype html><meta charset="utf-8"><title>Taught classes</title>'
        "<style>body{font-family:sans-serif;margin:2em}img{height:120px;margin:0 4px 4px 0}"
        "h2{margin-bottom:0}p{margin:4px 0}figure{display:inline-block;margin:4px 12px 4px 0}"
        "figcaption{font-size:small}</style>"
    )
    classes = sum(entry["not"] is None for entry in described["classes"])
    classes_told = f"{counted(classes, 'class')}, version {described['version']}, bundle {described['fingerprint'][:12]}"
    told = ""
    if any(entry["looks"] for entry in described["classes"]):
        told = (
            "<p>The picture beside a shot is light where something looks like the name of its class. The number says how much, "
            f"in standard deviations from usual places. Below {LEAST:g}, nothing in the picture looks like the name.</p>"
        )
    return f"{head}<h1>Taught classes</h1><p>{classes_told}</p>{told}{''.join(sections)}\n"
