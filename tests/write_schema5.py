"""Writes tests/core/schema5, the bundle and the bank that every later version must read.

Run it only while schema 5 has not been released; afterwards these files stay as they are, and a later schema gets its own.

    PYTHONPATH=.:runtime:tests python tests/write_schema5.py
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

import toy
from sp_edge.bundle.manifest import BACKGROUND
from sp_edge.prompts.familiarity import Familiarity
from sp_edge.tensors import save_tensors
from sp_edge_runtime.recognizer import Recognizer

FOLDER = Path(__file__).parent / "core" / "schema5"


def main() -> None:
    """Writes the bundle, then teaches three classes."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    bundle = FOLDER / "model.spedge"
    toy.make_bundle(bundle, strength=0.5, text_encoder=True, familiarity=Familiarity.of(toy.prompts().vectors))
    within = np.eye(toy.DIM, dtype=np.float32) / 100
    save_tensors(bundle / BACKGROUND, {"mean": np.zeros(toy.DIM, np.float32), "within": within}, {})
    toy.reseal(bundle)
    with Recognizer.load(bundle, bank=FOLDER / "classes.spbank", device="cpu") as recognizer:
        for name, count in (("red", 2), ("green", 1), ("blue", 1)):
            recognizer.enroll(name, [toy.picture(name, seed=seed) for seed in range(count)])
        recognizer.enroll("unicycle", [toy.picture("blue", seed=5)[::-1] // 2], description="a one-wheeled vehicle")
        recognizer.set_threshold("green", 0.25)
        recognizer.set_strength("blue", 0.125)
    shutil.rmtree(FOLDER / ".classes.spbank.undo")


if __name__ == "__main__":
    main()
