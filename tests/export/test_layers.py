from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sp_edge.bundle.bundle import Bundle
from sp_edge.training.checkpoint import Checkpoint
from sp_edge_calibration.graph import load_graph
from sp_edge_export.fold import fold
from sp_edge_export.layers import LayerError, graph_activations, layer_errors, network_activations, worst


def test_the_graph_and_the_network_have_the_same_layers(
    bundle: Bundle, checkpoint: Checkpoint, images: NDArray[np.uint8]
) -> None:
    few = images[:3].copy()
    ours = graph_activations(load_graph(bundle.graph("query", "fp32")), {"image": few})
    theirs = network_activations(fold(checkpoint.network), few)
    assert [name for name, _ in ours] == [name for name, _ in theirs]
    errors = layer_errors(ours, theirs)
    assert len(errors) == 27
    assert max(error.error for error in errors) < 1e-4
    half = graph_activations(load_graph(bundle.graph("query", "fp16")), {"image": few})
    assert 1e-5 < max(error.error for error in layer_errors(half, ours)) < 0.02


def activations(*values: float) -> list[tuple[str, NDArray[np.float32]]]:
    return [(f"layer {i}", np.array([[value]], np.float32)) for i, value in enumerate(values)]


def test_errors_by_hand() -> None:
    errors = layer_errors(activations(1, 2.2, 4.5), activations(1, 2, 4))
    assert [e.error for e in errors] == pytest.approx([0, 0.1, 0.125], abs=1e-6)
    assert [e.added for e in errors] == pytest.approx([0, 0.1, 0.025], abs=1e-6)
    culprit = worst(errors)
    assert culprit is not None
    assert culprit.layer == "layer 1", "the last one's error is larger, but not its own"


def test_the_first_layer_that_overflows_is_the_worst() -> None:
    culprit = worst(layer_errors(activations(1, np.inf, np.nan, 3), activations(2, 2, 2, 2)))
    assert culprit is not None
    assert culprit.layer == "layer 1"
    assert culprit.to_json() == {"layer": "layer 1", "error": None, "added": None}


def test_other_layers_cannot_be_compared() -> None:
    assert layer_errors(activations(1), activations(1, 2)) == []
    assert worst([]) is None
    assert LayerError("a", 0.5, 0.25).to_json() == {"layer": "a", "error": 0.5, "added": 0.25}
