"""The paper's network for benchmarks, with random weights: no trained ones come with the project."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from sp_edge.data import scenes
from sp_edge.model import build_network
from sp_edge.prompts.table import PromptTable, TextSpec
from sp_edge.settings.settings import DataSettings, ModelSettings, Settings
from sp_edge.training.checkpoint import Checkpoint

TEXT_DIM = 384


def untrained() -> Checkpoint:
    """visformer_tiny at 224 pixels with random weights; every BatchNorm has the statistics of scenes.

    What each block adds is scaled down by the root of how many add, as GPT-2 starts out: a network that was never trained
    otherwise amplifies rounding so much that float16 does not pass the gate, which says nothing of a trained one.
    """
    torch.manual_seed(0)
    model = ModelSettings("visformer_tiny", 224, layer="3-2")
    network = build_network(model, TEXT_DIM)
    branches = [
        weight for name, weight in network.named_parameters() if name.endswith(("attn.proj.weight", "mlp.conv3.weight"))
    ]
    with torch.no_grad():
        for weight in branches:
            weight.div_(len(branches) ** 0.5)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average over the batches
    drawn = scenes.draw_split("train", size=224, per_class=1).images[:64]
    with torch.no_grad():
        for start in range(0, len(drawn), 16):
            network.train()(network.normalise(torch.from_numpy(drawn[start : start + 16])))
    names = {split: tuple(c.name for c in classes) for split, classes in scenes.split_classes().items()}
    every = tuple(name for members in names.values() for name in members)
    vectors = np.random.default_rng(0).standard_normal((len(every), TEXT_DIM)).astype(np.float32)
    prompts = PromptTable(TextSpec("random", "0", "{name}", 9.0, TEXT_DIM), every, vectors)
    settings = Settings(data=DataSettings("scenes", per_class=2, test_per_class=20), model=model)
    return Checkpoint(network.eval(), settings, prompts, "pretrained", names)
