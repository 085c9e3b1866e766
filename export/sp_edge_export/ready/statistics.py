"""What features of a ready-made network are like on photographs: measured, or read from a file that a command wrote."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sp_edge.data.episodes import Features
from sp_edge.data.pictures import PictureSet
from sp_edge.errors import DataError
from sp_edge.matching.metric import Background
from sp_edge.matching.unknown import Calibration
from sp_edge.model import PromptedNetwork, PromptedPlaces
from sp_edge.model.places import RANK, low_rank
from sp_edge.settings.settings import ModelSettings
from sp_edge.tensors import read_tensors, save_tensors
from sp_edge.training.places import PlaceMoments
from sp_edge_export.background import background_of_features

KIND = "ready statistics"
_DATA = resources.files("sp_edge_export.ready") / "data"
_BATCH = 16
# Of a network for which nothing better was measured; see `ModelSettings`.
USUAL = {"prompt_strength": 0.9, "text_share": 0.2}
_SETTINGS = ("prompt_strength", "text_share", "place_evidence", "place_threshold", "place_softness", "place_floor")

Matrix = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Statistics:
    """Of a network's plain features, and of the places of its feature map, over many photographs.

    Attributes:
        background: mean and covariance within classes of features of length one.
        length: mean length of a raw feature.
        patch_mean: float32 (D,), of places.
        patch_covariance: float32 (D, D), likewise.
        origin: of the photographs, in words.
        settings: of `ModelSettings`, name -> value, as they serve the network best.
        calibration: None where it is still to be fitted.
    """

    background: Background
    length: float
    patch_mean: Matrix
    patch_covariance: Matrix
    origin: str
    settings: Mapping[str, float]
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        unknown = set(self.settings) - set(_SETTINGS)
        if unknown:
            raise DataError("no such setting of a ready-made network", expected=", ".join(_SETTINGS), got=", ".join(unknown))

    @property
    def reach(self) -> float:
        """How far a feature of length one lies from their mean: the root of the mean square."""
        mean = self.background.mean.astype(np.float64)
        return float(max(1 - float(mean @ mean), 1e-6) ** 0.5)

    def model(self, settings: ModelSettings) -> ModelSettings:
        """The settings with those that were measured."""
        changes: dict[str, Any] = dict(self.settings)
        return dataclasses.replace(settings, **changes)

    def save(self, path: Path, weights_sha256: str) -> None:
        """Writes one safetensors file, atomically: covariances by their 64 largest variances in half precision.

        Raises:
            DataError: there is no calibration.
        """
        if self.calibration is None:
            raise DataError("the statistics are not complete", expected="a calibration")
        tensors: dict[str, NDArray[Any]] = {"mean": self.background.mean, "patch_mean": self.patch_mean}
        rest = {}
        for name, covariance in (("within", self.background.within), ("patch", self.patch_covariance)):
            factor, rest[name] = low_rank(covariance, RANK)
            tensors[f"{name}_factor"] = factor.astype(np.float16)
        described = {
            "kind": KIND,
            "weights": weights_sha256,
            "origin": self.origin,
            "length": self.length,
            "rest": rest,
            "settings": dict(self.settings),
            "calibration": self.calibration.to_json(),
        }
        save_tensors(path, tensors, described)

    @classmethod
    def shipped(cls, model: str, weights_sha256: str) -> Statistics | None:
        """Those that come with sp-edge for these weights, by their file's sha256; None where there are none."""
        file = _DATA / f"{model.replace('/', '-')}.safetensors"
        if not file.is_file():
            return None
        tensors, described = read_tensors(file.read_bytes(), file.name, DataError)
        if described.get("kind") != KIND or described.get("weights") != weights_sha256:
            return None
        rest = described["rest"]
        within, patches = (full(tensors[f"{name}_factor"], float(rest[name])) for name in ("within", "patch"))
        return cls(
            Background(tensors["mean"], within),
            float(described["length"]),
            tensors["patch_mean"],
            patches,
            str(described["origin"]),
            {name: float(value) for name, value in described["settings"].items()},
            Calibration.from_json(described["calibration"]),
        )


@torch.no_grad()
def measure(network: PromptedNetwork, pictures: PictureSet, origin: str, settings: Mapping[str, float]) -> Statistics:
    """Of a network with a feature map (`PromptedPlaces`), or of any other, whose places then are its features.

    Raises:
        ExportError: no class has two pictures.
    """
    features, moments = [], PlaceMoments()
    for start in range(0, len(pictures), _BATCH):
        tokens = network.begin(network.normalise(torch.from_numpy(pictures.images[start : start + _BATCH])))
        plain = network.finish(tokens)
        features.append(plain)
        places = network.places(tokens) if isinstance(network, PromptedPlaces) else plain[:, :, None, None]
        moments.add(places)
    patch_mean, covariance = moments.result()
    found = torch.cat(features).numpy()
    return Statistics(
        background_of_features(Features(found, found), pictures.labels),
        float(np.linalg.norm(found, axis=1).mean()),
        patch_mean.astype(np.float32),
        covariance.astype(np.float32),
        origin,
        settings,
    )


def full(factor: NDArray[np.float16], rest: float) -> Matrix:
    """V' V + r I, float32 (D, D)."""
    wide = factor.astype(np.float64)
    return np.asarray(wide.T @ wide + rest * np.eye(wide.shape[1]), np.float32)
