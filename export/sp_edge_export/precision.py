"""Turns FP32 graphs into FP16 or INT8 ones. Precision stands in the graph itself, as strongly typed TensorRT wants it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from sp_edge_calibration.quantize import quantize_convolutions
from sp_edge_export.half import halve_trunk


def to_fp16(source: Path, target: Path) -> None:
    """FP32 graph -> graph with a half trunk."""
    onnx.save(halve_trunk(onnx.load(source)), target)


def to_int8(source: Path, target: Path, inputs: Mapping[str, NDArray[np.generic]]) -> None:
    """FP32 graph -> graph with quantised convolutions, the rest of its trunk half.

    Args:
        inputs: calibration inputs by name, one row a picture, as the graph takes them.
    """
    quantize_convolutions(source, target, inputs)
    to_fp16(target, target)
