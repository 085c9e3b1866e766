"""Measures what each layer's quantisation alone costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from tqdm import tqdm

from sp_edge.matching.decide import unit
from sp_edge_calibration.graph import Layer
from sp_edge_calibration.quantize import quantizable, quantize
from sp_edge_calibration.ranges import Range
from sp_edge_calibration.session import Inputs, features_of

PICTURES = 32  # on which it is measured: each layer costs one run over all of them


def sensitivities(
    model: onnx.ModelProto,
    ranges: Mapping[str, Range],
    inputs: Inputs,
    *,
    layers: Callable[[onnx.ModelProto], Sequence[Layer]] = quantizable,
    quantized: Callable[..., onnx.ModelProto] = quantize,
    progress: bool = False,
) -> dict[str, float]:
    """How far the features turn, 1 - mean cosine, where one layer alone is quantised.

    Args:
        model: FP32 graph.
        ranges: of its tensors.
        inputs: of which the first 32 rows are taken.
        layers: that can be quantized.
        quantized: quantizes them, as `quantize` does.

    Returns:
        Layer -> 0 to 2, the most sensitive first.
    """
    few = {name: rows[:PICTURES] for name, rows in inputs.items()}
    exact = unit(features_of(model, few))
    names = [layer.name for layer in layers(model)]
    lost = {}
    for name in tqdm(names, desc="sensitivity", leave=False, disable=not progress or None):
        alone = quantized(model, ranges, skip=[other for other in names if other != name])
        cosine = (unit(features_of(alone, few)) * exact).sum(axis=1).mean(dtype=np.float64)
        lost[name] = float(np.nan_to_num(1 - cosine, nan=2.0))
    return dict(sorted(lost.items(), key=lambda item: -item[1]))
