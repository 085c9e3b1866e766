"""A small bundle whose graphs only add a weight: the core tells graphs apart and never runs one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from placeholder import placeholder
from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.manifest import BACKGROUND, GOLDEN, PROMPTS, Manifest, file_entries, write_manifest
from sp_edge.matching.unknown import Calibration
from sp_edge.preprocess import Preprocess
from sp_edge.prompts.table import PromptTable, TextSpec
from sp_edge.tensors import save_tensors

TEXT = TextSpec("toy", "0" * 64, "A photo of {name}", 9.0, 4)
FEATURE_DIM, IMAGE_SIZE = 6, 32

BuildBundle = Callable[..., Path]


def build_bundle(
    folder: Path,
    *,
    graph: bytes = b"graph",
    text: TextSpec = TEXT,
    precisions: tuple[str, ...] = ("fp32",),
    precision: str = "fp32",
    golden: int = 2,
) -> Path:
    """Writes a bundle into `folder`, which may exist already."""
    rng = np.random.default_rng(0)
    (folder / "golden").mkdir(parents=True, exist_ok=True)
    graphs = {}
    for name in precisions:
        suffix = "" if name == "fp32" else f".{name}"
        graphs[name] = {part: f"{part}{suffix}.onnx" for part in ("query", "support")}
        for file in graphs[name].values():
            (folder / file).write_bytes(placeholder(graph + file.encode()))
    vectors = rng.normal(size=(3, text.dim)).astype(np.float32)
    PromptTable(text, ("red fox", "polar bear", "café"), vectors).save(folder / PROMPTS)
    names = [f"golden/{i}.png" for i in range(golden)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)).save(folder / name)
    floats = {"prompts": text.dim, "query": FEATURE_DIM, "support": FEATURE_DIM}
    save_tensors(
        folder / GOLDEN,
        {part: rng.normal(size=(golden, dim)).astype(np.float32) for part, dim in floats.items()},
        {"images": names},
    )
    save_tensors(
        folder / BACKGROUND,
        {
            "mean": np.linspace(-0.2, 0.4, FEATURE_DIM, dtype=np.float32),
            "within": np.eye(FEATURE_DIM, dtype=np.float32) / FEATURE_DIM,
        },
        {},
    )
    manifest = Manifest(
        versions={"sp-edge": "0.0.0"},
        files=file_entries(folder),
        graphs=graphs,
        precision=precision,
        preprocess=Preprocess(IMAGE_SIZE, 1.1),
        feature_dim=FEATURE_DIM,
        text=text,
        calibration=Calibration(-1.0, 2.0, 1.5, 0.25, 0.5, 0.75, 0.1, 0.2),
        mirrored=True,
        strength=0.8,
        training={"source": "scenes", "accuracy": {"test": 0.5}},
        stages=({"stage": "onnx", "cosine": 1.0},),
    )
    write_manifest(folder, manifest)
    return folder


@pytest.fixture(scope="session")
def build() -> BuildBundle:
    """`build(folder, **changes)` writes a bundle."""
    return build_bundle


@pytest.fixture
def bundle_path(tmp_path: Path) -> Path:
    """A bundle of its own for a test that changes it."""
    return build_bundle(tmp_path / "bundle")


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A loaded bundle that nobody changes."""
    return Bundle.load(build_bundle(tmp_path_factory.mktemp("shared") / "bundle"))
