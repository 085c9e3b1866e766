"""Measures what quantising a graph would cost on a folder of pictures: layer by layer, and class by class."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from sp_edge.matching.decide import row_cosines, unit
from sp_edge_calibration.pictures import Pictures, calibrate_with
from sp_edge_calibration.quantize import quantizable, quantize
from sp_edge_calibration.ranges import FLOAT16_MAX, reach, tensor_ranges
from sp_edge_calibration.sensitivity import PICTURES, sensitivities
from sp_edge_calibration.session import features_of

KIND = "sp-edge calibration report"
SCHEMA = 1
_LEAST = 3  # pictures of a class whose accuracy is measured


@dataclass(frozen=True)
class LayerFigures:
    """A convolution.

    Attributes:
        layer: its name.
        low, high: of what goes in.
        weight: largest absolute value of its weights.
        headroom: how many times larger its input could be before float16 ends.
        cosine_lost: how far features turn, 1 - mean cosine, where this layer alone is quantised.
    """

    layer: str
    low: float
    high: float
    weight: float
    headroom: float
    cosine_lost: float


@dataclass(frozen=True)
class ClassFigures:
    """A class folder: share of its pictures, 0 to 1, that are nearest to the mean of their class's other pictures."""

    name: str
    pictures: int
    fp32: float
    int8: float


@dataclass(frozen=True)
class Report:
    """What was measured, of the query graph, whose layers the support graph shares.

    Attributes:
        calibration: how the pictures were chosen; see `Calibration.record`.
        layers: in the order of work.
        cosine_mean, cosine_min: of features with every layer quantised, against fp32, over the chosen pictures.
        classes: empty where the folder has no class folders.
        sensitivity_pictures: on how many the layers' cost was measured.
    """

    calibration: dict[str, Any]
    layers: tuple[LayerFigures, ...]
    cosine_mean: float
    cosine_min: float
    classes: tuple[ClassFigures, ...]
    sensitivity_pictures: int

    def to_json(self) -> dict[str, Any]:
        """The report's file."""
        return {"kind": KIND, "schema": SCHEMA, **asdict(self)}


def measure(query: onnx.ModelProto, pictures: Pictures, known: NDArray[np.uint8], *, progress: bool = False) -> Report:
    """Calibrates the query graph, quantises all that can be quantised, and measures.

    Args:
        query: FP32 graph.
        pictures: of a folder.
        known: uint8 (n, H, W, 3) RGB pictures that the network is known to be good at.

    Raises:
        DataError: the pictures are not fit for it.
        ExportError: the graph cannot run.
    """
    exact = features_of(query, {"image": pictures.images})
    calibration = calibrate_with(pictures, exact, features_of(query, {"image": known}))
    inputs = {"image": calibration.images}
    ranges = tensor_ranges(query, inputs)
    lost = sensitivities(query, ranges, inputs, progress=progress)
    whole = quantize(query, ranges)
    cosines = row_cosines(features_of(whole, inputs), features_of(query, inputs))
    layers = tuple(
        LayerFigures(
            layer.name,
            *ranges[layer.data],
            weight=float(np.abs(layer.weight).max()),
            headroom=FLOAT16_MAX / max(reach(ranges[layer.data]), 1e-12),
            cosine_lost=lost[layer.name],
        )
        for layer in quantizable(query)
    )
    names, labels = _classes(pictures)
    classes: tuple[ClassFigures, ...] = ()
    if len(names) > 1:
        rows = labels >= 0
        right = [
            leave_one_out(features[rows], labels[rows]) for features in (exact, features_of(whole, {"image": pictures.images}))
        ]
        classes = tuple(
            ClassFigures(name, int(own.sum()), float(right[0][own].mean()), float(right[1][own].mean()))
            for name, own in ((name, labels[rows] == number) for number, name in enumerate(names))
        )
    count = min(PICTURES, len(calibration.images))
    return Report(calibration.record, layers, float(cosines.mean()), float(cosines.min()), classes, count)


def _classes(pictures: Pictures) -> tuple[list[str], NDArray[np.int64]]:
    """Class folders with three pictures or more, and each picture's, -1 for none."""
    places = [file.parent.relative_to(pictures.folder) for file in pictures.files]
    counts = {place: places.count(place) for place in dict.fromkeys(places) if place != Path()}
    known = sorted(place for place, count in counts.items() if count >= _LEAST)
    number = {place: i for i, place in enumerate(known)}
    return [str(place) for place in known], np.array([number.get(place, -1) for place in places], np.int64)


def leave_one_out(features: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each row is nearest to the mean of its own class's other rows, by cosine: bool (n,).

    Args:
        features: float32 (n, D), not normalised.
        labels: int64 (n,), 0 to C - 1, each class with two rows or more.
    """
    sums = np.stack([features[labels == c].sum(axis=0, dtype=np.float64) for c in range(labels.max() + 1)])
    queries = unit(features)
    similar = queries @ unit(sums).T
    rows = np.arange(len(labels))
    similar[rows, labels] = (queries * unit(sums[labels] - features)).sum(axis=1)
    right: NDArray[np.bool_] = similar.argmax(axis=1) == labels
    return right
