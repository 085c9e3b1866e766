"""A small checkpoint that nobody trained, and the bundle exported from it."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import toy
from sp_edge.bundle.bundle import Bundle
from sp_edge.data import scenes
from sp_edge.model import PromptedNetwork, build_network
from sp_edge.prompts.table import PromptTable, TextSpec
from sp_edge.settings.settings import DataSettings, ModelSettings, Settings
from sp_edge.training.checkpoint import Checkpoint
from sp_edge_export import export as export_module
from sp_edge_export.export import ExportOptions, export
from sp_edge_runtime.recognizer import Recognizer

TEXT = TextSpec("toy", "0", "A photo of {name}", 9.0, 16)
MODEL = ModelSettings("visformer_mini", 64, layer="3-1")

BuildNetwork = Callable[..., PromptedNetwork]


def build(*, settled: bool = False, **changes: Any) -> PromptedNetwork:
    """A network in eval mode whose every weight and BatchNorm statistic is far from its fresh value, always the same.

    `settled`: with statistics of what the weights really give; without them, rounding grows with the depth of a network.
    """
    torch.manual_seed(0)
    network = build_network(dataclasses.replace(MODEL, **changes), TEXT.dim)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.7, 1.2)
                module.bias.normal_(0, 0.1)
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.8, 2)
            elif isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                module.bias.normal_(0, 0.1)
        if network.prompt is not None:
            for parameter in network.prompt.parameters():
                parameter.normal_(0, 0.1)
        if network.text_prototype is not None:
            network.text_prototype.weight.normal_(0, 0.1)
            network.text_share = float(changes["text_share"])
        if settled:
            _settle(network, int(changes.get("image_size", MODEL.image_size)))
    return network.eval()


def _settle(network: PromptedNetwork, side: int) -> None:
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    network.train()(torch.randn(16, 3, side, side))
    for norm in norms:
        norm.momentum = 0.1


def prompts() -> PromptTable:
    """A vector for each of the scenes' names that owes nothing to a text encoder."""
    names = tuple(c.name for classes in scenes.split_classes().values() for c in classes)
    vectors = np.random.default_rng(0).normal(size=(len(names), TEXT.dim))
    return PromptTable(TEXT, names, (vectors * TEXT.norm / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))


def make_checkpoint(**changes: str) -> Checkpoint:
    model = dataclasses.replace(MODEL, **changes)
    settings = Settings(data=DataSettings("scenes", per_class=2, test_per_class=2), model=model)
    classes = {split: tuple(c.name for c in members) for split, members in scenes.split_classes().items()}
    return Checkpoint(build(**changes), settings, prompts(), "tuned", classes, {"note": "never trained"})


@pytest.fixture(scope="session")
def build_small() -> BuildNetwork:
    """`build_small(interaction='spatial')` is a network."""
    return build


@pytest.fixture(scope="session")
def checkpoint() -> Checkpoint:
    """Not to be changed."""
    return make_checkpoint()


@pytest.fixture(scope="session")
def images() -> NDArray[np.uint8]:
    """24 scenes: uint8 (24, 64, 64, 3) RGB; not to be changed."""
    drawn = scenes.draw_split("val", size=64, per_class=1, groups=("clutter",)).images[:24]
    drawn.flags.writeable = False
    return drawn


@pytest.fixture(scope="session")
def bundle(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The checkpoint exported in fp16, for real; not to be changed."""
    # An untrained network guesses: its accuracy on a handful of pictures moves by chance with the last bit of a feature.
    options = ExportOptions("fp16", max_drop=1)
    return export(checkpoint, tmp_path_factory.mktemp("export") / "model.spedge", options)


@pytest.fixture
def own_bundle(bundle: Bundle, tmp_path: Path) -> Path:
    """A copy of the bundle for a test that changes it."""
    return Path(shutil.copytree(bundle.path, tmp_path / "copy.spedge"))


@pytest.fixture
def traced(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `export` take the graphs of `bundle`, which tracing the same network anew would take half a minute to make."""

    def copy(_network: object, image_size: int, prompt_dim: int, folder: Path, *, opset: int) -> dict[str, Path]:
        assert opset == 20
        assert (image_size, prompt_dim) == (64, TEXT.dim)
        return {g: Path(shutil.copy(bundle.graph(g, "fp32"), folder / f"{g}.onnx")) for g in ("query", "support")}

    monkeypatch.setattr(export_module, "export_graphs", copy)
    monkeypatch.setattr(export_module, "has_norms_before", lambda _network: False)


@pytest.fixture
def recognizer(toy_bundle: Path) -> Recognizer:
    """The toy bundle, taught red and green."""
    recognizer = Recognizer.load(toy_bundle, device="cpu")
    for name in ("red", "green"):
        recognizer.enroll(name, [toy.picture(name)])
    return recognizer
