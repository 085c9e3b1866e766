"""Finds the layer at which two stages of an export part, by the tensors inside their graphs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sp_edge.model import PromptedNetwork
from sp_edge_calibration.graph import layers_of, tapped
from sp_edge_calibration.session import Inputs, open_session

Activations = list[tuple[str, NDArray[Any]]]  # name and output, float (n, C, h, w), of each convolution in the order of work


@dataclass(frozen=True)
class LayerError:
    """How far a layer's output is from the stage before.

    Attributes:
        layer: its name.
        error: |ours - theirs| / |theirs| over all pictures; infinite where a value is no number.
        added: by how much more than at the layer before it.
    """

    layer: str
    error: float
    added: float

    def to_json(self) -> dict[str, Any]:
        """As a report records it; JSON has no infinity."""
        return {key: value if isinstance(value, str) or np.isfinite(value) else None for key, value in asdict(self).items()}


def graph_activations(model: onnx.ModelProto, inputs: Inputs) -> Activations:
    """What each convolution of a graph gives.

    Args:
        inputs: by name, a few rows.
    """
    layers = layers_of(model)
    outputs = [layer.output for layer in layers]
    values = open_session(tapped(model, outputs).SerializeToString(), "the graph with its layers", outputs)(inputs)
    return [(layer.name, np.asarray(value, np.float32)) for layer, value in zip(layers, values, strict=True)]


@torch.no_grad()
def network_activations(network: PromptedNetwork, images: NDArray[np.uint8]) -> Activations:
    """What each convolution of a (folded) network gives for query pictures, uint8 (n, H, W, 3) RGB."""
    found: Activations = []

    def keep(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: found.append((name, output.float().numpy().copy()))  # a ReLU may work in place

    convolutions = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    hooks = [module.register_forward_hook(keep(name)) for name, module in convolutions]
    try:
        pixels: Tensor = network.normalise(torch.from_numpy(images))
        network(pixels)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def layer_errors(ours: Activations, theirs: Activations) -> list[LayerError]:
    """Layer by layer, in the order of work; empty where the two have other layers."""
    if [value.shape for _, value in ours] != [value.shape for _, value in theirs]:
        return []
    errors: list[LayerError] = []
    before = 0.0
    for (name, got), (_, expected) in zip(ours, theirs, strict=True):
        with np.errstate(invalid="ignore", over="ignore"):
            difference = np.linalg.norm((got - expected).astype(np.float64))
            error = float(difference / max(float(np.linalg.norm(expected.astype(np.float64))), 1e-12))
        error = error if np.isfinite(error) else np.inf
        errors.append(LayerError(name, error, error - before if np.isfinite(before) else 0.0))
        before = error
    return errors


def worst(errors: list[LayerError]) -> LayerError | None:
    """The layer that adds most; the first one whose values are no numbers, if there is one."""
    return max(errors, key=lambda e: e.added, default=None)
