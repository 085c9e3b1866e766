"""FP32 ONNX and calibration pictures in, ONNX with explicit Q/DQ nodes out, in the form that TensorRT takes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from sp_edge.errors import DataError

MINIMUM_PICTURES = 16
_BATCH = 8


class _Rows(CalibrationDataReader):  # type: ignore[misc]
    """Hands out the inputs in batches."""

    def __init__(self, inputs: Mapping[str, NDArray[np.generic]]) -> None:
        count = len(next(iter(inputs.values())))
        self._batches: Iterator[dict[str, NDArray[np.generic]]] = iter(
            [{name: rows[start : start + _BATCH] for name, rows in inputs.items()} for start in range(0, count, _BATCH)]
        )

    def get_next(self) -> dict[str, NDArray[np.generic]] | None:
        """The next batch, or None."""
        return next(self._batches, None)


def quantize_convolutions(source: Path, target: Path, inputs: Mapping[str, NDArray[np.generic]]) -> None:
    """Quantises every convolution but the stem: weights per channel, activations per tensor, all symmetric.

    The stem, with its few channels, gains nothing; attention's matrix products lose accuracy; both stay in float.

    Args:
        source: FP32 graph.
        target: gets the graph with Q/DQ nodes.
        inputs: calibration inputs by name, n rows each, as the graph takes them.

    Raises:
        DataError: fewer than 16 calibration pictures.
    """
    count = len(next(iter(inputs.values())))
    if count < MINIMUM_PICTURES:
        raise DataError(
            "too few calibration pictures",
            expected=f"at least {MINIMUM_PICTURES}; a hundred or more, like those the camera will see, are better",
            got=str(count),
            next_step="--data FOLDER with more pictures",
        )
    model = onnx.load(source)
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    root = logging.getLogger()
    level = root.level
    try:
        root.setLevel(logging.ERROR)  # quantize_static advises on pre-processing through the root logger
        quantize_static(
            model,
            str(target),
            _Rows(inputs),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=convolutions[:1],
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "AddQDQPairToWeight": True,
                "DedicatedQDQPair": True,
                "OpTypesToExcludeOutputQuantization": ["Conv"],
            },
        )
    finally:
        root.setLevel(level)
